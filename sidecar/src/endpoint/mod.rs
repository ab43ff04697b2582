//! Endpoints: listeners, connections, and the protocols they speak.

pub mod connections;
pub mod http;
pub mod listener;
pub mod mqtt;

use std::sync::Arc;
use std::time::Duration;

use penstock_crds::edge::{EndpointConfig, ProtocolConfig};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::intake::Intake;
use connections::Connections;
use http::HttpEndpoint;
use mqtt::MqttEndpoint;

/// The slowest that a sender may be with a message, beside a fixed time for each.
const SLOWEST_BYTES_PER_SECOND: u64 = 16_384;

/// How much longer than a short message one of so many bytes may take: who is slower holds a budget for nothing.
fn time_for(bytes: usize) -> Duration {
    Duration::from_secs(bytes as u64 / SLOWEST_BYTES_PER_SECOND)
}

/// An endpoint of the pipeline.
pub struct Endpoint {
    intake: Arc<Intake>,
    protocol: Protocol,
}

enum Protocol {
    Mqtt(Arc<MqttEndpoint>),
    Http(Arc<HttpEndpoint>),
}

impl Endpoint {
    /// The endpoint that `config` describes, in front of `intake`.
    #[must_use]
    pub fn new(config: &EndpointConfig, intake: Arc<Intake>, ack_timeout: Duration) -> Self {
        let limits = config.limits.clone();
        let protocol = match &config.protocol {
            ProtocolConfig::Mqtt(mqtt) => {
                Protocol::Mqtt(MqttEndpoint::new(Arc::clone(&intake), mqtt.clone(), limits, ack_timeout))
            }
            ProtocolConfig::Http(http) => {
                Protocol::Http(HttpEndpoint::new(Arc::clone(&intake), http.clone(), limits, ack_timeout))
            }
        };
        Self { intake, protocol }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.intake.ledger().name()
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

    /// Accepts connections until `stop`.
    pub async fn serve(&self, listener: TcpListener, stop: CancellationToken) {
        match &self.protocol {
            Protocol::Mqtt(endpoint) => Arc::clone(endpoint).serve(listener, stop).await,
            Protocol::Http(endpoint) => Arc::clone(endpoint).serve(listener, stop).await,
        }
    }
}
