//! From a decoded message to a record in the store's hands: route, captures, key, validation, headers.

pub mod router;
pub mod schema;

use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use penstock_crds::edge::{EdgeConfig, EndpointConfig, ProtocolConfig};
use penstock_crds::identity::IdentityTemplate;
use penstock_crds::pattern::{KeyTemplate, Pattern};

use crate::auth::{self, Gate, GateError};
use crate::budget::{EndpointBudget, PodBudget};
use crate::ledger::{Account, EndpointLedger};
use crate::session::handshake::Number;
use crate::store::kafka::{KafkaStore, SubmitError};
use crate::store::lane::Return;
use crate::store::{Headers, Lane, LaneKey, MessageId, Record, TransientCause};
use router::{Found, Router, Sender};
use schema::{Schema, SchemaError};

/// `ce_type` of every record.
const EVENT_TYPE: &[u8] = b"dev.penstock.message";

/// Why a message is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Nobody asked for it.
    NoRoute,
    /// The sender may not send there.
    NotAllowed,
    /// A capture is empty or has a forbidden character.
    UncleanCapture,
    /// The payload does not match the route's schema; where and which rule.
    Schema(String),
    /// The topic takes at most this many bytes, with key and headers.
    TooLarge {
        /// `max.message.bytes`.
        limit_bytes: usize,
    },
    /// Not now.
    Transient(TransientCause),
}

/// A decoded message.
#[derive(Debug)]
pub struct Arrival<'a> {
    /// MQTT topic name, or HTTP path below the base path without its leading `/`; decoded.
    pub address: &'a str,
    /// The address as the sender wrote it: `ce_subject`.
    pub subject: &'a str,
    /// As it arrived.
    pub payload: &'a [u8],
    /// The sender's own id for it.
    pub id: Option<&'a str>,
    /// The number that its session gave it; an id of the sender's goes before it.
    pub number: Option<Number>,
    /// Who sends.
    pub sender: Sender<'a>,
    /// When it arrived.
    pub arrived: Instant,
    /// The sender was allowed to send there when it said so: a Will, at CONNECT.
    pub allowed: bool,
    /// The connection's own mark.
    pub tag: u16,
    /// The connection's own mark beside it: [`Return::ticket`].
    pub ticket: u32,
    /// Send what has no route or does not match its schema to the dead-letter topic, if there is one.
    pub dead_letter: bool,
}

impl Arrival<'_> {
    /// The id of its record.
    #[must_use]
    pub fn id(&self) -> MessageId {
        match (self.id, self.number) {
            (Some(id), _) => MessageId::Sender(id.into()),
            (None, Some(number)) => MessageId::Session(number),
            (None, None) => MessageId::generate(),
        }
    }
}

/// The sender's headers; what Penstock writes itself cannot be set through it.
#[derive(Debug)]
pub struct SenderHeaders<'a>(&'a mut Headers);

impl SenderHeaders<'_> {
    /// Those of a record that a test builds.
    #[cfg(test)]
    pub(crate) fn over(headers: &mut Headers) -> SenderHeaders<'_> {
        SenderHeaders(headers)
    }

    /// Adds a header unless its name is reserved: `ce_…`, `penstock_…` and `mqtt-…` are, and `content-type`, which has a
    /// way of its own.
    pub fn add(&mut self, name: &str, value: &[u8]) {
        let reserved = ["ce_", "penstock_", "mqtt-"]
            .iter()
            .any(|prefix| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix)));
        if !reserved && !name.eq_ignore_ascii_case("content-type") {
            self.0.push(name, value);
        }
    }

    /// What MQTT says of a message, under a name of ours that begins with `mqtt-`.
    pub fn mqtt(&mut self, name: &'static str, value: &[u8]) {
        self.0.push(name, value);
    }

    /// The payload's media type.
    pub fn content_type(&mut self, value: &[u8]) {
        self.0.push("content-type", value);
    }

    /// The source that the sender names for its own ids: part of what makes an id unique.
    pub fn source(&mut self, value: &[u8]) {
        self.0.push("ce_sendersource", value);
    }

    /// A `CloudEvents` extension attribute under its own name; attributes that Penstock writes are left out.
    pub fn extension(&mut self, name: &str, value: &[u8]) {
        const OURS: [&str; 8] =
            ["id", "source", "specversion", "type", "subject", "time", "sendersource", "datacontenttype"];
        let legal = (1..=20).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        if legal && !OURS.contains(&name) {
            let mut prefixed = [0; 23];
            if let Some(place) = prefixed.get_mut(..3 + name.len()) {
                place[..3].copy_from_slice(b"ce_");
                place[3..].copy_from_slice(name.as_bytes());
                self.0.push(std::str::from_utf8(place).unwrap_or_default(), value);
            }
        }
    }
}

/// What all endpoints share.
#[derive(Debug)]
struct Route {
    topic: usize,
    name: String,
    event_time: Option<String>,
    schema: Option<Schema>,
}

/// The way in for one endpoint's messages.
pub struct Intake {
    store: Arc<KafkaStore>,
    router: Router,
    routes: Arc<[Route]>,
    dead_letter: Option<usize>,
    budget: Arc<EndpointBudget>,
    ledger: Arc<EndpointLedger>,
    gate: Option<Arc<Gate>>,
    endpoint: String,
    /// `ce_source`: the pipeline and the endpoint.
    source: String,
}

#[derive(Default)]
struct Scratch {
    headers: Headers,
    key: Vec<u8>,
}

thread_local! {
    /// Room for the record under construction, used again by each message of a thread.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Why the intake cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// A schema cannot be used.
    #[error("route {route}: {error}")]
    Schema {
        /// The route.
        route: String,
        /// Why.
        error: SchemaError,
    },
    /// Authentication.
    #[error(transparent)]
    Gate(#[from] GateError),
    /// The system gives no threads to verify passwords.
    #[error("cannot start threads to verify passwords: {0}")]
    Threads(std::io::Error),
    /// The configuration contradicts itself; it was not made by `resolve`.
    #[error("the configuration is not consistent: {0}")]
    Inconsistent(String),
}

impl Intake {
    /// The intakes of all endpoints, in the order of the configuration.
    pub fn build(
        config: &EdgeConfig,
        references: &Path,
        store: &Arc<KafkaStore>,
        pod: &Arc<PodBudget>,
    ) -> Result<Vec<Arc<Self>>, IntakeError> {
        let topic = |name: &str| {
            let found = config.topics.iter().position(|topic| topic.name == name);
            found.ok_or_else(|| IntakeError::Inconsistent(format!("no topic is named {name}")))
        };
        let routes = config
            .routes
            .iter()
            .map(|route| {
                let schema = route.json_schema.as_ref().map(|path| Schema::read(&references.join(&path.0)));
                Ok(Route {
                    topic: topic(&route.topic)?,
                    name: route.name.clone(),
                    event_time: route.event_time_pointer.clone(),
                    schema: schema
                        .transpose()
                        .map_err(|error| IntakeError::Schema { route: route.name.clone(), error })?,
                })
            })
            .collect::<Result<Arc<[_]>, IntakeError>>()?;
        let dead_letter = config.delivery.dead_letter_topic.as_deref().map(topic).transpose()?;
        let verifier = auth::start_verifier(config).map_err(IntakeError::Threads)?;
        let one = |endpoint: &EndpointConfig| {
            let limits = &endpoint.limits;
            let messages = u64::from(limits.max_in_flight_messages);
            Ok(Arc::new(Self {
                store: Arc::clone(store),
                router: router(config, endpoint)?,
                routes: Arc::clone(&routes),
                dead_letter,
                budget: EndpointBudget::new(Arc::clone(pod), limits.max_in_flight_bytes, messages),
                ledger: EndpointLedger::new(&endpoint.name),
                gate: Gate::new(config, endpoint, references, &verifier)?,
                endpoint: endpoint.name.clone(),
                source: format!("/{}/{}/{}", config.pipeline.namespace, config.pipeline.name, endpoint.name),
            }))
        };
        config.endpoints.iter().map(one).collect()
    }

    /// The endpoint's budget.
    #[must_use]
    pub fn budget(&self) -> &Arc<EndpointBudget> {
        &self.budget
    }

    /// The endpoint's books.
    #[must_use]
    pub fn ledger(&self) -> &Arc<EndpointLedger> {
        &self.ledger
    }

    /// Who is let in; none where everybody is.
    #[must_use]
    pub fn gate(&self) -> Option<&Arc<Gate>> {
        self.gate.as_ref()
    }

    /// The store behind it.
    #[must_use]
    pub fn store(&self) -> &Arc<KafkaStore> {
        &self.store
    }

    /// A lane for a new connection.
    #[must_use]
    pub fn open_lane(&self, account: &Account) -> (LaneKey, Arc<Lane>) {
        self.store.lanes().open(&self.budget, account)
    }

    /// Whether a message of this sender to this address would find a route that it may use, so that it can be told
    /// before it has sent all of it.
    pub fn has_route(&self, address: &str, sender: Sender<'_>) -> Result<(), Refusal> {
        match self.router.find(address) {
            Found::Route(target, captures) | Found::UncleanCapture(target, captures)
                if !target.allows(&captures, sender) =>
            {
                Err(Refusal::NotAllowed)
            }
            Found::Route(..) => Ok(()),
            Found::UncleanCapture(..) => Err(Refusal::UncleanCapture),
            Found::Nothing => Err(Refusal::NoRoute),
        }
    }

    /// Takes a message: on success its outcome will come to the lane's next slot. `sender_headers` adds what the
    /// sender said; it may be called twice.
    pub fn admit(
        &self,
        key: LaneKey,
        lane: &Lane,
        arrival: &Arrival<'_>,
        sender_headers: impl Fn(&mut SenderHeaders<'_>),
    ) -> Result<(), Refusal> {
        SCRATCH.with_borrow_mut(|scratch| {
            let refusal = match self.router.find(arrival.address) {
                Found::Nothing => Refusal::NoRoute,
                // Never dead-lettered (contract, §1): who may not send may not fill a topic with it either.
                Found::Route(target, captures) | Found::UncleanCapture(target, captures)
                    if !arrival.allowed && !target.allows(&captures, arrival.sender) =>
                {
                    return Err(Refusal::NotAllowed);
                }
                Found::UncleanCapture(..) => Refusal::UncleanCapture,
                Found::Route(target, captures) => {
                    let Some(route) = self.routes.get(target.route) else { return Err(Refusal::NoRoute) };
                    match route.read(arrival.payload) {
                        Err(problem) => Refusal::Schema(problem),
                        Ok(event_time) => {
                            let id = self.write_headers(scratch, arrival, &sender_headers);
                            if let Some(time) = event_time {
                                scratch.headers.push("ce_time", time.as_bytes());
                            }
                            let keyed = target.render_key(&captures, arrival.sender, &mut scratch.key);
                            return self.submit(key, lane, scratch, arrival, route.topic, keyed, id, false);
                        }
                    }
                }
            };
            let Some(topic) = self.dead_letter.filter(|_| arrival.dead_letter) else { return Err(refusal) };
            let id = self.write_headers(scratch, arrival, &sender_headers);
            let (reason, detail) = match &refusal {
                Refusal::Schema(problem) => ("schema", problem.as_str()),
                Refusal::UncleanCapture => ("unclean-capture", ""),
                _ => ("no-route", ""),
            };
            scratch.headers.push("penstock_reason", reason.as_bytes());
            if !detail.is_empty() {
                scratch.headers.push("penstock_detail", detail.as_bytes());
            }
            scratch.headers.push("penstock_endpoint", self.endpoint.as_bytes());
            self.submit(key, lane, scratch, arrival, topic, false, id, true)
        })
    }

    /// Writes the `CloudEvents` attributes (Kafka protocol binding 1.0.2, binary mode) and the sender's headers.
    fn write_headers(
        &self,
        scratch: &mut Scratch,
        arrival: &Arrival<'_>,
        sender_headers: &impl Fn(&mut SenderHeaders<'_>),
    ) -> MessageId {
        let id = arrival.id();
        let headers = &mut scratch.headers;
        headers.clear();
        headers.push("ce_specversion", b"1.0");
        id.with_text(|text| headers.push("ce_id", text.as_bytes()));
        headers.push("ce_source", self.source.as_bytes());
        headers.push("ce_type", EVENT_TYPE);
        headers.push("ce_subject", arrival.subject.as_bytes());
        sender_headers(&mut SenderHeaders(headers));
        id
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one record, used in two places")]
    fn submit(
        &self,
        key: LaneKey,
        lane: &Lane,
        scratch: &Scratch,
        arrival: &Arrival<'_>,
        topic: usize,
        keyed: bool,
        id: MessageId,
        dead_letter: bool,
    ) -> Result<(), Refusal> {
        let record = Record {
            topic,
            key: keyed.then_some(scratch.key.as_slice()),
            payload: arrival.payload,
            headers: scratch.headers.list(),
            timestamp_millis: unix_millis(),
        };
        let Arrival { tag, ticket, arrived, .. } = *arrival;
        let back = Return { id, tag, ticket, refusal: 0, dead_letter, duplicate: false, arrived };
        self.store.submit(key, lane, &self.budget, &record, back).map_err(|error| match error {
            SubmitError::Transient(cause) => Refusal::Transient(cause),
            SubmitError::TooLarge { limit_bytes } => Refusal::TooLarge { limit_bytes },
        })
    }
}

impl Route {
    /// Reads what the route wants to know of a payload: whether it matches the schema, and its event time.
    fn read(&self, payload: &[u8]) -> Result<Option<String>, String> {
        if self.schema.is_none() && self.event_time.is_none() {
            return Ok(None);
        }
        let document: serde_json::Value = match serde_json::from_slice(payload) {
            Ok(document) => document,
            Err(_) if self.schema.is_none() => return Ok(None),
            Err(error) => return Err(format!("the payload is not JSON (route {}): {error}", self.name)),
        };
        if let Some(schema) = &self.schema {
            schema.check(&document)?;
        }
        Ok(self.event_time.as_deref().and_then(|pointer| schema::event_time(&document, pointer)))
    }
}

fn router(config: &EdgeConfig, endpoint: &EndpointConfig) -> Result<Router, IntakeError> {
    let inconsistent = |route: &str, error: penstock_crds::pattern::PatternError| {
        IntakeError::Inconsistent(format!("route {route}: {error}"))
    };
    let mut router = Router::default();
    for (index, route) in config.routes.iter().enumerate() {
        let template = route.key.as_deref().map(KeyTemplate::parse);
        let key = template.transpose().map_err(|error| inconsistent(&route.name, error))?;
        let allow = route.allow.iter().map(|(capture, template)| {
            let template = IdentityTemplate::parse(template)
                .map_err(|error| IntakeError::Inconsistent(format!("route {}: {error}", route.name)))?;
            Ok((capture.clone(), template))
        });
        let allow = allow.collect::<Result<Vec<_>, IntakeError>>()?;
        for source in route.from.iter().filter(|source| source.endpoint == endpoint.name) {
            let pattern = match endpoint.protocol {
                ProtocolConfig::Mqtt(_) => Pattern::topic_filter(&source.pattern),
                ProtocolConfig::Http(_) => Pattern::path(&source.pattern),
            };
            let pattern = pattern.map_err(|error| inconsistent(&route.name, error))?;
            router.add(&pattern, index, key.as_ref(), &allow);
        }
    }
    Ok(router)
}

/// Now, in Unix milliseconds.
#[must_use]
pub fn unix_millis() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}
