use penstock_crds::pipeline::Kafka;
use serde_json::json;

use super::*;
use crate::reason::Reason;

/// Nobody listens there.
const NOWHERE: &str = "127.0.0.1:9";

fn access(namespace: &str, server: &str) -> Access {
    let kafka: Kafka = serde_json::from_value(json!({"bootstrapServers": [server]})).unwrap();
    Access::new(namespace, &kafka, &[]).unwrap()
}

fn anywhere() -> Clusters {
    Clusters::new(AllowedServers::default())
}

#[tokio::test(start_paused = true)]
async fn a_client_that_nobody_uses_is_closed() {
    let clusters = anywhere();
    clusters.line(access("iot", NOWHERE).key());
    tokio::time::sleep(IDLE / 2).await;
    clusters.line(access("other", NOWHERE).key());
    clusters.line(access("other", NOWHERE).key());
    assert_eq!(clusters.clients(), 2);
    tokio::time::sleep(IDLE / 2 + SWEEP).await;
    assert_eq!(clusters.clients(), 1);
    tokio::time::sleep(IDLE / 2 + SWEEP).await;
    assert_eq!(clusters.clients(), 0);
    // The sweep has ended with the last one, and begins anew with the next.
    clusters.line(access("iot", NOWHERE).key());
    tokio::time::sleep(IDLE + SWEEP).await;
    assert_eq!(clusters.clients(), 0);
}

#[tokio::test(start_paused = true)]
async fn beyond_the_limit_the_one_unused_for_longest_is_closed() {
    let clusters = anywhere();
    for namespace in 0..=CLIENTS {
        clusters.line(access(&namespace.to_string(), NOWHERE).key());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(clusters.clients(), CLIENTS);
    let pool = clusters.0.pool.lock();
    assert!(!pool.members.contains_key(access("0", NOWHERE).key()));
    assert!(pool.members.contains_key(access("1", NOWHERE).key()));
}

#[tokio::test]
async fn a_server_that_is_not_allowed_gets_no_client() {
    let clusters = Clusters::new(AllowedServers::new(vec!["kafka:9092".parse().unwrap()]));
    let error = clusters.look(&access("iot", NOWHERE), &BTreeSet::new()).await.unwrap_err();
    assert_eq!(error.reason(), Reason::BootstrapServersNotAllowed);
    assert_eq!(clusters.clients(), 0);
}

#[tokio::test]
async fn those_that_wait_behind_a_dead_cluster_learn_with_the_first_that_it_is_dead() {
    let clusters = anywhere();
    let started = std::time::Instant::now();
    let (access, names) = (access("iot", NOWHERE), BTreeSet::new());
    let answers = futures::future::join_all((0..20).map(|_| clusters.look(&access, &names))).await;
    for answer in answers {
        let error = answer.unwrap_err();
        assert_eq!(error.reason(), Reason::KafkaUnreachable);
        assert!(error.is_retryable());
        assert!(error.to_string().contains(NOWHERE), "{error}");
    }
    let took = started.elapsed();
    assert!(took < 2 * super::super::connection::CALL, "{took:?} for all of them");
    assert_eq!(clusters.clients(), 1);
}
