//! Endpoints: listeners, connections, and the protocols they speak.

pub mod connections;
pub mod http;
pub mod listener;
pub mod mqtt;
pub mod wire;

use std::sync::Arc;
use std::time::Duration;

use penstock_crds::edge::{EndpointConfig, ProtocolConfig};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::intake::Intake;
use crate::session::store::SessionStore;
use connections::Connections;
use http::HttpEndpoint;
use mqtt::MqttEndpoint;
use wire::door::Door;

/// The slowest that a sender may be with a message, beside a fixed time for each.
const SLOWEST_BYTES_PER_SECOND: u64 = 16_384;

/// How much longer than a short message one of so many bytes may take: who is slower holds a budget for nothing.
fn time_for(bytes: usize) -> Duration {
    Duration::from_secs(bytes as u64 / SLOWEST_BYTES_PER_SECOND)
}

/// Where the senders of an endpoint are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Wherever the pod can be reached from.
    Outside,
    /// In the pod itself, on loopback.
    Pod,
}

impl Reach {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Outside, Self::Pod];
}

/// An endpoint of the pipeline.
pub struct Endpoint {
    intake: Arc<Intake>,
    reach: Reach,
    protocol: Protocol,
    door: Arc<Door>,
}

enum Protocol {
    Mqtt(Arc<MqttEndpoint>),
    Http(Arc<HttpEndpoint>),
}

impl Endpoint {
    /// The endpoint that `config` describes, in front of `intake` and behind `door`.
    #[must_use]
    pub fn new(
        config: &EndpointConfig,
        intake: Arc<Intake>,
        ack_timeout: Duration,
        door: Door,
        sessions: &Option<Arc<SessionStore>>,
    ) -> Self {
        let limits = config.limits.clone();
        let protocol = match &config.protocol {
            ProtocolConfig::Mqtt(mqtt) => {
                let (intake, sessions) = (Arc::clone(&intake), sessions.clone());
                Protocol::Mqtt(MqttEndpoint::new(intake, mqtt.clone(), limits, ack_timeout, sessions))
            }
            ProtocolConfig::Http(http) => {
                Protocol::Http(HttpEndpoint::new(Arc::clone(&intake), http.clone(), limits, ack_timeout))
            }
        };
        let reach = if config.loopback { Reach::Pod } else { Reach::Outside };
        Self { intake, reach, protocol, door: Arc::new(door) }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.intake.ledger().name()
    }

    /// Where its senders are.
    #[must_use]
    pub fn reach(&self) -> Reach {
        self.reach
    }

    /// Its way in.
    #[must_use]
    pub fn intake(&self) -> &Arc<Intake> {
        &self.intake
    }

    /// Who is connected.
    #[must_use]
    pub fn connections(&self) -> &Arc<Connections> {
        match &self.protocol {
            Protocol::Mqtt(endpoint) => endpoint.connections(),
            Protocol::Http(endpoint) => endpoint.connections(),
        }
    }

    /// What connections go through before they are served.
    #[must_use]
    pub fn door(&self) -> &Door {
        &self.door
    }

    /// The MQTT endpoint that it is, if it is one.
    #[must_use]
    pub fn mqtt(&self) -> Option<&Arc<MqttEndpoint>> {
        match &self.protocol {
            Protocol::Mqtt(endpoint) => Some(endpoint),
            Protocol::Http(_) => None,
        }
    }

    /// Accepts connections until `stop`.
    pub async fn serve(&self, listener: TcpListener, stop: CancellationToken) {
        let door = Arc::clone(&self.door);
        match &self.protocol {
            Protocol::Mqtt(endpoint) => Arc::clone(endpoint).serve(listener, door, stop).await,
            Protocol::Http(endpoint) => Arc::clone(endpoint).serve(listener, door, stop).await,
        }
    }
}
