//! One client, and what is asked through it. Everything here blocks; [`super::clusters`] keeps it off the runtime.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use penstock_sidecar::store::kafka::admin::{Admin, NewTopic, Refusal, TopicDescription};
use penstock_sidecar::store::kafka::token;
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::{ClientConfig, FromClientConfigAndContext as _, RDKafkaLogLevel};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode as Code};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, Producer as _, ProducerContext};

use super::access::Access;
use super::error::{KafkaError, Request, Trouble};
use super::seen::{Seen, SeenTopic, TopicFacts};
use super::step::{Failures, Step};

/// How long the brokers may take for all that one call asks.
pub(super) const CALL: Duration = Duration::from_secs(10);

/// Events of the client that are taken in at once: more than it has between two calls.
const EVENTS: usize = 256;

/// A client with the credentials of one [`Access`].
pub(super) struct Connection {
    access: Access,
    /// A client of some kind is needed; this one has no threads beside librdkafka's own, and produces nothing.
    client: Option<BaseProducer<Errors>>,
}

/// Notes what the client says of itself.
#[derive(Default)]
struct Errors(Mutex<Noted>);

#[derive(Default)]
struct Noted {
    authentication: bool,
    /// Why the last token could not be had.
    no_token: Option<String>,
    trouble: Option<Trouble>,
}

impl ClientContext for Errors {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, request: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        let fetched = token::fetch(request);
        self.0.lock().no_token = fetched.as_ref().err().map(ToString::to_string);
        Ok(fetched?)
    }

    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(target: "librdkafka", facility, "{message}");
    }

    fn error(&self, error: ClientError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, "{reason}");
        let mut noted = self.0.lock();
        match error.rdkafka_error_code() {
            Some(Code::Authentication | Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism) => {
                noted.authentication = true;
            }
            Some(Code::SSL) => noted.trouble = Some(Trouble::Tls),
            Some(Code::Resolve) => noted.trouble = Some(Trouble::Name),
            // A guess of librdkafka's at a connection that ends in its first moments; it has no code of its own.
            _ if ["listener?", "security.protocol"].iter().any(|hint| reason.contains(hint)) => {
                noted.trouble = Some(Trouble::Listener);
            }
            _ => {}
        }
    }
}

impl ProducerContext for Errors {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

impl Connection {
    /// A client. It connects when it is asked something.
    pub(super) fn new(access: Access) -> Result<Self, KafkaError> {
        let mut settings = ClientConfig::new();
        settings.set_log_level(RDKafkaLogLevel::Warning);
        for (name, value) in access.settings() {
            settings.set(*name, value);
        }
        let client = BaseProducer::from_config_and_context(&settings, Errors::default())
            .map_err(|error| not_made(&access, &error))?;
        Ok(Self { access, client: Some(client) })
    }

    /// Whether the client has noticed since the last call that its credentials are refused. They may be right again,
    /// but this client would not say so soon.
    pub(super) fn is_refused(&self) -> bool {
        self.noticed() == Some(Code::Authentication)
    }

    /// Takes in what the client has to say, and returns the error that makes it useless to wait.
    fn noticed(&self) -> Option<Code> {
        let client = self.client.as_ref()?;
        // One event a call.
        (0..EVENTS).for_each(|_| client.poll(Duration::ZERO));
        client.context().0.lock().authentication.then_some(Code::Authentication)
    }

    fn ask<T>(&self, ask: impl FnOnce(Admin<'_>) -> Result<T, Code>) -> Result<T, KafkaError> {
        let Some(client) = &self.client else { return Err(self.failed(Code::BrokerDestroy)) };
        let watch = || self.noticed();
        let answer = ask(Admin::of(client.client()).watched(&watch)).map_err(|error| self.failed(error))?;
        client.context().0.lock().trouble = None;
        Ok(answer)
    }

    /// Looks at topics of the cluster.
    pub(super) fn look(&self, names: &BTreeSet<String>) -> Result<Seen, KafkaError> {
        let deadline = Instant::now() + CALL;
        let cluster_id = self.ask(|admin| admin.cluster_id(deadline))?.unwrap_or_default();
        let mut topics = BTreeMap::new();
        let names: Vec<_> = names.iter().filter_map(|name| c_string(name)).collect();
        if names.is_empty() {
            return Ok(Seen { cluster_id, topics });
        }
        for description in self.ask(|admin| admin.describe_topics(&names, deadline))? {
            topics.insert(description.name.clone(), self.seen(description));
        }
        let present: Vec<_> = topics
            .iter()
            .filter(|(_, topic)| matches!(topic, SeenTopic::Present(_)))
            .filter_map(|(name, _)| c_string(name))
            .collect();
        if !present.is_empty() {
            self.read_configs(&present, deadline, &mut topics)?;
        }
        Ok(Seen { cluster_id, topics })
    }

    fn seen(&self, description: TopicDescription) -> SeenTopic {
        let TopicDescription { name, error, id, partitions, replication_factor, may_write: _ } = description;
        match error {
            None => {
                let unread =
                    Err(self.refused(Request::DescribeConfigs, &name, Code::UnknownTopicOrPartition, ""));
                SeenTopic::Present(TopicFacts { id, partitions, replication_factor, configs: unread })
            }
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => SeenTopic::Absent,
            Some(code) => SeenTopic::Hidden(self.refused(Request::Describe, &name, code, "")),
        }
    }

    fn read_configs(
        &self,
        names: &[CString],
        deadline: Instant,
        topics: &mut BTreeMap<String, SeenTopic>,
    ) -> Result<(), KafkaError> {
        for description in self.ask(|admin| admin.describe_configs(names, deadline))? {
            if let Some(SeenTopic::Present(facts)) = topics.get_mut(&description.name) {
                facts.configs = match description.entries {
                    Ok(entries) => Ok(entries.into_iter().collect()),
                    Err(code) => Err(self.refused(Request::DescribeConfigs, &description.name, code, "")),
                };
            }
        }
        Ok(())
    }

    /// Carries out steps, each of its kind in one request.
    pub(super) fn carry_out(&self, steps: &[Step]) -> Result<Failures, KafkaError> {
        let deadline = Instant::now() + CALL;
        let (mut create, mut grow, mut configure) = (Vec::new(), Vec::new(), Vec::new());
        for step in steps {
            match step {
                Step::Create { topic, partitions, replication_factor, configs } => {
                    create.extend(c_string(topic).map(|name| NewTopic {
                        name,
                        partitions: *partitions,
                        replication_factor: *replication_factor,
                        configs: c_strings(configs),
                    }))
                }
                Step::Grow { topic, partitions } => {
                    grow.extend(c_string(topic).zip(usize::try_from(*partitions).ok()));
                }
                Step::Configure { topic, configs } => {
                    configure.extend(c_string(topic).map(|name| (name, c_strings(configs))));
                }
            }
        }
        let mut failures = Failures::new();
        if !create.is_empty() {
            let mut refusals = self.ask(|admin| admin.create_topics(&create, deadline))?;
            // The intent was recorded: it is ours from an attempt whose answer was lost, and is looked at next.
            refusals.retain(|refusal| refusal.code != Code::TopicAlreadyExists);
            self.note(Request::Create, refusals, &mut failures);
        }
        if !grow.is_empty() {
            let refusals = self.ask(|admin| admin.create_partitions(&grow, deadline))?;
            self.note(Request::Grow, refusals, &mut failures);
        }
        if !configure.is_empty() {
            let refusals = self.ask(|admin| admin.set_configs(&configure, deadline))?;
            self.note(Request::Configure, refusals, &mut failures);
        }
        Ok(failures)
    }

    fn note(&self, request: Request, refusals: Vec<Refusal>, failures: &mut Failures) {
        for Refusal { topic, code, message } in refusals {
            let error = self.refused(request, &topic, code, &message);
            failures.entry(topic).or_insert(error);
        }
    }

    fn refused(&self, request: Request, topic: &str, code: Code, message: &str) -> KafkaError {
        request.refused(self.access.user(), topic, code, message)
    }

    /// Why a call as a whole failed.
    fn failed(&self, error: Code) -> KafkaError {
        let servers = self.access.servers().join(",");
        if let Some(message) =
            self.client.as_ref().and_then(|client| client.context().0.lock().no_token.clone())
        {
            return KafkaError::Token { field: self.access.credentials(), message };
        }
        match error {
            Code::Authentication | Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism => {
                KafkaError::Authentication { servers, field: self.access.credentials() }
            }
            Code::ClusterAuthorizationFailed => KafkaError::NotAuthorized {
                who: self.access.user().to_owned(),
                what: "ask this of the cluster".to_owned(),
                acl: "Describe on the cluster".to_owned(),
            },
            Code::UnsupportedFeature | Code::UnsupportedVersion => KafkaError::Refused {
                what: format!("Kafka at {servers} is too old"),
                message: error.to_string(),
                retryable: false,
            },
            error if (error as i32) > 0 => KafkaError::Refused {
                what: format!("Kafka at {servers}"),
                message: error.to_string(),
                retryable: true,
            },
            _ => {
                let noted = self.client.as_ref().and_then(|client| client.context().0.lock().trouble);
                KafkaError::Unreachable { servers, trouble: noted.unwrap_or(Trouble::Silence) }
            }
        }
    }
}

impl Drop for Connection {
    /// Closing waits for librdkafka's threads, and those for a name server that may not answer.
    fn drop(&mut self) {
        let client = self.client.take();
        // If the system gives no thread, the closure is dropped here, and the client with it.
        let _ = std::thread::Builder::new().name("kafka-close".to_owned()).spawn(move || drop(client));
    }
}

fn c_string(text: &str) -> Option<CString> {
    CString::new(text).ok()
}

fn c_strings(configs: &BTreeMap<String, String>) -> Vec<(CString, CString)> {
    configs.iter().filter_map(|(name, value)| c_string(name).zip(c_string(value))).collect()
}

/// Why there is no client, without the values of its settings, which may be secrets.
fn not_made(access: &Access, error: &ClientError) -> KafkaError {
    let message = match error {
        // It is read when the client is made.
        ClientError::ClientCreation(message) if message.contains("ssl.ca.pem") => {
            return KafkaError::Reference {
                field: "spec.kafka.tls.ca",
                message: "the Secret holds no certificates in PEM that can be read: correct it".to_owned(),
            };
        }
        ClientError::ClientCreation(message) => message.clone(),
        ClientError::ClientConfig(_, _, name, _) => format!("setting {name} is not taken"),
        _ => "its settings are not taken".to_owned(),
    };
    KafkaError::Client { servers: access.servers().join(","), message }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use k8s_openapi::api::core::v1::Secret;
    use penstock_crds::pipeline::Kafka;
    use serde_json::json;

    use super::*;
    use crate::reason::Reason;

    #[test]
    fn certificates_that_cannot_be_read_are_told_as_the_secrets_fault() {
        let kafka: Kafka = serde_json::from_value(
            json!({"bootstrapServers": ["kafka:9092"], "tls": {"ca": {"name": "ca"}}}),
        )
        .unwrap();
        let mut secret = Secret::default();
        secret.metadata.name = Some("ca".to_owned());
        let pem = "-----BEGIN CERTIFICATE-----\nc2VjcmV0\n-----END CERTIFICATE-----\n";
        for value in ["no certificate at all", pem] {
            secret.data = Some([("ca.crt".to_owned(), ByteString(value.as_bytes().to_vec()))].into());
            let access = Access::new("iot", &kafka, std::slice::from_ref(&secret)).unwrap();
            let error = Connection::new(access).err().unwrap();
            assert_eq!(error.reason(), Reason::ReferenceNotFound, "{error}");
            assert!(error.to_string().starts_with("spec.kafka.tls.ca: ") && error.is_retryable(), "{error}");
            assert!(!error.to_string().contains(value), "{error}");
        }
    }
}
