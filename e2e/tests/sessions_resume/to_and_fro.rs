//! A client that changes connections in the middle of everything: between any two packets, to the same pod or another one,
//! while Redis is asked and Kafka has yet to answer.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use penstock_e2e::device::Device;
use penstock_e2e::load::wire::{Packet, Version, pubrel};
use penstock_e2e::pods::{Pods, client_id};
use penstock_e2e::raw::Next;
use penstock_e2e::{Kafka, Redis};

use super::BOTH;
use super::memory::in_memory;

const MESSAGES: usize = 600;
const WINDOW: u16 = 4;

/// A client that sends on the next connection again what is not complete.
struct Nomad<'p> {
    pods: &'p Pods<'p>,
    version: Version,
    name: String,
    device: Device,
    /// By packet identifier, and whether PUBREC is there.
    open: BTreeMap<u16, (String, bool)>,
    sent: usize,
    /// CONNECTs after the first.
    moves: u64,
    left: Vec<Device>,
    random: u64,
}

impl Nomad<'_> {
    fn random(&mut self, below: u64) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.random >> 33) % below
    }

    /// Connects anew, without a word to the older connection.
    fn move_to(&mut self, pod: usize) {
        let newer = Device::kept(self.pods[pod].mqtt(), self.version, &self.name);
        assert!(newer.session_present, "{:?}", self.version);
        self.moves += 1;
        self.left.push(std::mem::replace(&mut self.device, newer));
        if self.left.len() > 5 {
            self.left.clear();
        }
        for (&id, (text, received)) in &self.open {
            match received {
                true => self.device.raw.send(&pubrel(id)),
                false => self.device.send_again(id, text),
            }
        }
    }

    fn publish(&mut self) {
        let Some(id) = (1..=WINDOW).find(|id| !self.open.contains_key(id)) else { return };
        // Many look alike: only the handshakes tell them apart.
        let text = format!("{}", self.sent % 3);
        self.sent += 1;
        self.device.send(2, id, &text);
        self.open.insert(id, (text, false));
    }

    /// Takes what has come. The connection may be gone: the pods have taken an earlier one for the later.
    fn listen(&mut self, patience: Duration) {
        match self.device.raw.next(patience) {
            Next::Packet(Packet::PubRec { id, reason: 0, .. }) => {
                if let Some((_, received)) = self.open.get_mut(&id) {
                    *received = true;
                }
                self.device.raw.try_send(&pubrel(id));
            }
            // 0x92 for a release whose PUBCOMP was lost.
            Next::Packet(Packet::PubComp { id, .. }) => {
                self.open.remove(&id);
            }
            Next::Packet(Packet::Disconnect { .. }) | Next::Closed => self.move_to(0),
            Next::Packet(packet) => panic!("{:?}: {packet:?}", self.version),
            Next::Nothing => {}
        }
    }
}

/// Has a client wander from connection to connection, and returns how often it went.
#[track_caller]
fn wander(pods: &Pods<'_>, version: Version, seed: u64) -> u64 {
    let name = client_id("nomad");
    let device = Device::kept(pods[0].mqtt(), version, &name);
    let (open, left) = (BTreeMap::new(), Vec::new());
    let (sent, moves, random) = (0, 0, seed);
    let mut nomad = Nomad { pods, version, name: name.clone(), device, open, sent, moves, left, random };
    let others = pods.all.len() as u64;
    while nomad.sent < MESSAGES {
        match nomad.random(16) {
            0..=5 => nomad.publish(),
            6 => nomad.move_to(0),
            7 => {
                let pod = usize::try_from(nomad.random(others)).unwrap();
                nomad.move_to(pod);
            }
            // Some answers are there, some are not.
            _ => nomad.listen(Duration::from_millis(3)),
        }
    }
    while !nomad.open.is_empty() {
        nomad.listen(Duration::from_secs(1));
    }
    let records = pods.stored(&name);
    let ids: HashSet<_> = records.iter().map(|record| record.header("ce_id").unwrap()).collect();
    let pairs: HashSet<_> =
        records.iter().map(|record| (record.header("ce_id").unwrap(), record.text())).collect();
    assert_eq!((ids.len(), pairs.len()), (MESSAGES, MESSAGES), "{version:?}: {} records", records.len());
    nomad.moves
}

#[test]
fn a_client_that_changes_connections_between_any_two_packets_has_every_message_under_one_id() {
    let redis = Redis::standalone().start();
    let pods = Pods::two(Kafka::shared(), &redis, |pipeline| pipeline);
    let moves: u64 = (1..).zip(BOTH).map(|(seed, version)| wander(&pods, version, seed)).sum();
    pods.assert_ledgers_balance();
    // Otherwise only one of two ways was gone.
    let given = redis.commands().get("hgetall").copied().unwrap_or(0);
    assert!(
        given > moves / 20 && moves - given > moves / 20,
        "{given} of {moves} sessions were had from Redis"
    );
}

#[test]
fn the_same_is_so_where_sessions_are_in_memory() {
    let pods = Pods::one(Kafka::shared(), in_memory);
    for (seed, version) in (1..).zip(BOTH) {
        wander(&pods, version, seed);
    }
    pods.assert_ledgers_balance();
}
