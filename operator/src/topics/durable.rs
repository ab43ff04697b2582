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
