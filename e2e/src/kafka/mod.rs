//! Apache Kafka in KRaft mode: one node, or three brokers with the controller in a process of its own, so that the
//! quorum lives while brokers die.

mod admin;
mod node;
mod operations;
mod records;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};

use tempfile::TempDir;

pub use self::admin::TopicSpec;
pub use self::node::Broker;
use self::node::{NodePlan, Role};
pub use self::records::{Record, read};
use crate::pki::Authority;
use crate::place::Place;
use crate::{Balancer, folder, ports, process};

/// What the logs of a measured cluster may need until old segments go.
const STEADY_BYTES: u64 = 4 << 30;

/// A user of the SASL listener.
#[derive(Clone, Debug)]
pub struct User {
    /// Name.
    pub name: String,
    /// Password, for PLAIN and both SCRAM mechanisms.
    pub password: String,
}

/// What to start; ends in [`Builder::start`].
#[derive(Clone)]
pub struct Builder {
    brokers: usize,
    min_isr: usize,
    auto_create: bool,
    steady: bool,
    users: Vec<User>,
    tls: Option<TlsFiles>,
    jwks: Option<String>,
    settings: Vec<(String, String)>,
    roads: Vec<Arc<Balancer>>,
    disk_bytes: Option<u64>,
    site: Site,
}

/// What brokers prove themselves with.
#[derive(Clone)]
struct TlsFiles {
    /// Key and certificate in one file.
    own: PathBuf,
    ca: PathBuf,
}

/// Where nodes run and how they are reached.
#[derive(Clone)]
struct Site {
    place: Place,
    address: String,
    /// The name that clients under test are given for the address.
    host: String,
}

impl Site {
    fn here() -> Self {
        Self { place: Place::here(), address: "127.0.0.1".to_owned(), host: "127.0.0.1".to_owned() }
    }

    /// A port of a node: one of those that are free here, or in a network of our own the given one.
    fn port(&self, own: u16) -> u16 {
        if self.place.is_here() { ports::free() } else { own }
    }
}

/// A running cluster.
pub struct Kafka {
    brokers: Vec<Broker>,
    controller: Option<Broker>,
    admin: admin::Admin,
    site: Site,
    secured: bool,
    roads: Vec<Arc<Balancer>>,
    replication: usize,
    // Last: the processes above are killed before their folders go.
    folder: TempDir,
}

impl Kafka {
    /// One node, broker and controller in one.
    pub fn single() -> Builder {
        Builder {
            brokers: 1,
            min_isr: 1,
            auto_create: false,
            steady: false,
            users: Vec::new(),
            tls: None,
            jwks: None,
            settings: Vec::new(),
            roads: Vec::new(),
            disk_bytes: None,
            site: Site::here(),
        }
    }

    /// One node that all tests share; for tests that break nothing.
    pub fn shared() -> &'static Kafka {
        static SHARED: LazyLock<Kafka> = LazyLock::new(|| process::shared(|| Kafka::single().start()));
        &SHARED
    }

    /// Three brokers and a controller.
    pub fn three() -> Builder {
        Builder { brokers: 3, ..Self::single() }
    }

    /// `bootstrap.servers` for the clients under test: the SASL listeners where there are users, the roads where there
    /// are roads.
    pub fn bootstrap(&self) -> String {
        if !self.roads.is_empty() {
            let roads: Vec<_> = self.roads.iter().map(|road| road.address().to_string()).collect();
            return roads.join(",");
        }
        let ports = self.brokers.iter().map(|broker| self.client_port(broker));
        let servers: Vec<_> = ports.map(|port| format!("{}:{port}", self.site.host)).collect();
        servers.join(",")
    }

    /// `bootstrap.servers` of the listeners that ask clients for a certificate, of a cluster with [`Builder::tls`].
    pub fn mutual_tls(&self) -> String {
        let servers: Vec<_> =
            self.brokers.iter().map(|broker| format!("{}:{}", self.site.host, broker.tls_port())).collect();
        servers.join(",")
    }

    fn client_port(&self, broker: &Broker) -> u16 {
        if self.secured { broker.sasl_port() } else { broker.port() }
    }

    /// All ports of the brokers.
    pub(crate) fn ports(&self) -> Vec<u16> {
        let secured = self.brokers.iter().filter(|_| self.secured).map(Broker::sasl_port);
        self.brokers.iter().map(Broker::port).chain(secured).collect()
    }

    /// A broker, counted from 0.
    pub fn broker(&self, index: usize) -> &Broker {
        &self.brokers[index]
    }

    /// The controller of a cluster that has one of its own.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn controller(&self) -> &Broker {
        self.controller.as_ref().expect("a controller of its own")
    }

    /// All brokers.
    pub fn brokers(&self) -> &[Broker] {
        &self.brokers
    }

    /// A topic name that nobody else uses; topics are created by [`Kafka::create_topic`].
    pub fn fresh_name(&self, purpose: &str) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        format!("{purpose}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl Builder {
    /// `min.insync.replicas` of the brokers.
    #[must_use]
    pub fn min_isr(mut self, count: usize) -> Self {
        self.min_isr = count;
        self
    }

    /// `auto.create.topics.enable`, off by default here (Kafka's own default is on).
    #[must_use]
    pub fn auto_create(mut self) -> Self {
        self.auto_create = true;
        self
    }

    /// Runs the brokers as for measurements: with the full compiler, slower to start and quick once they are warm, and
    /// with their logs in memory where there is room, for a disk that falls behind would be all that is measured.
    #[must_use]
    pub fn steady(mut self) -> Self {
        self.steady = true;
        self
    }

    /// Adds a user, and with it a SASL_PLAINTEXT listener, that tests reach by [`Kafka::bootstrap`], and ACLs: a user
    /// may do what [`Kafka::allow`] says and nothing else.
    #[must_use]
    pub fn user(mut self, name: &str, password: &str) -> Self {
        self.users.push(User { name: name.to_owned(), password: password.to_owned() });
        self
    }

    /// Puts the SASL listener behind TLS with a certificate of `authority`, and adds one that asks clients for a
    /// certificate of it ([`Kafka::mutual_tls`]). Users are needed too.
    #[must_use]
    #[track_caller]
    pub fn tls(mut self, authority: &Authority) -> Self {
        authority.issue("broker", "/CN=broker", &["DNS:localhost", "IP:127.0.0.1"]);
        let own = authority.folder().join("broker.pem");
        std::fs::write(&own, authority.read("broker.key") + authority.read("broker.crt").as_str())
            .expect("a file");
        self.tls = Some(TlsFiles { own, ca: authority.folder().join("ca.crt") });
        self
    }

    /// The SASL listener takes OAUTHBEARER too, with tokens of [`crate::credentials::Issuer`] that these keys have
    /// signed. Who shows one is the user that its `sub` names. Users are needed too.
    #[must_use]
    pub fn tokens(mut self, jwks: String) -> Self {
        self.jwks = Some(jwks);
        self
    }

    /// Clients under test reach each broker by its road; brokers and harness reach each other without.
    #[must_use]
    pub fn roads(mut self, roads: &[Arc<Balancer>]) -> Self {
        assert_eq!(roads.len(), self.brokers, "a road for each broker");
        self.roads = roads.to_vec();
        self
    }

    /// Gives each broker a disk of its own of so many bytes; see [`Broker::disk`].
    #[must_use]
    pub fn small_disks(mut self, bytes: u64) -> Self {
        self.disk_bytes = Some(bytes);
        self
    }

    /// Any setting of the brokers.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl ToString) -> Self {
        self.settings.push((key.to_owned(), value.to_string()));
        self
    }

    /// Runs the brokers elsewhere, at an address there that the clients under test know by a name. Ports are 9092 and
    /// up, those that ask for SASL 9192 and up.
    #[must_use]
    pub(crate) fn within(mut self, place: &Place, address: &str, host: &str) -> Self {
        self.site = Site { place: place.clone(), address: address.to_owned(), host: host.to_owned() };
        self
    }

    /// Starts the cluster and waits until every broker serves.
    #[track_caller]
    pub fn start(self) -> Kafka {
        let folder =
            if self.steady { folder::in_memory("kafka-", STEADY_BYTES) } else { folder::fresh("kafka-") };
        node::write_logging(folder.path());
        let site = self.site;
        let controller_port = site.port(9090);
        let plan = |id: i32, role: Role, controller: i32| NodePlan {
            id,
            role,
            controller: (controller, controller_port),
            brokers: self.brokers,
            min_isr: self.min_isr,
            auto_create: self.auto_create,
            steady: self.steady,
            users: self.users.clone(),
            tls: self.tls.clone(),
            jwks: self.jwks.clone(),
            settings: self.settings.clone(),
            road: usize::try_from(id).ok().and_then(|id| self.roads.get(id)).cloned(),
            disk_bytes: self.disk_bytes,
            site: site.clone(),
        };
        let mut plans = Vec::new();
        if self.brokers == 1 {
            plans.push(plan(0, Role::Combined, 0));
        } else {
            plans.push(plan(100, Role::Controller, 100));
            plans.extend((0..self.brokers).map(|id| plan(id as i32, Role::Broker, 100)));
        }
        let mut nodes = Broker::start_all(folder.path(), plans);
        let controller = (self.brokers > 1).then(|| nodes.remove(0));
        let bootstrap: Vec<_> =
            nodes.iter().map(|broker| format!("{}:{}", site.address, broker.port())).collect();
        let admin = admin::Admin::new(bootstrap.join(","), &site.place);
        let kafka = Kafka {
            brokers: nodes,
            controller,
            admin,
            site,
            secured: !self.users.is_empty(),
            roads: self.roads,
            replication: self.brokers,
            folder,
        };
        kafka.wait_for_brokers(self.brokers);
        kafka
    }
}
