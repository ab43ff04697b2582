//! An API server whose Deployments are played, and Kafka: what tests of the operator need that need no pods.

use crate::deployments::Deployments;
use crate::{ApiServer, Kafka, Pipeline};

/// The parts.
pub struct Playground {
    /// The API server, with our resource and the namespace `iot`.
    pub api: ApiServer,
    /// Plays the Deployments.
    pub player: Deployments,
    /// A Kafka that nobody breaks.
    pub kafka: &'static Kafka,
}

impl Playground {
    /// Starts all of it.
    #[track_caller]
    pub fn start() -> Self {
        Self::on(ApiServer::serving_pipelines())
    }

    /// As [`Playground::start`], on an API server of its own.
    #[track_caller]
    pub fn on(api: ApiServer) -> Self {
        let player = Deployments::play(&api);
        Self { api, player, kafka: Kafka::shared() }
    }

    /// The pipeline `name` in `iot`, with a topic of its own.
    #[track_caller]
    pub fn pipeline(&self, name: &str) -> Pipeline {
        let topic = self.kafka.create_topic(name, 1);
        Pipeline::telemetry(self.kafka, &topic).set("/metadata/namespace", "iot").set("/metadata/name", name)
    }
}
