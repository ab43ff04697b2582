//! The scripts in Redis do what the record does that the model checker has checked: the same operations, in any order,
//! also by owners that were fenced and on servers that forgot, have the same results and leave the same state.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed step of a test is a failed test")]

use std::collections::BTreeMap;
use std::time::Duration;

use penstock_crds::edge::PipelineName;
use penstock_e2e::Redis;
use penstock_sidecar::session::record::{
    self, Change, Digest, Epoch, Fence, Incarnation, KeptReceipt, Leave, Reclaim, Record, TakeOver, Write,
};
use penstock_sidecar::session::redis::{Shard, scripts};
use penstock_sidecar::session::store::{Farewell, KeptWill};
use redis::{Cmd, Connection, Value, cmd};

const LIFE: Duration = Duration::from_secs(3600);
const CLIENTS: [&str; 3] = ["a", "sensor-7", "ü 'with' {braces} and\tall"];
const OPERATIONS: usize = 6_000;

/// Marsaglia's xorshift: every run of a seed is the same.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// One client's session in both places.
#[derive(Default)]
struct Session {
    model: Option<Record>,
    /// Of all owners so far.
    fences: Vec<Fence>,
    /// What both had at some time, to go back to.
    past: Option<(Option<Record>, Option<Vec<u8>>)>,
}

struct Both {
    random: Random,
    shard: Shard,
    connection: Connection,
    epoch: Epoch,
    sessions: BTreeMap<&'static str, Session>,
    log: Vec<String>,
}

impl Both {
    fn run(&mut self, mut command: Cmd) -> Value {
        command.arg(self.epoch.0).query(&mut self.connection).expect("a script's answer")
    }

    fn key(client_id: &str) -> String {
        format!("penstock:{{e2e/equal/0}}:s:{client_id}")
    }

    fn changes(&mut self) -> Vec<Change> {
        (0..self.random.below(4))
            .map(|_| {
                let packet_id = [1, 2, 9, 65_535][self.random.below(4) as usize];
                let number = self.random.below(12) + 1;
                match self.random.below(3) {
                    0 => {
                        let digest =
                            Digest(u128::from(self.random.next()) << 64 | u128::from(self.random.next()));
                        Change::Intend { packet_id, number, digest }
                    }
                    1 => {
                        let offset = self.random.chance(80).then(|| self.random.next() as i64 >> 8);
                        let receipt = KeptReceipt {
                            topic: "iot.telemetry".into(),
                            partition: self.random.below(99) as i32,
                            offset,
                            timestamp_millis: self.random.below(1 << 42) as i64,
                        };
                        Change::Keep { packet_id, number, receipt }
                    }
                    _ => Change::Release { packet_id },
                }
            })
            .collect()
    }

    /// A fence: mostly the owner's, else one of before, or of another life of the store.
    fn fence(&mut self, client_id: &str) -> Fence {
        let random = &mut self.random;
        let known = &self.sessions[client_id].fences;
        let last = known.last().copied().unwrap_or(Fence { count: 1, token: 5 });
        match random.below(10) {
            0 => Fence { token: random.next(), ..last },
            1 => Fence { count: last.count + 1, token: random.next() },
            2 if !known.is_empty() => known[random.below(known.len() as u64) as usize],
            _ => last,
        }
    }

    fn step(&mut self) {
        let client_id = CLIENTS[self.random.below(3) as usize];
        let fence = self.fence(client_id);
        let changes = self.changes();
        let confirmed = self.random.below(3);
        let epoch = self.epoch;
        let identity = if self.random.chance(85) { "us" } else { "them" };
        let pod = ["pod-a", "pod-b"][self.random.below(2) as usize];
        let (token, incarnation) = (self.random.next(), Incarnation(self.random.next()));
        let will = self.random.chance(50).then(|| KeptWill {
            id: "w".into(),
            delay: Duration::from_secs(1),
            grace: Duration::ZERO,
            message: (*b"gone").into(),
        });
        let mut model = self.sessions.get_mut(client_id).expect("a session").model.take();
        let shard = self.shard.clone();
        let write = Write { fence, epoch, confirmed, changes: &changes };
        match self.random.below(12) {
            0..=2 => {
                let clean = self.random.chance(20);
                let request = TakeOver { identity, pod, clean, token, incarnation, epoch };
                self.log.push(format!("{client_id}: {request:?}"));
                let wanted = record::take_over(&mut model, &request);
                let found = self.run(scripts::take_over(&shard, client_id, &request, LIFE, will.as_ref()));
                let found = scripts::taken(found, token).expect("an answer of a takeover");
                assert_eq!(found, wanted);
                self.own(client_id, wanted.ok().map(|taken| taken.fence));
            }
            3..=7 => {
                self.log.push(format!("{client_id}: {write:?}"));
                let wanted = record::write(&mut model, &write);
                let found = self.run(scripts::write(&shard, client_id, &write));
                assert_eq!(scripts::done(found), Some(wanted));
            }
            8 => {
                let request = Reclaim { fence, identity, pod, token, incarnation, epoch, changes: &changes };
                self.log.push(format!("{client_id}: {request:?}"));
                let wanted = record::reclaim(&mut model, &request);
                let found = self.run(scripts::reclaim(&shard, client_id, &request, LIFE, will.as_ref()));
                assert_eq!(scripts::reclaimed(found, token), Some(wanted));
                self.own(client_id, wanted.ok());
            }
            9 => {
                let request = Leave { write, keep: self.random.chance(70) };
                self.log.push(format!("{client_id}: {request:?}"));
                let wanted = record::leave(&mut model, &request);
                let farewell = if self.random.chance(50) {
                    Farewell::Discard
                } else {
                    Farewell::Due { wait: Duration::from_secs(5), for_grace: self.random.chance(50) }
                };
                let found = self.run(scripts::leave(&shard, client_id, pod, &request, LIFE, farewell));
                assert_eq!(scripts::done(found), Some(wanted));
            }
            10 if self.random.chance(30) => {
                self.log.push("another epoch".to_owned());
                self.epoch = Epoch(self.random.next());
            }
            10 => {
                let dump: Option<Vec<u8>> =
                    cmd("DUMP").arg(Self::key(client_id)).query(&mut self.connection).expect("a dump");
                self.sessions.get_mut(client_id).expect("a session").past = Some((model.clone(), dump));
            }
            _ => {
                // The store loses everything, or its tail.
                let past = self.sessions.get_mut(client_id).expect("a session").past.take();
                let (state, dump) = past.unwrap_or_default();
                self.log.push(format!("{client_id}: back to {state:?}"));
                model = state;
                let command = match dump {
                    Some(dump) => {
                        let mut restore = cmd("RESTORE");
                        restore.arg(Self::key(client_id)).arg(0).arg(dump).arg("REPLACE");
                        restore
                    }
                    None => {
                        let mut delete = cmd("DEL");
                        delete.arg(Self::key(client_id));
                        delete
                    }
                };
                command.exec(&mut self.connection).expect("a forgetful server");
                if self.random.chance(70) {
                    self.epoch = Epoch(self.random.next());
                }
            }
        }
        let kept = cmd("HGETALL").arg(Self::key(client_id)).query(&mut self.connection).expect("a hash");
        assert_eq!(scripts::read(kept), Some(model.clone()));
        self.sessions.get_mut(client_id).expect("a session").model = model;
    }

    fn own(&mut self, client_id: &str, fence: Option<Fence>) {
        self.sessions.get_mut(client_id).expect("a session").fences.extend(fence);
    }
}

#[test]
fn scripts_do_what_the_record_does() {
    let redis = Redis::standalone().start();
    for seed in 1..=4 {
        redis.flush_all();
        let address = format!("redis://127.0.0.1:{}", redis.server(0).port());
        let mut connection =
            redis::Client::open(address).expect("an address").get_connection().expect("a connection");
        for load in scripts::load() {
            load.exec(&mut connection).expect("a script that loads");
        }
        let pipeline = PipelineName { namespace: "e2e".to_owned(), name: "equal".to_owned() };
        let sessions = CLIENTS.map(|client_id| (client_id, Session::default())).into();
        let mut both = Both {
            random: Random(u64::wrapping_mul(seed, 0x9E37_79B9_7F4A_7C15)),
            shard: Shard::new(&pipeline, 0),
            connection,
            epoch: Epoch(1),
            sessions,
            log: Vec::new(),
        };
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..OPERATIONS {
                both.step();
            }
        }));
        if let Err(panic) = ended {
            let from = both.log.len().saturating_sub(12);
            eprintln!("seed {seed}, the last operations:\n{}", both.log[from..].join("\n"));
            std::panic::resume_unwind(panic);
        }
    }
}
