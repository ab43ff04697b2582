use std::future::poll_fn;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use penstock_sidecar::budget::{EndpointBudget, PodBudget};
use penstock_sidecar::dev::{Broker, DevError};
use penstock_sidecar::ledger::EndpointLedger;
use penstock_sidecar::store::kafka::{KafkaStore, SubmitError};
use penstock_sidecar::store::lane::Return;
use penstock_sidecar::store::{Headers, MessageId, Outcome, Record};

use crate::clients::PATIENCE;

#[tokio::test(flavor = "multi_thread")]
async fn the_store_opens_the_topics_and_gets_receipts_with_offsets() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = crate::pipeline();
    let broker = Broker::start(folder.path(), 0, &mut config).await.unwrap();
    for part in ["kafka.example:9093", &folder.path().display().to_string(), "One replica", "telemetry"] {
        assert!(broker.notice().contains(part), "{part} in: {}", broker.notice());
    }
    assert_eq!(config.kafka.bootstrap_servers, [broker.address().to_string()]);
    assert_eq!(config.kafka.tls, None);
    assert_eq!(
        (config.topics[0].replication_factor, config.topics[0].min_in_sync_replicas),
        (Some(1), Some(1))
    );

    let pod = PodBudget::new(config.max_in_flight_bytes);
    let budget = EndpointBudget::new(Arc::clone(&pod), 1 << 20, 1_000);
    let (store, threads) = KafkaStore::start(Arc::new(config), Path::new("/nonexistent"), pod).unwrap();
    let account = EndpointLedger::new("rest").account(0);
    let (key, lane) = store.lanes().open(&budget, &account);
    let headers = Headers::default();
    let record = Record {
        topic: 0,
        key: Some(b"d1"),
        payload: b"hello",
        headers: headers.list(),
        timestamp_millis: 1_700_000_000_000,
    };
    let deadline = Instant::now() + PATIENCE;
    loop {
        let back = Return {
            id: MessageId::generate(),
            tag: 0,
            refusal: 0,
            ticket: 0,
            duplicate: false,
            dead_letter: false,
            arrived: Instant::now(),
        };
        match store.submit(key, &lane, &budget, &record, back) {
            Ok(()) => break,
            Err(SubmitError::Transient(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(error) => panic!("{error:?}"),
        }
        assert!(Instant::now() < deadline, "{:?}", store.topics()[0].obstacle());
    }
    tokio::time::timeout(PATIENCE, poll_fn(|context| lane.poll_front(context))).await.unwrap();
    let mut outcomes = Vec::new();
    lane.drain(|_, outcome| {
        outcomes.push(outcome);
        ControlFlow::Continue(())
    });
    let [Outcome::Persisted(receipt)] = outcomes[..] else { panic!("{outcomes:?}") };
    assert_eq!((receipt.topic(), receipt.offset()), ("telemetry", Some(0)));
    assert_eq!(tokio::task::spawn_blocking(move || threads.end(PATIENCE)).await.unwrap(), 0);
    broker.stop().await;
}

#[tokio::test]
async fn a_port_or_a_folder_in_use_is_said_so() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(folder.path(), 0, &mut crate::pipeline()).await.unwrap();
    let port = broker.address().port();
    let other = tempfile::tempdir().unwrap();
    let untouched = crate::pipeline();
    let mut config = crate::pipeline();
    let error = Broker::start(other.path(), port, &mut config).await.unwrap_err();
    assert!(
        matches!(error, DevError::Port { .. }) && error.to_string().contains(&port.to_string()),
        "{error}"
    );
    let error = Broker::start(folder.path(), 0, &mut config).await.unwrap_err();
    assert!(matches!(error, DevError::InUse { .. }), "{error}");
    assert_eq!(config, untouched, "a broker that does not run changes nothing");
    broker.stop().await;
    Broker::start(folder.path(), 0, &mut config).await.unwrap().stop().await;
}
