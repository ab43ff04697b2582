//! Keys and certificates, from authorities of the test's own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

use crate::process::run;
use crate::{folder, parts};

/// A certificate authority. Everything it makes is in one folder, as `NAME.key` and `NAME.crt`.
pub struct Authority {
    folder: PathBuf,
    _own: Option<TempDir>,
}

impl Authority {
    /// Makes an authority (`ca`) in a folder of its own.
    #[track_caller]
    pub fn fresh() -> Self {
        let own = folder::fresh("keys-");
        // No two have one name: a certificate would be taken for one of the other's, with a wrong signature.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("penstock-e2e-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        Self { folder: Self::bare(own.path().to_owned(), &name).folder, _own: Some(own) }
    }

    /// Makes the authority (`ca`) and the key pair that signs tokens of ServiceAccounts (`service-accounts`).
    #[track_caller]
    pub(crate) fn new(folder: PathBuf) -> Self {
        let authority = Self::bare(folder, "penstock-e2e");
        authority.openssl("ecparam -name prime256v1 -genkey -noout -out service-accounts.key");
        authority.openssl("ec -in service-accounts.key -pubout -out service-accounts.pub");
        authority
    }

    #[track_caller]
    fn bare(folder: PathBuf, name: &str) -> Self {
        std::fs::create_dir_all(&folder).expect("a folder for keys");
        let authority = Self { folder, _own: None };
        authority
            .openssl(&format!("req -x509 {NEW_KEY} -days 30 -keyout ca.key -out ca.crt -subj /CN={name}"));
        authority
    }

    /// Where everything is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Path of a file, as `ca.crt`.
    pub fn path(&self, file: &str) -> String {
        self.folder.join(file).display().to_string()
    }

    /// Contents of a file.
    #[track_caller]
    pub fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.folder.join(file)).expect("a file that was made")
    }

    /// Issues a certificate for clients and for servers. `names` are alternative names as OpenSSL writes them
    /// (`DNS:localhost`, `IP:127.0.0.1`).
    #[track_caller]
    pub fn issue(&self, name: &str, subject: &str, names: &[&str]) {
        self.issue_for(30, name, subject, names);
    }

    /// As [`Authority::issue`], for so many days; one for 0 days has expired a second later.
    #[track_caller]
    pub fn issue_for(&self, days: u32, name: &str, subject: &str, names: &[&str]) {
        let mut extensions = "extendedKeyUsage=clientAuth,serverAuth\n".to_owned();
        if !names.is_empty() {
            extensions.push_str(&format!("subjectAltName={}\n", names.join(",")));
        }
        std::fs::write(self.folder.join(format!("{name}.ext")), extensions).expect("an extension file");
        self.openssl(&format!("req {NEW_KEY} -keyout {name}.key -out {name}.csr -subj {subject}"));
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days {days} -out {name}.crt \
             -extfile {name}.ext"
        ));
    }

    #[track_caller]
    fn openssl(&self, arguments: &str) {
        run(Command::new(parts::program("openssl")).args(arguments.split(' ')).current_dir(&self.folder));
    }
}

const NEW_KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
