//! What pods do. CONNECT, the takeover and CONNACK are one step.

use super::{Bounds, Bug, Command, Connection, Produced, Sent, ToClient, ToPod, Waiting, World};
use crate::session::handshake::{Arrived, Handshakes, Permit, Released};
use crate::session::record::{self, Digest, Epoch, Incarnation, KeptReceipt, TakeOver, Write};
use crate::store::Receipt;

impl World {
    pub(super) fn connect(&mut self, pod: usize, bounds: Bounds) {
        self.remember();
        let (token, incarnation) = (self.random(), Incarnation(self.random()));
        let mut epoch = Epoch(self.epoch);
        if bounds.bug == Some(Bug::EpochNotChecked) {
            epoch = self.store.as_ref().map_or(epoch, |record| record.epoch);
        }
        let name = ["a", "b"][pod];
        let request = TakeOver { identity: "", pod: name, clean: false, token, incarnation, epoch };
        let mut taken = record::take_over(&mut self.store, &request).expect("there is one identity");
        if bounds.bug == Some(Bug::NumberReused) {
            taken.issued = 0;
        }
        // The connection before, if there is one on the pod, is told after that.
        self.killed_connection(pod);
        self.begin(pod, Connection::new(Handshakes::taken(&taken, recall), taken.fence));
    }

    /// Whether a connection on the pod can give the session to the next one there.
    pub(super) fn has_heritage(&self, pod: usize, bounds: Bounds) -> bool {
        let Some(Connection { handshakes, .. }) = &self.pods[pod] else { return false };
        match bounds.bug {
            Some(Bug::HandedOverWhileWriting | Bug::ReclaimedHandedOver) => true,
            _ => handshakes.may_be_handed_over(),
        }
    }

    /// Another connection of the client to the same pod, which has the session from the one before; the store is not
    /// asked.
    pub(super) fn inherit(&mut self, pod: usize, bounds: Bounds) {
        let Some(mut old) = self.pods[pod].take() else { return };
        let mut handshakes = old.handshakes.clone();
        match bounds.bug {
            Some(Bug::HandedOverWhileWriting) => handshakes.forget_write_for_test(),
            Some(Bug::ReclaimedHandedOver) => handshakes.forget_reclaim_for_test(),
            _ => {}
        }
        let Some(mut handshakes) = handshakes.hand_over() else {
            self.pods[pod] = Some(old);
            return;
        };
        if bounds.bug == Some(Bug::HeirNotConfirmed) {
            handshakes.believe_for_test();
        }
        let mut heir = Connection::new(handshakes, old.fence);
        if bounds.bug == Some(Bug::OldOwnerAnswers) {
            heir.produced = std::mem::take(&mut old.produced);
            heir.produced.iter_mut().for_each(|produced| produced.handed_over = true);
        }
        self.abandon(old);
        self.begin(pod, heir);
    }

    /// CONNACK, and what the client sends at once.
    pub(super) fn begin(&mut self, pod: usize, connection: Connection) {
        self.pods[pod] = Some(connection);
        self.client.pod = Some(pod);
        // Clients send again what they have also when the session is gone, as Eclipse Paho does.
        let life = self.client.life;
        self.to_pod = self
            .client
            .open
            .iter()
            .map(|&Sent { packet_id, message, received }| match received {
                true => ToPod::Release { packet_id },
                false => ToPod::Publish { packet_id, dup: true, message, life },
            })
            .collect();
    }

    pub(super) fn pod_receives(&mut self, bounds: Bounds) {
        let packet = self.to_pod.remove(0);
        let Some(connection) = self.client.pod.and_then(|pod| self.pods[pod].as_mut()) else { return };
        match packet {
            ToPod::Publish { packet_id, dup, message, life } => {
                match connection.handshakes.publish(packet_id, dup, Digest(u128::from(life))) {
                    Arrived::Store(ticket) | Arrived::Replaces(ticket) => {
                        connection.waiting.push(Waiting { packet_id, ticket, message, known: None });
                    }
                    Arrived::Known(ticket, _, receipt) => {
                        let known = Some(receipt);
                        connection.waiting.push(Waiting { packet_id, ticket, message, known });
                    }
                }
            }
            ToPod::Release { packet_id }
                if bounds.bug == Some(Bug::UnknownNotConfirmed)
                    && !connection.handshakes.contains(packet_id) =>
            {
                self.to_client.push(ToClient::Completed { packet_id });
            }
            ToPod::Release { packet_id } => match connection.handshakes.release(packet_id) {
                Released::Known if bounds.bug != Some(Bug::PubcompBeforeRelease) => {}
                Released::Known | Released::Unknown => {
                    self.to_client.push(ToClient::Completed { packet_id });
                }
                Released::TooEarly => {
                    if let Some(pod) = self.client.pod {
                        self.close(pod);
                    }
                }
            },
        }
    }

    /// What a pod does without waiting for anything.
    pub(super) fn pod_goes_on(&mut self, pod: usize, bounds: Bounds) {
        let epoch = Epoch(self.epoch);
        let live = self.client.pod == Some(pod);
        let Some(connection) = &mut self.pods[pod] else { return };
        let Connection { handshakes, produced, .. } = connection;
        while let Some(&Waiting { packet_id, ticket, message, known }) = connection.waiting.first() {
            let mut produce = |number| {
                let (stored, handed_over) = (false, false);
                produced.push(Produced { packet_id, ticket, number, message, stored, handed_over });
            };
            match (known, handshakes.may_store(packet_id, ticket)) {
                (Some(_), _) if !handshakes.may_recall() => break,
                (Some(receipt), _) => {
                    if handshakes.persisted(packet_id, ticket, receipt) && live {
                        self.to_client.push(ToClient::Received { packet_id });
                    }
                }
                (None, Permit::Now(number)) => produce(number),
                (None, Permit::Wait) if bounds.bug == Some(Bug::IntentNotAwaited) => {
                    produce(handshakes.number_for_test(packet_id));
                }
                (None, Permit::Wait) => break,
                (None, Permit::Replaced) => {}
            }
            connection.waiting.remove(0);
        }
        if connection.command.is_none() {
            let (fence, confirmed) = (connection.fence, connection.handshakes.confirmed());
            connection.command = connection.handshakes.due().map(|changes| Command::Write {
                fence,
                epoch,
                confirmed,
                changes: changes.to_vec(),
            });
        }
    }

    /// The pod ends a connection, and writes what it has last.
    pub(super) fn close(&mut self, pod: usize) {
        let Some(mut connection) = self.pods[pod].take() else { return };
        if let Some(changes) = connection.handshakes.last() {
            let (fence, confirmed) = (connection.fence, connection.handshakes.confirmed());
            let write = Write { fence, epoch: Epoch(self.epoch), confirmed, changes: &changes };
            self.remember();
            let _ = record::leave(&mut self.store, &record::Leave { write, keep: true });
        }
        self.abandon(connection);
        if self.client.pod == Some(pod) {
            self.client_is_cut_off();
        }
    }

    /// The connection is gone without a word; what it sent may still arrive.
    pub(super) fn killed_connection(&mut self, pod: usize) {
        let Some(connection) = self.pods[pod].take() else { return };
        self.abandon(connection);
        if self.client.pod == Some(pod) {
            self.client_is_cut_off();
        }
    }

    /// The store does not answer. A connection of which nobody wanted anything goes on, and what it sent may still arrive.
    pub(super) fn store_silent(&mut self, pod: usize) {
        let Some(connection) = &mut self.pods[pod] else { return };
        if connection.handshakes.put_off() {
            self.strays.extend(connection.command.take());
        } else {
            self.killed_connection(pod);
        }
    }

    pub(super) fn abandon(&mut self, connection: Connection) {
        self.strays.extend(connection.command);
        let produced = connection.produced.iter().filter(|produced| !produced.stored);
        self.late.extend(produced.map(|produced| (produced.number, produced.message)));
    }
}

impl Connection {
    fn new(handshakes: Handshakes, fence: record::Fence) -> Self {
        Self { handshakes, fence, waiting: Vec::new(), produced: Vec::new(), command: None }
    }
}

fn recall(receipt: &KeptReceipt) -> Option<Receipt> {
    Some(Receipt::for_test("t", receipt.partition, receipt.offset, receipt.timestamp_millis))
}
