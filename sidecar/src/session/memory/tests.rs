//! The store does what the record does that the model checker has checked, and ends sessions and publishes Wills in time.

use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use super::*;
use crate::session::error::Away;
use crate::session::record::{self, Change, Digest, Incarnation, KeptReceipt, Rejected, WrongIdentity};
use crate::session::will::Departure;

const CLIENTS: [&str; 3] = ["a", "sensor-7", "ü"];
const MINUTE: Duration = Duration::from_secs(60);
const PLENTY: u64 = 1 << 20;

/// What is done, to one of [`CLIENTS`].
#[derive(Clone, Debug)]
enum Operation {
    TakeOver { identity: bool, clean: bool },
    Write { fence: u8, confirmed: u64, changes: Vec<Change> },
    Reclaim { fence: u8, identity: bool, changes: Vec<Change> },
    Leave { fence: u8, changes: Vec<Change>, keep: bool },
    Disown { fence: u8 },
    Pass { seconds: u64 },
}

fn change() -> impl Strategy<Value = Change> {
    let packet_id = prop::sample::select(vec![1, 2, 9, u16::MAX]);
    (0..3, packet_id, 1..12_u64, any::<u128>()).prop_map(|(what, packet_id, number, random)| match what {
        0 => Change::Intend { packet_id, number, digest: Digest(random) },
        1 => {
            let receipt = KeptReceipt {
                topic: "iot.telemetry".into(),
                partition: 3,
                offset: Some(7),
                timestamp_millis: 1_700_000_000_000,
            };
            Change::Keep { packet_id, number, receipt }
        }
        _ => Change::Release { packet_id },
    })
}

fn operation() -> impl Strategy<Value = Operation> {
    let changes = || prop::collection::vec(change(), 0..4);
    let fence = || prop_oneof![7 => Just(0_u8), 3 => 1..4_u8];
    let identity = || prop::bool::weighted(0.85);
    prop_oneof![
        3 => (identity(), prop::bool::weighted(0.2))
            .prop_map(|(identity, clean)| Operation::TakeOver { identity, clean }),
        5 => (fence(), 0..3_u64, changes())
            .prop_map(|(fence, confirmed, changes)| Operation::Write { fence, confirmed, changes }),
        1 => (fence(), identity(), changes())
            .prop_map(|(fence, identity, changes)| Operation::Reclaim { fence, identity, changes }),
        2 => (fence(), changes(), prop::bool::weighted(0.7))
            .prop_map(|(fence, changes, keep)| Operation::Leave { fence, changes, keep }),
        1 => fence().prop_map(|fence| Operation::Disown { fence }),
        2 => (1..50_u64).prop_map(|seconds| Operation::Pass { seconds }),
    ]
}

/// What one client's session is to be.
#[derive(Default)]
struct Model {
    record: Option<record::Record>,
    expires: Option<Instant>,
    fences: Vec<Fence>,
}

impl Model {
    /// The newest fence, or one of before, or one that nobody has.
    fn fence(&self, back: u8) -> Fence {
        let newest = self.fences.len().checked_sub(1 + usize::from(back));
        newest.and_then(|at| self.fences.get(at)).copied().unwrap_or(Fence { count: 2, token: 0 })
    }

    fn expire(&mut self, now: Instant) {
        if self.expires.is_some_and(|expires| expires <= now) {
            (self.record, self.expires) = (None, None);
        }
    }
}

fn stored<T>(wanted: Result<T, Rejected>) -> Result<T, StoreError> {
    wanted.map_err(StoreError::from)
}

proptest! {
    #[test]
    fn the_store_does_what_the_record_does(
        operations in prop::collection::vec((0..3_usize, operation()), 1..200)
    ) {
        let mut sessions = Sessions::new(PLENTY);
        let mut models: [Model; 3] = Default::default();
        let mut now = Instant::now();
        for (token, (which, operation)) in (1_u64..).zip(operations) {
            let (client_id, model) = (CLIENTS[which], &mut models[which]);
            let incarnation = Incarnation(token);
            let name = |identity| if identity { "us" } else { "them" };
            match operation {
                Operation::TakeOver { identity, clean } => {
                    let identity = name(identity);
                    let request = TakeOver { identity, pod: "pod", clean, token, incarnation, epoch: EPOCH };
                    let wanted = record::take_over(&mut model.record, &request).map_err(StoreError::from);
                    prop_assert_eq!(sessions.take_over(client_id, &request, MINUTE, None, now), wanted.clone());
                    if let Ok(taken) = wanted {
                        model.fences.push(taken.fence);
                        model.expires = None;
                    }
                }
                Operation::Write { fence, confirmed, changes } => {
                    let fence = model.fence(fence);
                    let request = Write { fence, epoch: EPOCH, confirmed, changes: &changes };
                    let wanted = record::write(&mut model.record, &request);
                    prop_assert_eq!(sessions.write(client_id, &request), stored(wanted));
                }
                Operation::Reclaim { fence, identity, changes } => {
                    let (fence, identity) = (model.fence(fence), name(identity));
                    let (epoch, changes) = (EPOCH, &*changes);
                    let request = Reclaim { fence, identity, pod: "pod", token, incarnation, epoch, changes };
                    let wanted = record::reclaim(&mut model.record, &request);
                    prop_assert_eq!(sessions.reclaim(client_id, &request, MINUTE, None, now), stored(wanted));
                    if let Ok(fence) = wanted {
                        model.fences.push(fence);
                        model.expires = None;
                    }
                }
                Operation::Leave { fence, changes, keep } => {
                    let write = Write { fence: model.fence(fence), epoch: EPOCH, confirmed: 0, changes: &changes };
                    let request = Leave { write, keep };
                    let wanted = record::leave(&mut model.record, &request);
                    let left = sessions.leave(client_id, &request, MINUTE, Farewell::Discard, now);
                    prop_assert_eq!(left, stored(wanted));
                    if wanted.is_ok() {
                        model.expires = model.record.is_some().then(|| now + MINUTE);
                    }
                }
                Operation::Disown { fence } => {
                    let fence = model.fence(fence);
                    sessions.disown(client_id, fence, now);
                    if model.record.as_ref().is_some_and(|record| record.fence == fence && record.owner.is_some()) {
                        model.expires = model.expires.or(Some(now + MINUTE));
                    }
                }
                Operation::Pass { seconds } => {
                    now += Duration::from_secs(seconds);
                    models.iter_mut().for_each(|model| model.expire(now));
                    prop_assert_eq!(sessions.take_will(now), None);
                }
            }
            for (client_id, model) in CLIENTS.iter().zip(&models) {
                prop_assert_eq!(sessions.record(client_id), model.record.as_ref());
            }
        }
        sessions.take_will(now + MINUTE);
        let connected = models.iter().any(|model| model.record.as_ref().is_some_and(|record| record.owner.is_some()));
        prop_assert!(connected || sessions.used_bytes() == 0, "what nobody has any more takes nothing");
    }
}

/// A store, and the Wills that its pod was asked to publish.
struct Kept {
    store: MemoryStore,
    published: Arc<Mutex<Vec<String>>>,
    taking: Arc<AtomicBool>,
}

impl Kept {
    fn start(limit_bytes: u64) -> Self {
        let (published, taking) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(true)));
        let (out, takes) = (Arc::clone(&published), Arc::clone(&taking));
        let pod = Pod {
            name: "pod".into(),
            notified: Arc::new(|notice| panic!("{notice:?}")),
            publisher: Arc::new(move |due| {
                out.lock().push(due.id.to_string());
                let takes = takes.load(Ordering::Relaxed);
                Box::pin(async move { takes })
            }),
        };
        Self { store: MemoryStore::start(limit_bytes, &pod), published, taking }
    }

    fn connect(&self, client_id: &str, clean: bool, will: Option<&KeptWill>) -> Result<Taken, StoreError> {
        let (token, incarnation) = (7, Incarnation(9));
        let request = TakeOver { identity: "", pod: "pod", clean, token, incarnation, epoch: EPOCH };
        self.store.take_over(client_id, &request, MINUTE, will)
    }

    fn leave(&self, client_id: &str, fence: Fence, farewell: Farewell) {
        let write = Write { fence, epoch: EPOCH, confirmed: 0, changes: &[] };
        self.store.leave(client_id, &Leave { write, keep: true }, MINUTE, farewell).unwrap();
    }

    /// Connects, and loses the connection.
    fn lose(&self, client_id: &str, will: &KeptWill, departure: Departure) {
        let taken = self.connect(client_id, false, Some(will)).unwrap();
        self.leave(client_id, taken.fence, Farewell::after(departure, will.delay, will.grace, MINUTE));
    }

    fn published(&self) -> Vec<String> {
        self.published.lock().clone()
    }
}

fn will(id: &str, delay_seconds: u64, grace_seconds: u64) -> KeptWill {
    let seconds = Duration::from_secs;
    KeptWill {
        id: id.into(),
        delay: seconds(delay_seconds),
        grace: seconds(grace_seconds),
        message: (*b"gone").into(),
    }
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn a_session_waits_for_its_client_until_it_expires_and_then_takes_nothing() {
    let kept = Kept::start(PLENTY);
    let taken = kept.connect("device", false, None).unwrap();
    assert!(!taken.present);
    pass(3600).await;
    kept.leave("device", taken.fence, Farewell::Discard);
    pass(59).await;
    let taken = kept.connect("device", false, None).unwrap();
    assert!(taken.present && kept.store.used_bytes() > 0);
    kept.leave("device", taken.fence, Farewell::Discard);
    pass(61).await;
    assert_eq!(kept.store.used_bytes(), 0, "without being asked for it");
    assert!(!kept.connect("device", false, None).unwrap().present);
}

#[tokio::test(start_paused = true)]
async fn a_will_is_published_after_its_delay_until_it_is_persisted_and_then_no_more() {
    let kept = Kept::start(PLENTY);
    kept.taking.store(false, Ordering::Relaxed);
    kept.lose("device", &will("last", 10, 0), Departure::Lost);
    pass(9).await;
    assert!(kept.published().is_empty());
    pass(8).await;
    assert_eq!(kept.published(), ["last", "last"]);
    // It does not wait for its client any more (MQTT 5 §3.1.2.5).
    kept.connect("device", false, None).unwrap();
    kept.taking.store(true, Ordering::Relaxed);
    pass(60).await;
    assert_eq!(kept.published().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_comes_back_or_says_goodbye_has_no_will_published() {
    let kept = Kept::start(PLENTY);
    kept.lose("device", &will("back", 10, 0), Departure::Lost);
    pass(9).await;
    let taken = kept.connect("device", false, Some(&will("goodbye", 0, 0))).unwrap();
    kept.leave("device", taken.fence, Farewell::Discard);
    kept.lose("drained", &will("drained", 0, 30), Departure::Drained);
    pass(29).await;
    kept.connect("drained", true, None).unwrap();
    pass(120).await;
    assert!(kept.published().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_session_is_the_latest_time_for_its_will() {
    let kept = Kept::start(PLENTY);
    kept.lose("clean", &will("clean", 50, 0), Departure::Lost);
    kept.connect("clean", true, Some(&will("next", 50, 0))).unwrap();
    kept.lose("at-once", &will("at-once", 0, 0), Departure::Lost);
    kept.connect("at-once", false, None).unwrap();
    pass(1).await;
    assert_eq!(kept.published(), ["clean", "at-once"]);
    kept.lose("expired", &will("expired", 500, 0), Departure::Lost);
    // Its owner went without a word.
    let taken = kept.connect("gone", false, Some(&will("gone", 500, 0))).unwrap();
    kept.store.disown("gone", taken.fence);
    pass(61).await;
    assert_eq!(kept.published()[2..], ["expired", "gone"]);
}

#[tokio::test(start_paused = true)]
async fn a_will_outlives_its_session_for_the_grace_of_a_drained_pod() {
    let kept = Kept::start(PLENTY);
    kept.lose("device", &will("drained", 0, 90), Departure::Drained);
    pass(61).await;
    assert!(kept.published().is_empty());
    assert!(!kept.connect("other", false, None).unwrap().present);
    pass(30).await;
    assert_eq!(kept.published(), ["drained"]);
}

#[tokio::test(start_paused = true)]
async fn sessions_take_no_more_than_their_bytes_however_many_clients_come_and_go() {
    let kept = Kept::start(10_000);
    let last = will("last", 0, 0);
    let mut refused = 0;
    for number in 0..10_000 {
        let client_id = format!("device-{number}");
        match kept.connect(&client_id, false, Some(&last)) {
            Ok(taken) => kept.leave(&client_id, taken.fence, Farewell::Discard),
            Err(error) => {
                assert_eq!(error, StoreError::Unavailable(Away::NoRoom));
                refused += 1;
            }
        }
        assert!(kept.store.used_bytes() <= 10_000);
    }
    assert!((9_980..10_000).contains(&refused), "{refused} were refused");
    let taken = kept.connect("device-0", false, None).expect("who has a session keeps it");
    assert!(taken.present);
    pass(61).await;
    kept.connect("device-9999", false, Some(&last)).expect("others have expired");
}

#[tokio::test(start_paused = true)]
async fn handshakes_are_within_the_bytes_and_are_given_back_when_they_end() {
    let kept = Kept::start(10_000);
    let fence = kept.connect("device", false, None).unwrap().fence;
    let before = kept.store.used_bytes();
    let write = |change: Change| {
        let request = Write { fence, epoch: EPOCH, confirmed: 0, changes: &[change] };
        kept.store.write("device", &request)
    };
    let intend =
        |packet_id: u16| write(Change::Intend { packet_id, number: packet_id.into(), digest: Digest(1) });
    let open = (1..=100).take_while(|&packet_id| intend(packet_id).is_ok()).count() as u16;
    assert!((20..30).contains(&open), "{open} are open");
    assert_eq!(intend(100), Err(StoreError::Unavailable(Away::NoRoom)));
    for packet_id in 1..=open {
        write(Change::Release { packet_id }).unwrap();
    }
    assert_eq!(kept.store.used_bytes(), before);
    intend(100).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_session_belongs_to_its_identity() {
    let kept = Kept::start(PLENTY);
    kept.connect("device", false, None).unwrap();
    let (token, incarnation) = (8, Incarnation(10));
    let other = TakeOver { identity: "other", pod: "pod", clean: true, token, incarnation, epoch: EPOCH };
    let refused = kept.store.take_over("device", &other, MINUTE, None);
    assert_eq!(refused, Err(StoreError::WrongIdentity(WrongIdentity)));
    assert_eq!(kept.connect("device", false, None).unwrap().before.as_deref(), Some("pod"));
}

#[tokio::test(start_paused = true)]
async fn nothing_runs_for_a_store_that_is_dropped() {
    let kept = Kept::start(PLENTY);
    kept.lose("device", &will("last", 10, 0), Departure::Lost);
    let shared = Arc::downgrade(&kept.store.shared);
    let published = Arc::clone(&kept.published);
    drop(kept);
    pass(20).await;
    assert!(shared.upgrade().is_none() && published.lock().is_empty());
}
