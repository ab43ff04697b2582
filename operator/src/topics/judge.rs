//! The judgement on one topic.

use std::collections::BTreeMap;

use penstock_crds::pipeline::{Management, PartitionGrowth, TopicSpec, TopicState, TopicStatus};
use penstock_crds::problem::{below, element};

use super::error::KafkaError;
use super::seen::{MIN_IN_SYNC_REPLICAS, Seen, SeenTopic, TopicFacts, same_value};
use super::step::{Failures, Step};
use super::wanted::Wanted;
use crate::reason::Reason;

/// What is to become of a topic, and what to tell.
pub(super) struct Verdict {
    pub(super) steps: Vec<Step>,
    pub(super) status: TopicStatus,
    /// The steps create it.
    pub(super) intends: bool,
    pub(super) outcome: Outcome,
}

/// How a topic stands.
#[derive(Debug)]
pub(super) enum Outcome {
    AsDeclared,
    /// On its way.
    Waiting {
        reason: Reason,
        what: String,
    },
    Wrong {
        reason: Reason,
        message: String,
    },
}

/// What is wrong with a topic, at a field of it (empty for the topic itself).
struct Wrong {
    reason: Reason,
    field: &'static str,
    message: String,
}

/// A topic of the spec and what belongs to it.
struct Topic<'a> {
    path: String,
    spec: &'a TopicSpec,
    /// Its name in Kafka.
    name: &'a str,
    record: Option<&'a TopicStatus>,
    /// The stored status says that the topic of this name is the pipeline's own.
    is_ours: bool,
    adopt: bool,
}

/// Judges the topic at `index` of the spec.
pub(super) fn judge(index: usize, wanted: &Wanted<'_>, seen: &Seen, failures: &Failures) -> Option<Verdict> {
    let spec = wanted.topics.get(index)?;
    let name = spec.kafka_name();
    let topic = Topic {
        path: element("spec.topics", index),
        spec,
        name,
        record: wanted.recorded.iter().find(|record| record.name == spec.name),
        is_ours: wanted
            .recorded
            .iter()
            .any(|record| record.managed == Some(true) && record.topic_name.as_deref() == Some(name)),
        adopt: wanted.adopt,
    };
    let external = spec.management() == Management::External;
    if let Some(old) = topic.renamed_from(seen).filter(|_| !external) {
        return Some(topic.keeps_name(old));
    }
    if wanted.lost.contains(name) && !external {
        return Some(topic.lost(seen.topics.get(name)));
    }
    Some(match seen.topics.get(name) {
        None => topic.unseen(),
        Some(SeenTopic::Hidden(error)) => topic.hidden(error),
        Some(SeenTopic::Absent) if external => topic.not_found(),
        Some(SeenTopic::Absent) => topic.create(failures.get(name)),
        Some(SeenTopic::Present(facts)) => topic.compare(facts, failures.get(name)),
    })
}

impl<'a> Topic<'a> {
    /// The name that the pipeline's own topic had, if it is another one now and the topic may still be there.
    fn renamed_from(&self, seen: &Seen) -> Option<&'a str> {
        let record = self.record.filter(|record| record.managed == Some(true))?;
        let old = record.topic_name.as_deref().filter(|old| *old != self.name)?;
        (seen.topics.get(old) != Some(&SeenTopic::Absent)).then_some(old)
    }

    fn keeps_name(&self, old: &str) -> Verdict {
        let wrong = Wrong {
            reason: Reason::UnsupportedTopicChange,
            field: "topicName",
            message: format!(
                "topic {old} cannot be renamed to {}, and is left as it is: set topicName back to {old}, or declare \
                 the new topic under another name of its own",
                self.name
            ),
        };
        // The record stays, or the old name would be forgotten and the change look allowed the next time.
        self.wrong(self.record.cloned().unwrap_or_else(|| self.status(None, None)), wrong)
    }

    fn lost(&self, seen: Option<&SeenTopic>) -> Verdict {
        let facts = match seen {
            Some(SeenTopic::Present(facts)) => Some(facts),
            Some(SeenTopic::Absent | SeenTopic::Hidden(_)) | None => None,
        };
        let wrong = Wrong {
            reason: Reason::TopicConflict,
            field: "",
            message: format!(
                "another, older pipeline manages topic {} of this Kafka cluster: choose another topicName, or set \
                 management: External to only use it",
                self.name
            ),
        };
        self.wrong(self.status(facts, self.is_ours.then_some(true)), wrong)
    }

    fn unseen(&self) -> Verdict {
        let status = self.as_recorded(TopicState::Pending, Some(Reason::Pending));
        let what = format!("topic {} has not been looked at yet", self.name);
        self.verdict(status, Outcome::Waiting { reason: Reason::Pending, what })
    }

    fn hidden(&self, error: &KafkaError) -> Verdict {
        let status = self.as_recorded(TopicState::Failed, None);
        self.wrong(status, Wrong { reason: error.reason(), field: "", message: error.to_string() })
    }

    fn not_found(&self) -> Verdict {
        let wrong = Wrong {
            reason: Reason::TopicNotFound,
            field: "",
            message: format!(
                "topic {} does not exist: create it, or set management: Managed or CreateIfMissing",
                self.name
            ),
        };
        self.wrong(self.status(None, None), wrong)
    }

    fn create(&self, failure: Option<&KafkaError>) -> Verdict {
        let status = self.status(None, Some(true));
        if let Some(error) = failure {
            return self.failed(status, error);
        }
        let what = format!("creating topic {}", self.name);
        let mut verdict = self.changing(status, what);
        verdict.intends = true;
        verdict.steps.push(Step::Create {
            topic: self.name.to_owned(),
            partitions: self.spec.partitions,
            replication_factor: self.spec.replication_factor,
            configs: self.declared_configs(),
        });
        verdict
    }

    fn compare(&self, facts: &TopicFacts, failure: Option<&KafkaError>) -> Verdict {
        let managed = match self.spec.management() {
            Management::Managed => (self.is_ours || self.adopt).then_some(true),
            Management::CreateIfMissing => self.is_ours.then_some(true),
            Management::External => None,
        };
        let status = self.status(Some(facts), managed);
        let checked = match self.spec.management() {
            Management::Managed if managed.is_none() => Err(self.exists()),
            Management::Managed => self.possible(facts).and_then(|()| self.mend(facts)),
            Management::CreateIfMissing => self.numbers(facts).map(|()| Vec::new()),
            Management::External => {
                self.numbers(facts).and_then(|()| self.same_configs(facts)).map(|()| Vec::new())
            }
        };
        match (checked, failure) {
            (Err(wrong), _) => self.wrong(status, wrong),
            (Ok(_), Some(error)) => self.failed(status, error),
            (Ok(steps), None) if steps.is_empty() => self.verdict(status, Outcome::AsDeclared),
            (Ok(steps), None) => {
                let mut verdict = self.changing(status, format!("changing topic {}", self.name));
                verdict.steps = steps;
                verdict
            }
        }
    }

    fn exists(&self) -> Wrong {
        Wrong {
            reason: Reason::TopicExists,
            field: "management",
            message: format!(
                "topic {} exists, and this pipeline has not created it: annotate the pipeline with \
                 penstock.dev/adopt: \"true\" to have it managed, or set management: External to only use it",
                self.name
            ),
        }
    }

    /// Refuses what Kafka cannot follow, or would follow at the cost of the order of keys.
    fn possible(&self, facts: &TopicFacts) -> Result<(), Wrong> {
        let name = self.name;
        let unsupported = |field, message| Wrong { reason: Reason::UnsupportedTopicChange, field, message };
        if let Some(partitions) = self.spec.partitions.filter(|wanted| *wanted != facts.partitions) {
            let there = facts.partitions;
            if partitions < there {
                let message = format!(
                    "topic {name} has {there} partitions, and Kafka takes none away: set partitions: {there}"
                );
                return Err(unsupported("partitions", message));
            }
            if self.spec.partition_growth != Some(PartitionGrowth::Allow) {
                let message = format!(
                    "topic {name} has {there} partitions, and more would give existing keys other partitions: set \
                     partitions: {there}, or partitionGrowth: Allow if their order may break once"
                );
                return Err(unsupported("partitions", message));
            }
        }
        if let Some(wanted) =
            self.spec.replication_factor.filter(|wanted| *wanted != facts.replication_factor)
        {
            let there = facts.replication_factor;
            let message = format!(
                "topic {name} has replication factor {there}, and only a reassignment of its partitions makes it \
                 {wanted}: do that with Kafka's tools, or set replicationFactor: {there}"
            );
            return Err(unsupported("replicationFactor", message));
        }
        self.reachable_minimum(facts)
    }

    /// Refuses a minimum of in-sync replicas that the topic can never have.
    fn reachable_minimum(&self, facts: &TopicFacts) -> Result<(), Wrong> {
        match self.spec.min_in_sync_replicas {
            Some(wanted) if wanted > facts.replication_factor => Err(Wrong {
                reason: Reason::InvalidTopicConfig,
                field: "minInSyncReplicas",
                message: format!(
                    "topic {} has replication factor {}, so that no message would ever be persisted with \
                     minInSyncReplicas: {wanted}: lower it",
                    self.name, facts.replication_factor
                ),
            }),
            _ => Ok(()),
        }
    }

    /// The steps that bring a managed topic to what is declared.
    fn mend(&self, facts: &TopicFacts) -> Result<Vec<Step>, Wrong> {
        let mut configs = self.declared_configs();
        if !configs.is_empty() {
            let there = self.readable(facts)?;
            configs.retain(|name, wanted| !there.get(name).is_some_and(|there| same_value(there, wanted)));
        }
        let mut steps = Vec::new();
        if let Some(partitions) = self.spec.partitions.filter(|wanted| *wanted > facts.partitions) {
            steps.push(Step::Grow { topic: self.name.to_owned(), partitions });
        }
        if !configs.is_empty() {
            steps.push(Step::Configure { topic: self.name.to_owned(), configs });
        }
        Ok(steps)
    }

    /// Whether a topic that is not changed has what is declared. More is no contradiction: sidecars go by the same.
    fn numbers(&self, facts: &TopicFacts) -> Result<(), Wrong> {
        let minimum = match self.spec.min_in_sync_replicas {
            Some(_) => self.readable(facts).map(|_| facts.min_in_sync_replicas())?,
            None => None,
        };
        let checks = [
            ("partitions", self.spec.partitions, Some(facts.partitions)),
            ("replicationFactor", self.spec.replication_factor, Some(facts.replication_factor)),
            ("minInSyncReplicas", self.spec.min_in_sync_replicas, minimum),
        ];
        for (field, wanted, there) in checks {
            if let (Some(wanted), Some(there)) = (wanted, there)
                && there < wanted
            {
                return Err(self.mismatch(field, &format!("{field}: {there}"), &format!("{wanted}")));
            }
        }
        self.reachable_minimum(facts)
    }

    fn same_configs(&self, facts: &TopicFacts) -> Result<(), Wrong> {
        let declared = self.spec.config.as_ref().filter(|declared| !declared.is_empty());
        let Some(declared) = declared else { return Ok(()) };
        let there = self.readable(facts)?;
        for (name, wanted) in declared {
            let value = there.get(name).map_or("no such setting", String::as_str);
            if !there.get(name).is_some_and(|there| same_value(there, wanted)) {
                return Err(self.mismatch("config", &format!("{name}: {value}"), wanted));
            }
        }
        Ok(())
    }

    fn mismatch(&self, field: &'static str, there: &str, wanted: &str) -> Wrong {
        Wrong {
            reason: Reason::TopicMismatch,
            field,
            message: format!(
                "topic {} has {there}, the pipeline declares {wanted}: correct the declaration, or have the topic \
                 changed by whoever manages it",
                self.name
            ),
        }
    }

    fn readable<'f>(&self, facts: &'f TopicFacts) -> Result<&'f BTreeMap<String, String>, Wrong> {
        facts.configs.as_ref().map_err(|error| Wrong {
            reason: error.reason(),
            field: "config",
            message: error.to_string(),
        })
    }

    /// Everything that is declared of its settings.
    fn declared_configs(&self) -> BTreeMap<String, String> {
        let mut configs = self.spec.config.clone().unwrap_or_default();
        if let Some(minimum) = self.spec.min_in_sync_replicas {
            configs.insert(MIN_IN_SYNC_REPLICAS.to_owned(), minimum.to_string());
        }
        configs
    }

    fn status(&self, facts: Option<&TopicFacts>, managed: Option<bool>) -> TopicStatus {
        TopicStatus {
            name: self.spec.name.clone(),
            topic_name: Some(self.name.to_owned()),
            managed,
            topic_id: facts.and_then(|facts| facts.id.clone()),
            partitions: facts.map(|facts| facts.partitions),
            replication_factor: facts.map(|facts| facts.replication_factor),
            min_in_sync_replicas: facts.and_then(TopicFacts::min_in_sync_replicas),
            state: Some(TopicState::Ready),
            reason: Some(Reason::AsDeclared.to_string()),
        }
    }

    /// What was known of it, in another state.
    fn as_recorded(&self, state: TopicState, reason: Option<Reason>) -> TopicStatus {
        let known = self.record.filter(|record| record.topic_name.as_deref() == Some(self.name));
        TopicStatus {
            state: Some(state),
            reason: reason.map(|reason| reason.to_string()),
            ..known.cloned().unwrap_or_else(|| self.status(None, self.is_ours.then_some(true)))
        }
    }

    fn changing(&self, mut status: TopicStatus, what: String) -> Verdict {
        status.state = Some(TopicState::Pending);
        status.reason = Some(Reason::ChangingTopics.to_string());
        self.verdict(status, Outcome::Waiting { reason: Reason::ChangingTopics, what })
    }

    fn failed(&self, status: TopicStatus, error: &KafkaError) -> Verdict {
        self.wrong(status, Wrong { reason: error.reason(), field: "", message: error.to_string() })
    }

    fn wrong(&self, mut status: TopicStatus, wrong: Wrong) -> Verdict {
        let Wrong { reason, field, message } = wrong;
        status.state = Some(TopicState::Failed);
        status.reason = Some(reason.to_string());
        let path = if field.is_empty() { self.path.clone() } else { below(&self.path, field) };
        self.verdict(status, Outcome::Wrong { reason, message: format!("{path}: {message}") })
    }

    fn verdict(&self, status: TopicStatus, outcome: Outcome) -> Verdict {
        Verdict { steps: Vec::new(), status, intends: false, outcome }
    }
}
