//! Whether the brokers' real configuration makes an acknowledgement survive the loss of a broker.

use super::seen::{MIN_IN_SYNC_REPLICAS, Seen, SeenTopic, TopicFacts};
use crate::finding::Finding;
use crate::reason::Reason;

/// What makes a topic less than durable, the gravest first, and how to mend it.
const FLAWS: [(Reason, &str, &str); 4] = [
    (Reason::SingleReplica, "one broker keeps the only copy", "give it a replication factor of 2 or more"),
    (
        Reason::SingleInSyncReplica,
        "a message counts as persisted while one broker has it",
        "set min.insync.replicas to 2 or more",
    ),
    (
        Reason::UncleanLeaderElection,
        "a replica that lacks messages may become the leader",
        "set unclean.leader.election.enable to false",
    ),
    (Reason::Compacted, "a later message removes an earlier one of its key", "set cleanup.policy to delete"),
];

/// Judges topics by their names in Kafka.
pub(super) fn judge<'n>(names: impl Iterator<Item = &'n str>, seen: &Seen) -> Finding {
    let mut flawed: [Vec<&str>; 4] = Default::default();
    let mut untold: Vec<(Reason, String)> = Vec::new();
    for name in names {
        let facts = match seen.topics.get(name) {
            Some(SeenTopic::Present(facts)) => facts,
            Some(SeenTopic::Hidden(error)) => {
                untold.push((error.reason(), error.to_string()));
                continue;
            }
            Some(SeenTopic::Absent) | None => {
                untold.push((Reason::Pending, format!("topic {name} is not there yet")));
                continue;
            }
        };
        for (found, (reason, _, _)) in flawed.iter_mut().zip(&FLAWS) {
            match has(facts, *reason) {
                Some(true) => found.push(name),
                Some(false) => {}
                None => untold.push(untold_of(name, facts)),
            }
        }
    }
    let flaws: Vec<_> = FLAWS.iter().zip(&flawed).filter(|(_, topics)| !topics.is_empty()).collect();
    if let Some(((reason, _, _), _)) = flaws.first() {
        let all: Vec<_> = flaws
            .iter()
            .map(|((_, what, advice), topics)| format!("{}: {what}; {advice}", topics.join(", ")))
            .collect();
        return Finding::fails(*reason, all.join(". "));
    }
    match untold.into_iter().next() {
        Some((reason, message)) => Finding::unknown(reason, message),
        None => Finding::holds(
            Reason::Replicated,
            "every topic has two or more replicas, and two or more have a message before it is acknowledged",
        ),
    }
}

/// Whether a topic has this flaw; nothing if that may not be read.
fn has(facts: &TopicFacts, flaw: Reason) -> Option<bool> {
    match flaw {
        Reason::SingleReplica => Some(facts.replication_factor < 2),
        Reason::SingleInSyncReplica => facts.config(MIN_IN_SYNC_REPLICAS)?.parse::<i32>().ok().map(|n| n < 2),
        Reason::UncleanLeaderElection => {
            facts.config("unclean.leader.election.enable").map(|value| !value.eq_ignore_ascii_case("false"))
        }
        _ => facts.config("cleanup.policy").map(|value| value.split(',').any(|part| part.trim() != "delete")),
    }
}

fn untold_of(name: &str, facts: &TopicFacts) -> (Reason, String) {
    match &facts.configs {
        Err(error) => (error.reason(), error.to_string()),
        Ok(_) => {
            (Reason::NotAuthorized, format!("Kafka does not tell the whole configuration of topic {name}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Truth;
    use crate::topics::KafkaError;

    fn facts(replication_factor: i32, minimum: &str, unclean: &str, cleanup: &str) -> SeenTopic {
        let configs = [
            (MIN_IN_SYNC_REPLICAS, minimum),
            ("unclean.leader.election.enable", unclean),
            ("cleanup.policy", cleanup),
        ];
        let configs = configs.map(|(name, value)| (name.to_owned(), value.to_owned()));
        SeenTopic::Present(TopicFacts {
            id: None,
            partitions: 1,
            replication_factor,
            configs: Ok(configs.into()),
        })
    }

    fn verdict(topics: &[(&str, SeenTopic)]) -> Finding {
        let topics = topics.iter().map(|(name, topic)| ((*name).to_owned(), topic.clone())).collect();
        let seen = Seen { cluster_id: "c".to_owned(), topics };
        judge(seen.topics.keys().map(String::as_str), &seen)
    }

    fn unreadable() -> KafkaError {
        KafkaError::NotAuthorized { who: "u".to_owned(), what: "w".to_owned(), acl: "a".to_owned() }
    }

    #[test]
    fn each_flaw_has_its_reason_and_names_its_topics() {
        let good = facts(3, "2", "false", "delete");
        for (topic, reason) in [
            (facts(1, "1", "true", "compact"), Reason::SingleReplica),
            (facts(3, "1", "false", "delete"), Reason::SingleInSyncReplica),
            (facts(3, "2", "true", "delete"), Reason::UncleanLeaderElection),
            (facts(3, "2", "false", "compact"), Reason::Compacted),
            (facts(3, "2", "false", "compact,delete"), Reason::Compacted),
        ] {
            let found = verdict(&[("good", good.clone()), ("bad", topic)]);
            assert_eq!((found.truth, found.reason), (Truth::False, reason));
            assert!(found.message.starts_with("bad: "), "{}", found.message);
        }
        let found = verdict(&[("a", good.clone()), ("b", good)]);
        assert_eq!((found.truth, found.reason), (Truth::True, Reason::Replicated));
    }

    #[test]
    fn what_may_not_be_read_is_unknown_unless_something_is_known_to_be_flawed() {
        let hidden = SeenTopic::Hidden(unreadable());
        let unread = SeenTopic::Present(TopicFacts {
            id: None,
            partitions: 1,
            replication_factor: 3,
            configs: Err(unreadable()),
        });
        for topic in [hidden, unread] {
            let found = verdict(&[("a", topic.clone())]);
            assert_eq!((found.truth, found.reason), (Truth::Unknown, Reason::NotAuthorized));
            let found = verdict(&[("a", topic), ("b", facts(1, "1", "false", "delete"))]);
            assert_eq!((found.truth, found.reason), (Truth::False, Reason::SingleReplica));
        }
        let found = verdict(&[("a", SeenTopic::Absent)]);
        assert_eq!((found.truth, found.reason), (Truth::Unknown, Reason::Pending));
    }
}
