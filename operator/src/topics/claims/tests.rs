use proptest::prelude::*;
use serde_json::json;

use super::*;

fn pipeline(uid: &str, created: &str, topics: &[&str], server: &str) -> IngestPipeline {
    let topics: Vec<_> = topics.iter().map(|name| json!({"name": name, "partitions": 1})).collect();
    serde_json::from_value(json!({
        "apiVersion": "penstock.dev/v1alpha1",
        "kind": "IngestPipeline",
        "metadata": {"namespace": "iot", "name": uid, "uid": uid, "creationTimestamp": created},
        "spec": {"kafka": {"bootstrapServers": [server]}, "topics": topics, "endpoints": [], "routes": []},
    }))
    .unwrap()
}

fn contender(uid: &str, created: &str, topics: &[&str], server: &str) -> Contender {
    Contender::of(&pipeline(uid, created, topics, server)).unwrap()
}

const EARLY: &str = "2026-01-01T00:00:00Z";
const LATE: &str = "2026-01-02T00:00:00Z";

fn names(topics: &[&str]) -> BTreeSet<String> {
    topics.iter().map(|&topic| topic.to_owned()).collect()
}

#[test]
fn the_oldest_owns_a_topic_then_the_lowest_uid() {
    let (old, young) = (contender("b", EARLY, &["t"], "k:1"), contender("a", LATE, &["t", "mine"], "k:1"));
    let all = [young.clone(), old.clone()];
    let claims = Claims::default();
    assert_eq!(claims.lost(&old, &all), names(&[]));
    assert_eq!(claims.lost(&young, &all), names(&["t"]));
    let twin = contender("c", EARLY, &["t"], "k:1");
    let all = [twin.clone(), old.clone()];
    assert_eq!(claims.lost(&twin, &all), names(&["t"]));
    assert_eq!(claims.lost(&old, &all), names(&[]));
}

#[test]
fn the_same_name_in_another_cluster_is_another_topic() {
    let (old, young) = (contender("a", EARLY, &["t"], "k:1"), contender("b", LATE, &["t"], "other:1"));
    let all = [old.clone(), young.clone()];
    let mut claims = Claims::default();
    assert_eq!(claims.lost(&young, &all), names(&[]), "no server in common, and nothing is known");
    assert!(claims.observed(&old, "cluster-1"));
    assert!(claims.observed(&young, "cluster-1"));
    assert!(!claims.observed(&young, "cluster-1"), "that is no news");
    assert_eq!(claims.lost(&young, &all), names(&["t"]), "one cluster by two addresses");
    assert!(claims.observed(&young, "cluster-2"));
    assert_eq!(claims.lost(&young, &all), names(&[]));
    claims.forget("a");
    assert_eq!(claims.lost(&young, std::slice::from_ref(&young)), names(&[]));
}

#[test]
fn two_clusters_behind_one_address_are_two_and_an_address_that_changed_is_unknown_again() {
    let (old, young) = (contender("a", EARLY, &["t"], "K:1"), contender("b", LATE, &["t"], "k:1"));
    let mut claims = Claims::default();
    assert_eq!(claims.lost(&young, std::slice::from_ref(&old)), names(&["t"]), "host names have no case");
    claims.observed(&old, "cluster-1");
    claims.observed(&young, "cluster-2");
    assert_eq!(claims.lost(&young, std::slice::from_ref(&old)), names(&[]));
    let moved = contender("a", EARLY, &["t"], "elsewhere:1");
    assert_eq!(claims.lost(&young, &[moved]), names(&[]));
    let back = contender("a", EARLY, &["t"], "k:1");
    assert!(claims.observed(&back, "cluster-2"));
    assert_eq!(claims.lost(&young, &[back]), names(&["t"]));
}

#[test]
fn those_who_may_win_or_lose_are_looked_at_again() {
    let winner = contender("a", EARLY, &["t", "u"], "k:1");
    let all = [
        winner.clone(),
        contender("b", LATE, &["t"], "k:1"),
        contender("c", LATE, &["other"], "k:1"),
        contender("d", LATE, &["u"], "elsewhere:1"),
    ];
    let claims = Claims::default();
    assert_eq!(claims.rivals(&winner, &all), [("iot".to_owned(), "b".to_owned())]);
}

#[test]
fn who_only_uses_topics_contends_for_none() {
    let mut user = pipeline("a", EARLY, &["t"], "k:1");
    user.spec.topics[0].management = Some(Management::External);
    assert_eq!(Contender::of(&user), None);
    user.spec.topics[0].management = Some(Management::CreateIfMissing);
    assert!(Contender::of(&user).is_some());
}

proptest! {
    #[test]
    fn each_topic_has_exactly_one_owner_in_each_cluster(
        pipelines in prop::collection::vec((0_u8..3, prop::collection::btree_set(0_u8..4, 1..4), 0_u8..3), 1..8)
    ) {
        let mut claims = Claims::default();
        let all: Vec<_> = pipelines
            .iter()
            .enumerate()
            .map(|(index, (day, topics, cluster))| {
                let topics: Vec<_> = topics.iter().map(|topic| format!("t{topic}")).collect();
                let topics: Vec<_> = topics.iter().map(String::as_str).collect();
                let created = format!("2026-01-0{}T00:00:00Z", day + 1);
                let contender = contender(&format!("uid-{index}"), &created, &topics, "k:1");
                claims.observed(&contender, &cluster.to_string());
                (contender, *cluster)
            })
            .collect();
        let contenders: Vec<_> = all.iter().map(|(contender, _)| contender.clone()).collect();
        for cluster in 0..3 {
            for topic in (0..4).map(|topic| format!("t{topic}")) {
                let claiming: Vec<_> = all
                    .iter()
                    .filter(|(contender, at)| *at == cluster && contender.topics.contains(&topic))
                    .map(|(contender, _)| contender)
                    .collect();
                let owners = claiming
                    .iter()
                    .filter(|contender| !claims.lost(contender, &contenders).contains(&topic))
                    .count();
                prop_assert_eq!(owners, usize::from(!claiming.is_empty()));
            }
        }
    }
}
