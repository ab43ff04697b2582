//! Redis as Debian has it: one server, a primary with a replica and three Sentinels, or a cluster of three. What is kept
//! lives in memory only, unless a test asks for a log.

mod server;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use tempfile::TempDir;

pub use self::server::Server;
use self::server::{Access, Plan, Site};
use crate::pki::Authority;
use crate::place::Place;
use crate::until::{SOON, START, until};
use crate::{Balancer, folder, ports};

/// The name by which Sentinels know the primary.
const PRIMARY: &str = "sessions";
/// Hash slots of a cluster.
const SLOTS: u16 = 16_384;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Standalone,
    Sentinels,
    Cluster,
}

/// What to start; ends in [`Builder::start`].
pub struct Builder {
    kind: Kind,
    user: Option<(String, String)>,
    tls: bool,
    settings: Vec<(String, String)>,
    roads: Vec<Arc<Balancer>>,
    site: Site,
}

/// Running servers.
pub struct Redis {
    kind: Kind,
    servers: Vec<Server>,
    sentinels: Vec<Server>,
    access: Access,
    // Last: the processes above are killed before their folders go.
    folder: TempDir,
}

impl Redis {
    /// One server.
    pub fn standalone() -> Builder {
        let site = Site { place: Place::here(), address: "127.0.0.1".to_owned() };
        Builder {
            kind: Kind::Standalone,
            user: None,
            tls: false,
            settings: Vec::new(),
            roads: Vec::new(),
            site,
        }
    }

    /// A primary, a replica, and three Sentinels that put the replica in its place a second after its death.
    pub fn sentinels() -> Builder {
        Builder { kind: Kind::Sentinels, ..Self::standalone() }
    }

    /// A cluster of three servers.
    pub fn cluster() -> Builder {
        Builder { kind: Kind::Cluster, ..Self::standalone() }
    }

    /// A server, counted from 0; at the start the first is the primary.
    pub fn server(&self, index: usize) -> &Server {
        &self.servers[index]
    }

    /// All servers.
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// All Sentinels.
    pub fn watchers(&self) -> &[Server] {
        &self.sentinels
    }

    /// The server that takes writes now.
    #[track_caller]
    pub fn primary(&self) -> &Server {
        let port = match self.kind {
            Kind::Sentinels => until("Sentinels tell the primary", SOON, || {
                self.sentinels.iter().find_map(|sentinel| sentinel.primary(PRIMARY))
            }),
            _ => self.servers[0].announced(),
        };
        self.servers.iter().find(|server| server.announced() == port).expect("the primary is one of ours")
    }

    /// Waits until another server than `old` is the primary.
    #[track_caller]
    pub fn wait_for_failover(&self, old: &Server) {
        until("another primary", START, || {
            let told = self
                .sentinels
                .iter()
                .all(|sentinel| sentinel.primary(PRIMARY).is_some_and(|port| port != old.announced()));
            (told && self.primary().cli(&["ROLE"]).starts_with("master")).then_some(())
        });
    }

    /// Forgets everything, on every server.
    #[track_caller]
    pub fn flush_all(&self) {
        match self.kind {
            Kind::Sentinels => drop(self.primary().cli(&["FLUSHALL"])),
            _ => self.servers.iter().for_each(|server| drop(server.cli(&["FLUSHALL"]))),
        }
    }

    /// How often clients and scripts called each command since the start, over all servers.
    #[track_caller]
    pub fn commands(&self) -> BTreeMap<String, u64> {
        let mut calls = BTreeMap::new();
        for server in &self.servers {
            for line in server.cli(&["INFO", "commandstats"]).lines() {
                let Some((name, rest)) =
                    line.strip_prefix("cmdstat_").and_then(|line| line.split_once(":calls="))
                else {
                    continue;
                };
                let count = rest.split(',').next().and_then(|count| count.trim().parse::<u64>().ok());
                *calls.entry(name.to_owned()).or_default() += count.expect("a number of calls");
            }
        }
        calls
    }

    /// `spec.sessions` of a pipeline whose pods keep their sessions here; its references are in
    /// [`Redis::references`].
    pub fn spec(&self) -> Value {
        let host = &self.access.site.address;
        let addresses = |servers: &[Server]| -> Vec<String> {
            servers.iter().map(|server| format!("{host}:{}", server.port())).collect()
        };
        let mut redis = match self.kind {
            Kind::Standalone => {
                let scheme = if self.access.tls.is_some() { "rediss" } else { "redis" };
                json!({"url": format!("{scheme}://{host}:{}", self.servers[0].port())})
            }
            Kind::Sentinels => {
                json!({"sentinel": {"addresses": addresses(&self.sentinels), "primaryName": PRIMARY}})
            }
            Kind::Cluster => json!({"cluster": {"addresses": addresses(&self.servers)}}),
        };
        if let Some((name, _)) = &self.access.user {
            redis["username"] = json!(name);
            redis["passwordSecret"] = json!({"name": "sessions"});
            if self.kind == Kind::Sentinels {
                redis["sentinel"]["username"] = json!(name);
                redis["sentinel"]["passwordSecret"] = json!({"name": "sessions"});
            }
        }
        if self.access.tls.is_some() {
            redis["tls"] = json!({"ca": {"name": "redis-ca"}});
        }
        json!({"redis": redis})
    }

    /// The files that [`Redis::spec`] refers to: their paths below a folder of references, and what is in them.
    #[track_caller]
    pub fn reference_files(&self) -> Vec<(&'static str, String)> {
        let mut files = Vec::new();
        if let Some((_, password)) = &self.access.user {
            files.push(("secrets/sessions/password", format!("{password}\n")));
        }
        if let Some(pki) = &self.access.tls {
            let certificate = std::fs::read_to_string(pki.join("ca.crt")).expect("a certificate");
            files.push(("secrets/redis-ca/ca.crt", certificate));
        }
        files
    }

    /// A folder with these files.
    #[track_caller]
    pub fn references(&self) -> PathBuf {
        let folder = self.folder.path().join("references");
        for (path, text) in self.reference_files() {
            let file = folder.join(path);
            std::fs::create_dir_all(file.parent().expect("a folder")).expect("a folder for references");
            std::fs::write(file, text).expect("a reference");
        }
        folder
    }
}

impl Builder {
    /// Lets clients in as this ACL user only, who may do to keys and channels below `penstock:` what a sidecar needs.
    #[must_use]
    pub fn user(mut self, name: &str, password: &str) -> Self {
        self.user = Some((name.to_owned(), password.to_owned()));
        self
    }

    /// TLS everywhere, with certificates of an authority of its own, for 127.0.0.1.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Keeps every write on disk before it is answered, so that a killed server forgets nothing.
    #[must_use]
    pub fn persistent(self) -> Self {
        self.set("appendonly", "yes").set("appendfsync", "always")
    }

    /// Primary and replica are reached by these roads, by everybody but the harness: Sentinels tell of no other way.
    #[must_use]
    pub fn roads(mut self, roads: &[Arc<Balancer>]) -> Self {
        self.roads = roads.to_vec();
        self
    }

    /// Any setting of the servers.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl ToString) -> Self {
        self.settings.push((key.to_owned(), value.to_string()));
        self
    }

    /// Runs the servers elsewhere, at an address there.
    #[must_use]
    pub(crate) fn within(mut self, place: &Place, address: &str) -> Self {
        self.site = Site { place: place.clone(), address: address.to_owned() };
        self
    }

    /// Starts the servers and waits until they serve.
    #[track_caller]
    pub fn start(self) -> Redis {
        let folder = folder::fresh("redis-");
        let tls = self.tls.then(|| {
            let authority = Authority::new(folder.path().join("pki"));
            authority.issue("redis", "/CN=redis", &["IP:127.0.0.1", "DNS:localhost"]);
            authority.folder().to_owned()
        });
        let access = Access { user: self.user, tls, site: self.site };
        let count = match self.kind {
            Kind::Standalone => 1,
            Kind::Sentinels => 2,
            Kind::Cluster => 3,
        };
        let mut servers: Vec<Server> = Vec::new();
        for index in 0..count {
            let mut settings = self.settings.clone();
            let mut set = |key: &str, value: String| settings.push((key.to_owned(), value));
            if self.kind == Kind::Cluster {
                set("cluster-enabled", "yes".to_owned());
                set("cluster-port", ports::free().to_string());
                set("cluster-node-timeout", "2000".to_owned());
            }
            if let (Kind::Sentinels, Some(primary)) = (self.kind, servers.first()) {
                set("replicaof", format!("{} {}", access.site.address, primary.announced()));
            }
            let road = self.roads.get(index).cloned();
            let plan = Plan { name: format!("redis-{index}"), sentinel: false, settings, road };
            servers.push(Server::start(folder.path(), &access, plan));
        }
        let mut redis = Redis { kind: self.kind, servers, sentinels: Vec::new(), access, folder };
        match self.kind {
            Kind::Standalone => {}
            Kind::Sentinels => redis.watch(),
            Kind::Cluster => redis.join(),
        }
        redis
    }
}

impl Redis {
    /// Starts the Sentinels, and waits until they know each other and the replica.
    #[track_caller]
    fn watch(&mut self) {
        let replica = &self.servers[1];
        until("the replica follows", START, || {
            replica.cli(&["INFO", "replication"]).contains("master_link_status:up").then_some(())
        });
        let (address, port) = (&self.access.site.address, self.servers[0].announced());
        for index in 0..3 {
            let mut settings = vec![("sentinel monitor".to_owned(), format!("{PRIMARY} {address} {port} 2"))];
            for (key, value) in [
                ("sentinel down-after-milliseconds", "1000"),
                ("sentinel failover-timeout", "5000"),
                ("sentinel parallel-syncs", "1"),
            ] {
                settings.push((key.to_owned(), format!("{PRIMARY} {value}")));
            }
            if self.access.user.is_some() {
                let password = format!("{PRIMARY} {}", server::ADMIN_PASSWORD);
                settings.push(("sentinel auth-pass".to_owned(), password));
                settings.push(("sentinel sentinel-pass".to_owned(), server::ADMIN_PASSWORD.to_owned()));
            }
            let plan = Plan { name: format!("sentinel-{index}"), sentinel: true, settings, road: None };
            self.sentinels.push(Server::start(self.folder.path(), &self.access, plan));
        }
        for sentinel in &self.sentinels {
            until("Sentinels know each other and the replica", START, || {
                let state = sentinel.cli(&["INFO", "sentinel"]);
                state.contains("status=ok").then_some(())?;
                (state.contains("slaves=1") && state.contains("sentinels=3")).then_some(())
            });
        }
    }

    /// Makes a cluster of the servers, each with a third of the slots.
    #[track_caller]
    fn join(&self) {
        let count = u16::try_from(self.servers.len()).expect("a few servers");
        let bound = |index: u16| u32::from(index) * u32::from(SLOTS) / u32::from(count);
        let first = &self.servers[0];
        for (index, server) in (0..count).zip(&self.servers) {
            let (from, to) = (bound(index).to_string(), (bound(index + 1) - 1).to_string());
            server.cli(&["CLUSTER", "ADDSLOTSRANGE", &from, &to]);
            if index > 0 {
                let bus = server.setting("cluster-port").expect("a cluster's port").to_owned();
                first.cli(&["CLUSTER", "MEET", &self.access.site.address, &server.port().to_string(), &bus]);
            }
        }
        for server in &self.servers {
            until("the cluster has formed", START, || {
                let state = server.cli(&["CLUSTER", "INFO"]);
                let whole = format!("cluster_known_nodes:{count}");
                (state.contains("cluster_state:ok") && state.contains(&whole)).then_some(())
            });
        }
    }

    /// The folder of everything.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}
