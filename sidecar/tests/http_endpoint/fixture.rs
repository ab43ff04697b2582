//! An HTTP endpoint in this process, in front of librdkafka's mock cluster, and clients for it.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use penstock_crds::edge::{
    AuthenticationConfig, AuthenticationMethodConfig, Compression, DeliveryConfig, DrainConfig,
    EDGE_CONFIG_VERSION, EdgeConfig, EndpointConfig, HttpConfig, KafkaConfig, LimitsConfig, PipelineName,
    ProtocolConfig, ReferencePath, RouteConfig, SessionsConfig, SourceConfig, TopicConfig,
};
use penstock_sidecar::budget::PodBudget;
use penstock_sidecar::endpoint::http::{HttpEndpoint, Timeouts};
use penstock_sidecar::endpoint::wire::door::Door;
use penstock_sidecar::intake::Intake;
use penstock_sidecar::ledger::Columns;
use penstock_sidecar::store::kafka::{KafkaStore, Threads};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// Longer than anything takes that works.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const TOPIC: &str = "iot.telemetry";
pub(crate) const MAX_MESSAGE_BYTES: u32 = 65_536;

/// What a test may want otherwise.
pub(crate) struct Plan {
    pub(crate) limits: LimitsConfig,
    pub(crate) timeouts: Timeouts,
    pub(crate) ack_timeout: Duration,
    /// Lines of users; without them the endpoint is open.
    pub(crate) users: Option<String>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            limits: LimitsConfig {
                max_connections: 100,
                max_message_bytes: MAX_MESSAGE_BYTES,
                max_in_flight_bytes: 16 << 20,
                max_in_flight_messages: 10_000,
                max_in_flight_bytes_per_connection: 1 << 20,
                max_connections_per_second: None,
            },
            timeouts: Timeouts::default(),
            ack_timeout: Duration::from_secs(10),
            users: None,
        }
    }
}

/// An endpoint with its store and cluster.
pub(crate) struct Edge {
    pub(crate) mock: MockCluster<'static, DefaultProducerContext>,
    pub(crate) endpoint: Arc<HttpEndpoint>,
    pub(crate) intake: Arc<Intake>,
    pub(crate) address: SocketAddr,
    stop: CancellationToken,
    threads: Threads,
    watching: Arc<AtomicBool>,
    watch: std::thread::JoinHandle<u64>,
    _references: tempfile::TempDir,
}

impl Edge {
    pub(crate) async fn start(plan: Plan) -> Self {
        let mock = MockCluster::new(1).unwrap();
        mock.create_topic(TOPIC, 1, 1).unwrap();
        let references = tempfile::tempdir().unwrap();
        std::fs::write(references.path().join("schema.json"), r#"{"required": ["t"]}"#).unwrap();
        let mut config = config(&mock.bootstrap_servers(), plan.limits.clone());
        if let Some(users) = plan.users {
            std::fs::write(references.path().join("users"), users).unwrap();
            let method = AuthenticationMethodConfig::Basic(ReferencePath("users".into()));
            config.endpoints[0].authentication = Some(AuthenticationConfig { method, client_id: None });
        }
        let config = Arc::new(config);
        let pod = PodBudget::new(config.max_in_flight_bytes);
        let (store, threads) =
            KafkaStore::start(Arc::clone(&config), references.path(), Arc::clone(&pod)).unwrap();
        let intake = Intake::build(&config, references.path(), &store, &pod).unwrap().remove(0);
        let http = HttpConfig { base_path: "/in".into() };
        let endpoint = HttpEndpoint::with_timeouts(
            Arc::clone(&intake),
            http,
            plan.limits,
            plan.ack_timeout,
            plan.timeouts,
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(Arc::clone(&endpoint).serve(listener, Arc::new(Door::open("test")), stop.clone()));
        until("the topic takes messages", || store.health().was_seen()).await;
        let watching = Arc::new(AtomicBool::new(true));
        let watch = std::thread::spawn({
            let (ledger, watching) = (Arc::clone(intake.ledger()), Arc::clone(&watching));
            move || {
                let mut looks = 0;
                loop {
                    let (columns, _) = ledger.snapshot();
                    assert!(columns.is_balanced(), "{columns:?}");
                    looks += 1;
                    if !watching.load(Ordering::Relaxed) {
                        return looks;
                    }
                    std::thread::park_timeout(Duration::from_micros(200));
                }
            }
        });
        Self { mock, endpoint, intake, address, stop, threads, watching, watch, _references: references }
    }

    pub(crate) fn columns(&self) -> Columns {
        self.intake.ledger().snapshot().0
    }

    pub(crate) async fn connect(&self) -> Client {
        Client::connect(self.address).await
    }

    /// Waits until nobody is connected and nothing is in flight, and checks that nothing is left behind: no byte in
    /// the budget, no lane, no message without an end, and balanced books at every moment before.
    pub(crate) async fn settle(self) -> Columns {
        tokio::time::timeout(PATIENCE, self.endpoint.connections().emptied())
            .await
            .expect("all connections end");
        let budget = Arc::clone(self.intake.budget());
        until("the budget is whole again", || (budget.used_bytes(), budget.used_messages()) == (0, 0)).await;
        let lanes = self.intake.store().lanes();
        until("no lane is left", || lanes.is_empty()).await;
        let columns = self.columns();
        assert!(columns.is_balanced() && columns.in_flight == 0, "{columns:?}");
        self.watching.store(false, Ordering::Relaxed);
        assert!(self.watch.join().expect("the books were balanced at every moment") > 0);
        self.stop.cancel();
        let left = tokio::task::spawn_blocking(|| self.threads.end(Duration::from_secs(5))).await.unwrap();
        assert_eq!(left, 0);
        columns
    }
}

fn config(bootstrap_servers: &str, limits: LimitsConfig) -> EdgeConfig {
    let route = |name: &str, pattern: &str, schema: Option<&str>| RouteConfig {
        name: name.into(),
        from: vec![SourceConfig { endpoint: "http".into(), pattern: pattern.into() }],
        topic: "telemetry".into(),
        key: schema.is_none().then(|| "{project}/{device}".into()),
        allow: BTreeMap::new(),
        event_time_pointer: None,
        json_schema: schema.map(|path| ReferencePath(path.into())),
    };
    EdgeConfig {
        version: EDGE_CONFIG_VERSION,
        pipeline: PipelineName { namespace: "iot".into(), name: "test".into() },
        kafka: KafkaConfig {
            bootstrap_servers: vec![bootstrap_servers.into()],
            tls: None,
            authentication: None,
            linger_milliseconds: 1,
            compression: Compression::None,
        },
        topics: vec![TopicConfig {
            name: "telemetry".into(),
            topic_name: TOPIC.into(),
            partitions: None,
            replication_factor: None,
            min_in_sync_replicas: None,
        }],
        endpoints: vec![EndpointConfig {
            name: "http".into(),
            port: 0,
            loopback: true,
            protocol: ProtocolConfig::Http(HttpConfig { base_path: "/in".into() }),
            limits: limits.clone(),
            tls: None,
            proxy_protocol: None,
            authentication: None,
        }],
        routes: vec![
            route("telemetry", "/v1/{project}/{device}/telemetry", None),
            route("checked", "/checked/{device}", Some("schema.json")),
        ],
        delivery: DeliveryConfig { ack_timeout_seconds: 10, dead_letter_topic: Some("telemetry".into()) },
        sessions: SessionsConfig::default(),
        drain: DrainConfig { accept_seconds: 0, client_seconds: 0, adapter_stop_seconds: None },
        max_in_flight_bytes: limits.max_in_flight_bytes,
        admin_port: 0,
    }
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    let mut look = tokio::time::interval(Duration::from_millis(5));
    while !so() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        look.tick().await;
    }
}

/// The head and body of an answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// Checks that this is the problem of that name.
    pub(crate) fn is_problem(&self, status: u16, slug: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let json = self.json();
        assert_eq!(json["type"], format!("https://penstock.dev/problems/{slug}"), "{json}");
        assert_eq!(json["status"], status);
        assert!(json["detail"].as_str().is_some_and(|detail| !detail.is_empty()));
        assert_eq!(self.header("retry-after").is_some(), matches!(status, 429 | 503), "{self:?}");
    }

    /// Checks that this is a receipt, the same in body and header fields.
    pub(crate) fn is_receipt(&self) -> serde_json::Value {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        assert_eq!(self.header("content-type"), Some("application/json"));
        let json = self.json();
        assert_eq!(self.header("penstock-id"), json["id"].as_str());
        assert_eq!(self.header("penstock-topic"), Some(TOPIC));
        assert_eq!(json["topic"], TOPIC);
        assert_eq!(self.header("penstock-partition"), Some("0"));
        assert_eq!(json["partition"], 0);
        assert_eq!(self.header("penstock-offset").map(str::to_owned), Some(json["offset"].to_string()));
        // The mock cluster says in its answers that it appended all records then.
        assert_eq!(json["timestamp"], 1_234, "{json}");
        json
    }
}

/// An HTTP/1 client that sends what it is told, byte by byte.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    read: Vec<u8>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), read: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Sends a message and takes its answer.
    pub(crate) async fn post(&mut self, path: &str, fields: &str, body: &[u8]) -> Answer {
        let head =
            format!("POST {path} HTTP/1.1\r\nHost: x\r\n{fields}Content-Length: {}\r\n\r\n", body.len());
        self.send([head.as_bytes(), body].concat()).await;
        self.answer().await
    }

    /// The next answer.
    pub(crate) async fn answer(&mut self) -> Answer {
        tokio::time::timeout(PATIENCE, self.try_answer())
            .await
            .expect("an answer in time")
            .expect("an answer")
    }

    /// The next answer; none if the server closes first.
    pub(crate) async fn try_answer(&mut self) -> Option<Answer> {
        let end = loop {
            if let Some(at) = self.read.windows(4).position(|window| window == b"\r\n\r\n") {
                break at;
            }
            self.more().await?;
        };
        let head = String::from_utf8(self.read.drain(..end + 4).collect()).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: HashMap<_, _> = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
        while self.read.len() < length {
            self.more().await?;
        }
        Some(Answer { status, headers, body: self.read.drain(..length).collect() })
    }

    async fn more(&mut self) -> Option<()> {
        let mut bytes = [0; 4_096];
        let count = self.stream.read(&mut bytes).await.ok()?;
        self.read.extend_from_slice(&bytes[..count]);
        (count > 0).then_some(())
    }

    /// Waits until the server has closed, without another word.
    pub(crate) async fn closes(mut self) {
        let rest = tokio::time::timeout(PATIENCE, self.try_answer()).await.expect("closed in time");
        assert!(rest.is_none(), "{rest:?}");
        assert!(self.read.is_empty(), "{:?}", String::from_utf8_lossy(&self.read));
    }
}
