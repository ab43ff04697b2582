//! The client of the API server.

use std::sync::Arc;
use std::time::Duration;

use kube::client::ClientBuilder;
use kube::{Client, Config, Resource};
use penstock_crds::pipeline::IngestPipeline;
use tower::buffer::BufferLayer;

use crate::patience::Patience;
use crate::telemetry::Telemetry;
use crate::telemetry::calls::Count;

/// The pause between two looks for our resource.
const LOOK: Duration = Duration::from_secs(1);

/// How many calls may wait to be sent, as in kube's own client.
const WAITING: usize = 1_024;

/// A client for the API server of `config`, whose calls come to their end and are counted.
///
/// # Errors
/// When its certificates or credentials cannot be read.
pub fn connect(mut config: Config, telemetry: &Telemetry) -> kube::Result<Client> {
    // Other crates of the workspace bring a second provider, and rustls would not choose between them. An error means
    // that this process has chosen already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // Ours does.
    config.default_retry = false;
    let client = ClientBuilder::try_from(config)?
        .with_layer(&BufferLayer::new(WAITING))
        .with_layer(&Patience)
        .with_layer(&Count(Arc::clone(telemetry.metrics())));
    Ok(client.build())
}

/// Waits until the API server serves our resource. It says so to everybody who is authenticated; no role is needed.
pub async fn until_served(client: &Client, telemetry: &Telemetry) {
    let mut told = String::new();
    loop {
        let trouble = match client.list_api_group_resources(&IngestPipeline::api_version(&())).await {
            Ok(list) if list.resources.iter().any(|found| found.name == IngestPipeline::plural(&())) => {
                telemetry.resource_served();
                return;
            }
            Ok(_) => "it does not serve our resource".to_owned(),
            Err(kube::Error::Api(status)) => {
                telemetry.api_server_reached();
                status.to_string()
            }
            Err(error) => error.to_string(),
        };
        if told != trouble {
            tracing::warn!(
                trouble,
                "waiting for the API server to serve {}",
                penstock_crds::schema::CRD_NAME
            );
            told = trouble;
        }
        tokio::time::sleep(LOOK).await;
    }
}
