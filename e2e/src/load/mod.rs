//! Generators: clients that send, resend in order what was not acknowledged, and note everything.

pub mod wire;

mod http;
mod in_flight;
mod mqtt;
mod together;

use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

pub use self::mqtt::receipt;
pub use self::together::Loads;
use self::wire::Version;
use crate::balancer::Passages;
use crate::checker::{History, Late, Message, Outcome, Receipt};
use crate::place::Place;
use crate::secure::Identity;
use crate::until::{SOON, until, within};
use crate::{Balancer, runtime};

/// The payload of every Will of a load.
pub const WILL: &str = "a client is gone";

/// What clients speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Mqtt(Version),
    Http1,
    Http2,
}

/// What an MQTT client wants to be kept of it while it is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Session {
    /// Nothing: each connection starts clean.
    Clean,
    /// Everything; MQTT 5 says for how many seconds.
    Kept { expiry_seconds: u32 },
}

/// What to send; ends in [`Plan::start`].
#[derive(Clone, Debug)]
pub struct Plan {
    protocol: Protocol,
    server: SocketAddr,
    /// Where an MQTT client turns to, in turn, when its connection has ended.
    others: Vec<SocketAddr>,
    passages: Option<Passages>,
    secure: Option<Identity>,
    qos: u8,
    session: Session,
    will: bool,
    runtime: Handle,
    clients: u32,
    devices: u32,
    window: usize,
    per_second: u32,
    messages: u64,
    payload_bytes: usize,
    project: String,
    answer_within: Duration,
}

/// Clients at work.
pub struct Load {
    signals: Arc<Signals>,
    clients: Vec<JoinHandle<History>>,
}

/// What clients and the test tell each other while they run.
#[derive(Debug, Default)]
struct Signals {
    sent: AtomicU64,
    acknowledged: AtomicU64,
    completed: AtomicU64,
    transient: AtomicU64,
    closes: AtomicU64,
    unreachable: AtomicU64,
    pings: AtomicU64,
    /// The longest that a positive answer took since somebody asked, in microseconds.
    longest: AtomicU64,
    /// Send nothing new, end when everything is answered.
    finish: AtomicBool,
    /// End now.
    abandon: AtomicBool,
}

impl Plan {
    fn new(protocol: Protocol, server: SocketAddr) -> Self {
        Self {
            protocol,
            server,
            others: Vec::new(),
            passages: None,
            secure: None,
            qos: 1,
            session: Session::Clean,
            will: false,
            runtime: runtime::handle(),
            clients: 4,
            devices: 1,
            window: 16,
            per_second: 1000,
            messages: u64::MAX,
            payload_bytes: 100,
            project: "p1".to_owned(),
            answer_within: Duration::MAX,
        }
    }

    /// MQTT at QoS 1 with clean sessions; see [`Plan::qos`] and [`Plan::keep_session`].
    pub fn mqtt(server: SocketAddr, version: Version) -> Self {
        Self::new(Protocol::Mqtt(version), server)
    }

    /// HTTP/1.1, one request at a time on a connection.
    pub fn http(server: SocketAddr) -> Self {
        Self::new(Protocol::Http1, server)
    }

    /// HTTP/2 with prior knowledge, one request at a time on a connection.
    pub fn http2(server: SocketAddr) -> Self {
        Self::new(Protocol::Http2, server)
    }

    /// MQTT: QoS 1, or 2 with a session that is kept for an hour. What is not acknowledged when a connection ends is
    /// sent again: in a session that was kept under the same packet identifier and with DUP, else as a new message.
    #[must_use]
    pub fn qos(mut self, qos: u8) -> Self {
        assert!(qos <= 2, "MQTT has three");
        self.qos = qos;
        if qos == 2 { self.keep_session(3600) } else { self }
    }

    /// MQTT: connect with Clean Start 0, and in MQTT 5 with this Session Expiry Interval.
    #[must_use]
    pub fn keep_session(mut self, expiry_seconds: u32) -> Self {
        self.session = Session::Kept { expiry_seconds };
        self
    }

    /// MQTT: connect with Clean Start 1, also at QoS 2.
    #[must_use]
    pub fn clean_session(mut self) -> Self {
        self.session = Session::Clean;
        self
    }

    /// MQTT: each connection has a Will, without a delay: [`WILL`], under the key of the client's first device.
    #[must_use]
    pub fn will(mut self) -> Self {
        self.will = true;
        self
    }

    /// MQTT: another server, to which a client turns when its connection to the one before has ended.
    #[must_use]
    pub fn or(mut self, server: SocketAddr) -> Self {
        self.others.push(server);
        self
    }

    /// The server is this balancer: the history tells to which pod behind it each connection went.
    #[must_use]
    pub fn through(mut self, balancer: &Balancer) -> Self {
        self.passages = Some(balancer.passages());
        self
    }

    /// Over TLS, with what these clients trust and show.
    #[must_use]
    pub fn secure(mut self, identity: &Identity) -> Self {
        self.secure = Some(identity.clone());
        self
    }

    /// Clients in another network, such as a cluster's.
    #[must_use]
    pub fn within(mut self, place: &Place) -> Self {
        self.runtime = place.runtime();
        self
    }

    /// Number of clients, each with one connection at a time. 4 by default.
    #[must_use]
    pub fn clients(mut self, count: u32) -> Self {
        self.clients = count;
        self
    }

    /// Devices behind each client, in turn: each is a key of its own. 1 by default.
    #[must_use]
    pub fn devices(mut self, count: u32) -> Self {
        self.devices = count;
        self
    }

    /// How many messages an MQTT client has on the way, without PUBACK or PUBCOMP. 16 by default.
    #[must_use]
    pub fn window(mut self, count: usize) -> Self {
        self.window = count;
        self
    }

    /// Messages a second of all clients together at most. 1,000 by default.
    #[must_use]
    pub fn rate(mut self, per_second: u32) -> Self {
        self.per_second = per_second;
        self
    }

    /// Each client ends by itself after so many messages. Unbounded by default.
    #[must_use]
    pub fn messages(mut self, per_client: u64) -> Self {
        self.messages = per_client;
        self
    }

    /// Payload size. 100 by default.
    #[must_use]
    pub fn payload_bytes(mut self, bytes: usize) -> Self {
        self.payload_bytes = bytes;
        self
    }

    /// The first capture of the route `v1/{project}/{device}/telemetry`.
    #[must_use]
    pub fn project(mut self, name: &str) -> Self {
        self.project = name.to_owned();
        self
    }

    /// Positive answers that take longer are noted as late. Unbounded by default.
    #[must_use]
    pub fn answer_within(mut self, longest: Duration) -> Self {
        self.answer_within = longest;
        self
    }

    /// Starts the clients and returns at once.
    pub fn start(self) -> Load {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // Unique on a server that outlives this process, for sessions do too.
        let name = format!("load{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let signals = Arc::new(Signals::default());
        let clients = (0..self.clients)
            .map(|number| {
                let script = Script::new(&self, &name, number);
                let (plan, signals) = (self.clone(), Arc::clone(&signals));
                self.runtime.spawn(async move {
                    match plan.protocol {
                        Protocol::Mqtt(version) => mqtt::run(&plan, version, script, &signals).await,
                        Protocol::Http1 | Protocol::Http2 => http::run(&plan, script, &signals).await,
                    }
                })
            })
            .collect();
        Load { signals, clients }
    }
}

impl Load {
    /// Messages sent so far, repeats not counted.
    pub fn sent(&self) -> u64 {
        self.signals.sent.load(Ordering::Relaxed)
    }

    /// Positive answers so far: PUBACK, PUBREC, 2xx.
    pub fn acknowledged(&self) -> u64 {
        self.signals.acknowledged.load(Ordering::Relaxed)
    }

    /// QoS 2 messages so far whose identifier is free again: after PUBCOMP, or a PUBREC that refused.
    pub fn completed(&self) -> u64 {
        self.signals.completed.load(Ordering::Relaxed)
    }

    /// Transient negative answers so far (HTTP 503 and 429).
    pub fn transient(&self) -> u64 {
        self.signals.transient.load(Ordering::Relaxed)
    }

    /// Connections that the server ended or refused so far.
    pub fn closes(&self) -> u64 {
        self.signals.closes.load(Ordering::Relaxed)
    }

    /// Attempts to connect that came to nothing so far: nobody listened, or nobody answered.
    pub fn unreachable(&self) -> u64 {
        self.signals.unreachable.load(Ordering::Relaxed)
    }

    /// PINGRESPs so far; each MQTT client asks once a second.
    pub fn pings(&self) -> u64 {
        self.signals.pings.load(Ordering::Relaxed)
    }

    /// The longest that a positive answer took since the last call.
    pub fn take_longest(&self) -> Duration {
        Duration::from_micros(self.signals.longest.swap(0, Ordering::Relaxed))
    }

    /// Waits for so many more positive answers.
    #[track_caller]
    pub fn wait_acknowledged(&self, more: u64) {
        let goal = self.acknowledged() + more;
        until(&format!("{more} more acknowledgements"), SOON * 2, || {
            (self.acknowledged() >= goal).then_some(())
        });
    }

    /// Sends nothing new, waits until every message sent has its final answer, and returns what happened.
    ///
    /// # Panics
    /// When some have none after `deadline`; says which, and how their clients' connections ended.
    #[track_caller]
    pub fn finish(mut self, deadline: Duration) -> History {
        self.signals.finish.store(true, Ordering::Relaxed);
        if within(deadline, || self.clients.iter().all(JoinHandle::is_finished).then_some(())).is_none() {
            let history = self.abandon();
            panic!("no final answer to every message within {deadline:?}: {}", history.unanswered());
        }
        self.collect()
    }

    /// Waits until every client has sent all its messages and has every answer: for plans with [`Plan::messages`].
    #[track_caller]
    pub fn complete(mut self, deadline: Duration) -> History {
        until("the end of every client's script", deadline, || {
            self.clients.iter().all(JoinHandle::is_finished).then_some(())
        });
        self.collect()
    }

    /// Cuts all connections and returns what happened so far.
    pub fn abandon(mut self) -> History {
        self.signals.abandon.store(true, Ordering::Relaxed);
        self.collect()
    }

    fn collect(&mut self) -> History {
        let mut history = History::default();
        for client in self.clients.drain(..) {
            history.merge(runtime::wait(client).expect("a client without a panic"));
        }
        history
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.signals.abandon.store(true, Ordering::Relaxed);
    }
}

/// The messages of one client, in order.
struct Script {
    load: String,
    client: u32,
    project: String,
    devices: u32,
    bytes: usize,
    left: u64,
    history: History,
}

impl Script {
    fn new(plan: &Plan, load: &str, client: u32) -> Self {
        Self {
            load: load.to_owned(),
            client,
            project: plan.project.clone(),
            devices: plan.devices,
            bytes: plan.payload_bytes,
            left: plan.messages,
            history: History { began: Some(Instant::now()), ..History::default() },
        }
    }

    /// A connection is there, which goes to this pod.
    fn connected(&mut self, pod: Option<usize>) {
        self.history.connections.push(pod);
    }

    /// Who says something, when, and to which pod.
    fn here(&self) -> String {
        let (load, client) = (&self.load, self.client);
        let seconds = self.history.seconds(Instant::now());
        let pod = self.history.connections.last().copied().flatten();
        let pod = pod.map_or(String::new(), |pod| format!(" on pod {pod}"));
        format!("{load}:{client} at {seconds:.3} s{pod}")
    }

    fn irregular(&mut self, what: impl Display) {
        let line = format!("{}: {what}", self.here());
        self.history.irregular.push(line);
    }

    fn device(&self, sequence: u64) -> String {
        format!("{}-{}-{}", self.load, self.client, sequence % u64::from(self.devices))
    }

    /// Adds the next message to the history, unsent, and returns its index there.
    fn next(&mut self) -> usize {
        let sequence = self.history.messages.len() as u64;
        let mut payload = Message::identity(&self.load, self.client, sequence).into_bytes();
        payload.resize(self.bytes.max(payload.len()), b'.');
        self.history.messages.push(Message {
            client: self.client,
            key: Some(format!("{}/{}", self.project, self.device(sequence))),
            sequence,
            payload,
            sends: 0,
            sent: None,
            answered: None,
            once: false,
            outcome: Outcome::Open,
        });
        self.left -= 1;
        sequence as usize
    }

    /// Notes that a message is sent, once more or for the first time.
    fn sends(&mut self, index: usize) -> &Message {
        let now = self.history.moment(Instant::now());
        let message = &mut self.history.messages[index];
        message.sends += 1;
        message.sent = message.sent.or(now);
        message
    }

    /// Notes a final answer that refuses.
    fn refused(&mut self, index: usize, reason: String) {
        let now = self.history.moment(Instant::now());
        let message = &mut self.history.messages[index];
        (message.outcome, message.answered) = (Outcome::Refused(reason), now);
    }

    /// Notes a positive answer to a message that was sent at this time.
    fn acknowledged(
        &mut self,
        plan: &Plan,
        signals: &Signals,
        index: usize,
        sent: Instant,
        receipt: Option<Receipt>,
    ) {
        let now = Instant::now();
        let took = now - sent;
        signals.acknowledged.fetch_add(1, Ordering::Relaxed);
        signals.longest.fetch_max(took.as_micros() as u64, Ordering::Relaxed);
        let answered = self.history.moment(now);
        let message = &mut self.history.messages[index];
        (message.outcome, message.answered) = (Outcome::Acknowledged(receipt), answered);
        if took > plan.answer_within {
            self.history.late.push(Late { message: index, sent, took });
        }
    }

    fn message(&mut self, index: usize) -> &mut Message {
        &mut self.history.messages[index]
    }

    /// `v1/PROJECT/DEVICE/telemetry`: an MQTT topic, and behind a `/` an HTTP path.
    fn topic(&self, index: usize) -> String {
        format!("v1/{}/{}/telemetry", self.project, self.device(index as u64))
    }
}

/// The time between two messages of one client.
fn pace(plan: &Plan) -> tokio::time::Interval {
    let period = Duration::from_secs_f64(f64::from(plan.clients) / f64::from(plan.per_second));
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    interval
}
