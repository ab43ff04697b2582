//! The topic thread: looks at the topics every few seconds.

use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode as Code;

use super::admin::ConfigDescription;
use super::native::{Descriptions, Native};
use super::{KafkaStore, Observer, Topic};

/// How often the topics are looked at while all is well.
const LOOK: Duration = Duration::from_secs(5);
/// How often while something is not.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How long the brokers may take for one answer.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);

impl KafkaStore {
    /// Has the topics looked at without waiting for the next time, and then as often as while something is not well.
    pub(super) fn look_now(&self) {
        // A full channel holds a wake-up already.
        let _ = self.look.try_send(());
    }

    pub(super) fn look_at_topics(&self, wake: &mpsc::Receiver<()>) {
        loop {
            let all_well = self.look_once();
            self.looked.send_replace(true);
            if all_well {
                self.health.seen();
            }
            let pause = if all_well { LOOK } else { LOOK_AGAIN };
            let woken = wake.recv_timeout(pause);
            if self.ending.load(Ordering::Acquire) || woken == Err(mpsc::RecvTimeoutError::Disconnected) {
                return;
            }
        }
    }

    /// Describes all topics once. Returns whether all of them take messages.
    fn look_once(&self) -> bool {
        // The client is held, not its generation, which waits for its last holder when it is retired.
        let Some((native, batch_bytes)) =
            self.producer.load().as_ref().map(|generation| (generation.native(), generation.batch_bytes()))
        else {
            return false;
        };
        let asked = Instant::now();
        let (descriptions, configs) = match self.ask(&native) {
            Ok(answers) => answers,
            Err(error) => {
                self.health.not_reached(error);
                self.topics.iter().for_each(|topic| topic.unreachable(error));
                return false;
            }
        };
        self.health.reached();
        for topic in &self.topics {
            let Some(description) = descriptions.topics.iter().find(|d| d.name == topic.name()) else {
                continue;
            };
            let config = configs.iter().find(|config| config.name == topic.name());
            let id = topic.id();
            if let Some(news) = topic.observe(asked, description, config) {
                if topic.obstacle().is_some() {
                    tracing::warn!("{news}");
                } else {
                    tracing::info!("{news}");
                }
            }
            if id.is_some()
                && topic.id() != id
                && let Some(generation) = self.producer.load().as_ref()
                && generation.give_up()
            {
                tracing::warn!(topic = topic.name(), "a topic was made anew; replacing the Kafka producer");
            }
        }
        if self.batch_bytes() < batch_bytes
            && let Some(generation) = self.producer.load().as_ref()
            && generation.batch_bytes() == batch_bytes
            && generation.retire()
        {
            tracing::info!("a topic takes smaller batches now; replacing the Kafka producer");
        }
        self.topics.iter().all(|topic| topic.obstacle().is_none())
    }

    fn ask(&self, native: &Native<Observer>) -> Result<(Descriptions, Vec<ConfigDescription>), Code> {
        let names: Vec<_> = self.topics.iter().filter_map(Topic::c_name).collect();
        let descriptions = native.describe_topics(&names, LOOK_TIMEOUT)?;
        let configs = match native.describe_configs(&names, &descriptions, LOOK_TIMEOUT) {
            Ok(configs) => configs,
            // A broker that tells it is welcome and not required; one that only does not answer now is asked again.
            Err(Code::UnsupportedFeature | Code::UnsupportedVersion | Code::ClusterAuthorizationFailed) => {
                Vec::new()
            }
            Err(error) => return Err(error),
        };
        Ok((descriptions, configs))
    }
}
