//! The model checker: a client, two pods, a session store and Kafka, in every order of their steps and of faults.
//!
//! Pods run [`Handshakes`], the store runs [`record`](super::record): the code that serves, not a copy. What is modelled
//! is what is between: the network, Redis losing its tail or everything, Kafka's reports, the death of a pod. All
//! messages of a client look the same, so nothing but the protocol tells them apart; a client that lost its state sends
//! others.
//!
//! The properties: nothing acknowledged is lost; no number means two messages; a message has two numbers only if the
//! store forgot; from everywhere there is a way to the end without further faults.

mod client;
mod explore;
mod pod;
mod step;
mod stores;

use super::handshake::{Handshakes, Number, Ticket};
use super::record::{Change, Epoch, Fence, Record};
use crate::store::Receipt;

/// A message, as nobody in the system can see it.
type Message = u8;

/// What is checked with: more finds more, and takes longer.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    messages: Message,
    packet_ids: u16,
    faults: u8,
    /// Which faults there are.
    kinds: &'static [Fault],
    bug: Option<Bug>,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Fault {
    /// The client's connection breaks; what was on it is gone.
    ConnectionLost,
    /// A pod dies.
    PodKilled,
    /// A pod's write to the store gets no answer; it may be done, now or later.
    StoreSilent,
    /// A replica without the last writes takes the store's place.
    StoreForgetsTail,
    /// The store starts anew with nothing.
    StoreForgetsAll,
    /// FLUSHALL.
    StoreFlushed,
    /// The client starts anew with nothing.
    ClientForgets,
    /// Kafka refuses a message for good.
    Refused,
}

/// A bug that is planted, to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    /// PUBREC when the intent is stored.
    PubrecOnIntent,
    /// A new owner begins to count anew.
    NumberReused,
    /// The store takes writes from whoever had the session.
    FenceNotChecked,
    /// The store is believed after it may have forgotten.
    EpochNotChecked,
    /// A message is produced before its intent is stored.
    IntentNotAwaited,
    /// PUBCOMP before the release is stored.
    PubcompBeforeRelease,
    /// An heir on the same pod gets handshakes of which a write is under way.
    HandedOverWhileWriting,
    /// An heir believes that the session is its pod's, without asking the store.
    HeirNotConfirmed,
    /// An heir answers a release that it knows nothing of before the store has confirmed it.
    UnknownNotConfirmed,
    /// An heir gets handshakes that their owner took back from a store that forgot.
    ReclaimedHandedOver,
    /// An heir that the store did not confirm takes the session back from a store that forgot.
    HeirReclaims,
    /// What the connection before an heir was told of its messages is answered to the heir.
    OldOwnerAnswers,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    client: Client,
    to_pod: Vec<ToPod>,
    to_client: Vec<ToClient>,
    pods: [Option<Connection>; 2],
    store: Option<Record>,
    epoch: u64,
    /// What the store had before its last writes.
    past: Vec<Option<Record>>,
    /// Writes whose connection broke: done at any time under the epoch that they were sent to, or never.
    strays: Vec<Command>,
    /// Records that a producer may still bring to Kafka although nobody waits for them.
    late: Vec<(Number, Message)>,
    kafka: Vec<(Number, Message)>,
    faults: u8,
    store_forgot: bool,
    /// Random numbers are ones that nobody had before.
    random: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Client {
    life: u8,
    next: Message,
    /// Messages on their way, in the order of sending.
    open: Vec<Sent>,
    pod: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Sent {
    packet_id: u16,
    message: Message,
    /// PUBREC is there.
    received: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum ToPod {
    Publish { packet_id: u16, dup: bool, message: Message, life: u8 },
    Release { packet_id: u16 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum ToClient {
    Received { packet_id: u16 },
    Refused { packet_id: u16 },
    Completed { packet_id: u16 },
}

/// A pod's side of a connection. The client may have left without the pod knowing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Connection {
    handshakes: Handshakes,
    fence: Fence,
    waiting: Vec<Waiting>,
    produced: Vec<Produced>,
    command: Option<Command>,
}

/// A PUBLISH that waits for its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Waiting {
    packet_id: u16,
    ticket: Ticket,
    message: Message,
    /// Of a repetition of what is stored.
    known: Option<Receipt>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Produced {
    packet_id: u16,
    ticket: Ticket,
    number: Number,
    message: Message,
    stored: bool,
    /// By the connection before this one: only a planted bug keeps it.
    handed_over: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Command {
    Write { fence: Fence, epoch: Epoch, confirmed: u64, changes: Vec<Change> },
    Reclaim { fence: Fence, token: u64, incarnation: u64, epoch: Epoch, changes: Vec<Change> },
}

const HANDSHAKE_FAULTS: &[Fault] =
    &[Fault::ConnectionLost, Fault::PodKilled, Fault::StoreSilent, Fault::Refused];
const STORE_FAULTS: &[Fault] = &[
    Fault::ConnectionLost,
    Fault::StoreSilent,
    Fault::StoreForgetsTail,
    Fault::StoreForgetsAll,
    Fault::StoreFlushed,
];
/// What a client does that goes to and fro between pods.
const HANDOVER_FAULTS: &[Fault] = &[Fault::ConnectionLost, Fault::StoreSilent];
const CLIENT_FAULTS: &[Fault] = &[Fault::ConnectionLost, Fault::ClientForgets, Fault::PodKilled];

/// `PENSTOCK_MODEL_FAULTS` more faults than a test of every day has time for.
fn bounds(messages: Message, packet_ids: u16, faults: u8, kinds: &'static [Fault]) -> Bounds {
    let more = std::env::var("PENSTOCK_MODEL_FAULTS").map_or(0, |more| more.parse().expect("a small number"));
    Bounds { messages, packet_ids, faults: faults + more, kinds, bug: None }
}

#[test]
fn connections_pods_and_writes_that_are_lost_lose_nothing_and_double_nothing() {
    explore::all(bounds(2, 1, 2, HANDSHAKE_FAULTS)).assert_sound(1_000);
    explore::all(bounds(2, 2, 1, HANDSHAKE_FAULTS)).assert_sound(1_000);
}

#[test]
fn a_store_that_forgets_costs_a_duplicate_and_never_a_message() {
    explore::all(bounds(2, 1, 2, STORE_FAULTS)).assert_sound(1_000);
    explore::all(bounds(2, 2, 1, STORE_FAULTS)).assert_sound(1_000);
}

#[test]
fn a_client_that_lost_its_state_sends_other_messages_under_old_identifiers() {
    explore::all(bounds(3, 1, 2, CLIENT_FAULTS)).assert_sound(1_000);
}

/// A pod whose client had long been elsewhere has taken the session back after FLUSHALL.
fn reclaimed(bounds: Bounds) -> World {
    use step::Step::*;
    let mut world = World::new();
    for step in [
        Connect { pod: 0 },
        Publish,
        PodReceives,
        ConnectionLost,
        Connect { pod: 1 },
        PodReceives,
        StoreWrites { pod: 1 },
        KafkaStores { pod: 1, index: 0 },
        KafkaReports { pod: 1, index: 0 },
        ClientReceives,
        PodReceives,
        StoreWrites { pod: 1 },
        ClientReceives,
        Publish,
        ConnectionLost,
        StoreFlushed,
        StoreWrites { pod: 0 },
        StoreWrites { pod: 0 },
    ] {
        world.take(step, bounds).expect("no violation on the way");
    }
    world
}

/// Found by the checker at three faults: the next pod believed the intents of such an owner.
#[test]
fn handshakes_of_an_owner_that_reclaimed_are_not_built_upon() {
    let bounds = bounds(2, 1, 3, STORE_FAULTS);
    explore::from(reclaimed(bounds), bounds).assert_sound(10);
}

#[test]
fn planted_bugs_are_found() {
    for (bug, kinds) in [
        (Bug::PubrecOnIntent, HANDSHAKE_FAULTS),
        (Bug::NumberReused, HANDSHAKE_FAULTS),
        (Bug::FenceNotChecked, HANDSHAKE_FAULTS),
        (Bug::EpochNotChecked, STORE_FAULTS),
        (Bug::IntentNotAwaited, HANDSHAKE_FAULTS),
        (Bug::PubcompBeforeRelease, HANDSHAKE_FAULTS),
    ] {
        let found = explore::all(Bounds { bug: Some(bug), ..bounds(3, 1, 3, kinds) });
        assert!(found.violation.is_some(), "{bug:?} was not found in {} states", found.states);
    }
}

#[test]
fn a_client_to_and_fro_between_pods_loses_nothing_by_what_a_pod_hands_over() {
    explore::all(bounds(2, 1, 3, HANDOVER_FAULTS)).assert_sound(1_000);
}

#[test]
fn bugs_that_are_planted_into_a_handover_are_found() {
    for (bug, messages, faults, kinds) in [
        (Bug::HandedOverWhileWriting, 1, 2, HANDOVER_FAULTS),
        (Bug::HeirNotConfirmed, 2, 2, HANDOVER_FAULTS),
        (Bug::UnknownNotConfirmed, 2, 3, HANDOVER_FAULTS),
        (Bug::ReclaimedHandedOver, 2, 3, STORE_FAULTS),
        (Bug::HeirReclaims, 2, 2, STORE_FAULTS),
        (Bug::OldOwnerAnswers, 2, 2, CLIENT_FAULTS),
    ] {
        let bounds = Bounds { bug: Some(bug), ..bounds(messages, 1, faults, kinds) };
        let found = match bug {
            Bug::ReclaimedHandedOver => explore::from(reclaimed(bounds), bounds),
            _ => explore::all(bounds),
        };
        let by_handover = found
            .violation
            .as_ref()
            .is_some_and(|(_, way)| way.iter().any(|step| matches!(step, step::Step::Inherit { .. })));
        assert!(by_handover, "{bug:?} was not found in {} states: {:?}", found.states, found.violation);
    }
}
