//! Keys and certificates of an API server and of those that talk to it, from one authority of the test's own.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::parts;
use crate::process::run;

/// A certificate authority. Everything it makes is in one folder, as `NAME.key` and `NAME.crt`.
pub(crate) struct Authority {
    folder: PathBuf,
}

impl Authority {
    /// Makes the authority (`ca`) and the key pair that signs tokens of ServiceAccounts (`service-accounts`).
    #[track_caller]
    pub(crate) fn new(folder: PathBuf) -> Self {
        std::fs::create_dir_all(&folder).expect("a folder for keys");
        let authority = Self { folder };
        authority.openssl(&format!(
            "req -x509 {NEW_KEY} -days 30 -keyout ca.key -out ca.crt -subj /CN=penstock-e2e"
        ));
        authority.openssl("ecparam -name prime256v1 -genkey -noout -out service-accounts.key");
        authority.openssl("ec -in service-accounts.key -pubout -out service-accounts.pub");
        authority
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Issues a certificate for clients and for servers. `names` are alternative names as OpenSSL writes them
    /// (`DNS:localhost`, `IP:127.0.0.1`).
    #[track_caller]
    pub(crate) fn issue(&self, name: &str, subject: &str, names: &[&str]) {
        let mut extensions = "extendedKeyUsage=clientAuth,serverAuth\n".to_owned();
        if !names.is_empty() {
            extensions.push_str(&format!("subjectAltName={}\n", names.join(",")));
        }
        std::fs::write(self.folder.join(format!("{name}.ext")), extensions).expect("an extension file");
        self.openssl(&format!("req {NEW_KEY} -keyout {name}.key -out {name}.csr -subj {subject}"));
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -out {name}.crt \
             -extfile {name}.ext"
        ));
    }

    #[track_caller]
    fn openssl(&self, arguments: &str) {
        run(Command::new(parts::program("openssl")).args(arguments.split(' ')).current_dir(&self.folder));
    }
}

const NEW_KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
