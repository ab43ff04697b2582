//! Container images without Docker and without a base image: one program, the shared objects it needs, certificates.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::process::run;
use crate::{folder, parts};

/// The user and group of every image: no root, and not a user of the host.
pub const USER: u32 = 65532;

/// Certificate authorities of the public internet, as Debian's `ca-certificates` has them.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// An image of one layer.
#[derive(Clone, Debug, Default)]
pub struct Image {
    files: BTreeMap<String, File>,
    entrypoint: Vec<String>,
    command: Vec<String>,
    environment: Vec<String>,
}

#[derive(Clone, Debug)]
enum File {
    Program(Vec<u8>),
    Data(Vec<u8>),
    Link(String),
}

impl Image {
    /// A program of this workspace: stripped, with the shared objects that it is linked to at the paths where the
    /// loader looks for them, and certificates.
    ///
    /// # Panics
    /// When the program or one of its shared objects is missing.
    #[track_caller]
    pub fn of_program(program: &Path) -> Self {
        let name = program.file_name().expect("a file name").to_string_lossy().into_owned();
        let folder = folder::fresh("image-");
        let stripped = folder.path().join(&name);
        run(Command::new(parts::program("strip")).arg("-o").arg(&stripped).arg(program));
        let mut image = Self::default();
        image.add_program(&format!("/bin/{name}"), &stripped);
        for object in shared_objects(program) {
            image.add_program(&object.to_string_lossy(), &object);
        }
        image.files.insert(CERTIFICATES.to_owned(), File::Data(read(Path::new(CERTIFICATES))));
        // OpenSSL looks in a folder that only its Debian package makes.
        image.environment = vec![format!("SSL_CERT_FILE={CERTIFICATES}")];
        image.entrypoint = vec![format!("/bin/{name}")];
        image
    }

    /// Debian's static busybox under the names of all its applets: a shell and `wget`, `nc`, `nslookup` for pods of
    /// tests. (Debian 12's `wget` crashes when it is given `-T`, and its `nc` has no `-z`.)
    #[track_caller]
    pub fn busybox() -> Self {
        let program = parts::program("busybox");
        let mut image = Self::default();
        image.add_program("/bin/busybox", &program);
        for applet in run(Command::new(&program).arg("--list")).lines().filter(|name| *name != "busybox") {
            image.files.insert(format!("/bin/{applet}"), File::Link("busybox".to_owned()));
        }
        image.command = vec!["/bin/sh".to_owned()];
        image
    }

    /// What holds the namespaces of a pod: see [`build_pause`].
    #[track_caller]
    pub(crate) fn pause(program: &Path) -> Self {
        let mut image = Self::default();
        image.add_program("/bin/pause", program);
        image.entrypoint = vec!["/bin/pause".to_owned()];
        image
    }

    /// Size of what the image unpacks to, in bytes.
    pub fn bytes(&self) -> u64 {
        let length = |file: &File| match file {
            File::Program(bytes) | File::Data(bytes) => bytes.len(),
            File::Link(_) => 0,
        };
        self.files.values().map(length).sum::<usize>() as u64
    }

    /// Absolute paths of its files.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// Writes an OCI image layout as one tar file, which `ctr images import`, `podman load` and `kind load
    /// image-archive` take. The same content gives the same bytes.
    #[track_caller]
    pub fn write(&self, name: &str, file: &Path) {
        let mut blobs = BTreeMap::new();
        let layer = self.layer();
        let diff = digest(&layer);
        let layer = blob(&mut blobs, "application/vnd.oci.image.layer.v1.tar", layer);
        let environment = [&["PATH=/bin".to_owned()], &self.environment[..]].concat();
        let config = json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {
                "Entrypoint": self.entrypoint,
                "Cmd": self.command,
                "User": format!("{USER}:{USER}"),
                "Env": environment,
            },
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{diff}")]},
        });
        let config = blob(&mut blobs, "application/vnd.oci.image.config.v1+json", bytes(&config));
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config,
            "layers": [layer],
        });
        let mut manifest = blob(&mut blobs, MANIFEST, bytes(&manifest));
        let tag = name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
        manifest["annotations"] =
            json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag});
        let index = json!({"schemaVersion": 2, "manifests": [manifest]});
        let mut archive = Archive::default();
        archive.file("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#);
        archive.file("index.json", 0o644, &bytes(&index));
        for (digest, content) in &blobs {
            archive.file(&format!("blobs/sha256/{digest}"), 0o644, content);
        }
        std::fs::write(file, archive.end()).expect("a file for the image");
    }

    fn layer(&self) -> Vec<u8> {
        let mut archive = Archive::default();
        for (path, file) in &self.files {
            let path = path.trim_start_matches('/');
            match file {
                File::Program(content) => archive.file(path, 0o755, content),
                File::Data(content) => archive.file(path, 0o644, content),
                File::Link(target) => archive.link(path, target),
            }
        }
        archive.end()
    }

    #[track_caller]
    fn add_program(&mut self, path: &str, file: &Path) {
        self.files.insert(path.to_owned(), File::Program(read(file)));
    }
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Compiles the program that does nothing until it is told to end, and leaves no zombies: the first process of a pod,
/// and of a cluster.
#[track_caller]
pub(crate) fn build_pause(folder: &Path) -> PathBuf {
    const SOURCE: &str = "#include <signal.h>
#include <unistd.h>
static void end(int signal) { (void)signal; _exit(0); }
int main(void) {
  signal(SIGTERM, end);
  signal(SIGINT, end);
  signal(SIGCHLD, SIG_IGN);
  for (;;) pause();
}
";
    let (source, program) = (folder.join("pause.c"), folder.join("pause"));
    std::fs::write(&source, SOURCE).expect("a source file");
    run(Command::new(parts::program("gcc")).args(["-static", "-Os", "-s", "-o"]).arg(&program).arg(&source));
    program
}

/// Paths of the shared objects that a program is linked to, the loader included.
#[track_caller]
fn shared_objects(program: &Path) -> Vec<PathBuf> {
    let text = run(Command::new(parts::program("ldd")).arg(program));
    text.lines()
        .filter_map(|line| {
            let line = line.trim();
            assert!(!line.ends_with("not found"), "{}: {line}", program.display());
            // `libz.so.1 => /lib/…/libz.so.1 (0x…)`, `/lib64/ld-linux-x86-64.so.2 (0x…)`, and the kernel's own
            // `linux-vdso.so.1 (0x…)`, which is no file.
            let found = line.rsplit("=> ").next()?.split(" (").next()?;
            found.starts_with('/').then(|| PathBuf::from(found))
        })
        .collect()
}

/// A tar file in memory that says nothing of the machine or the time.
#[derive(Default)]
struct Archive {
    tar: Option<tar::Builder<Vec<u8>>>,
    folders: BTreeSet<PathBuf>,
}

impl Archive {
    fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        let header = header(tar::EntryType::Regular, mode, content.len() as u64);
        self.append(path, header, content);
    }

    fn link(&mut self, path: &str, target: &str) {
        let mut header = header(tar::EntryType::Symlink, 0o777, 0);
        header.set_link_name(target).expect("a short target");
        self.append(path, header, &[]);
    }

    fn append(&mut self, path: &str, mut header: tar::Header, content: &[u8]) {
        let mut parents: Vec<_> = Path::new(path).ancestors().skip(1).collect();
        parents.reverse();
        for parent in parents.into_iter().filter(|parent| !parent.as_os_str().is_empty()) {
            if self.folders.insert(parent.to_owned()) {
                let mut header = header_of_folder();
                self.tar().append_data(&mut header, parent, std::io::empty()).expect("room in memory");
            }
        }
        self.tar().append_data(&mut header, path, content).expect("room in memory");
    }

    fn tar(&mut self) -> &mut tar::Builder<Vec<u8>> {
        self.tar.get_or_insert_with(|| tar::Builder::new(Vec::new()))
    }

    fn end(mut self) -> Vec<u8> {
        self.tar();
        self.tar.take().expect("it is there").into_inner().expect("room in memory")
    }
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn header_of_folder() -> tar::Header {
    header(tar::EntryType::Directory, 0o755, 0)
}

/// Adds a blob and returns its descriptor.
fn blob(blobs: &mut BTreeMap<String, Vec<u8>>, media_type: &str, content: Vec<u8>) -> Value {
    let digest = digest(&content);
    let descriptor =
        json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": content.len()});
    blobs.insert(digest, content);
    descriptor
}

fn digest(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

#[track_caller]
fn read(file: &Path) -> Vec<u8> {
    std::fs::read(file).unwrap_or_else(|error| panic!("cannot read {}: {error}", file.display()))
}

/// The name that images have for this machine's processor.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
