//! What the session store and Kafka do.

use super::step::Violation;
use super::{Bounds, Bug, Command, Message, Produced, ToClient, World};
use crate::session::handshake::{Ended, Number};
use crate::session::record::{self, Epoch, Incarnation, Reclaim, Record, Rejected, Write};
use crate::store::Receipt;

/// How many of the store's earlier states a replica may have stayed at.
const PAST: usize = 3;

impl World {
    pub(super) fn remember(&mut self) {
        if self.past.last() != Some(&self.store) {
            self.past.push(self.store.clone());
            if self.past.len() > PAST {
                self.past.remove(0);
            }
        }
    }

    pub(super) fn forget(&mut self, store: Option<Record>, restarted: bool) {
        self.store = store;
        self.past.clear();
        self.store_forgot = true;
        if restarted {
            self.epoch += 1;
            // Connections to the server that was are broken, with what was on them.
            for pod in 0..self.pods.len() {
                if self.pods[pod].as_ref().is_some_and(|connection| connection.command.is_some()) {
                    self.killed_connection(pod);
                }
            }
        }
    }

    pub(super) fn apply(
        &mut self,
        command: &Command,
        bounds: Bounds,
    ) -> Result<Option<record::Fence>, Rejected> {
        self.remember();
        match command {
            Command::Write { fence, epoch, confirmed, changes } => {
                let mut write = Write { fence: *fence, epoch: *epoch, confirmed: *confirmed, changes };
                if let Some(record) = &self.store {
                    if bounds.bug == Some(Bug::FenceNotChecked) {
                        write.fence = record.fence;
                        write.confirmed = 0;
                    }
                    if bounds.bug == Some(Bug::EpochNotChecked) {
                        write.epoch = record.epoch;
                        write.confirmed = 0;
                    }
                }
                record::write(&mut self.store, &write).map(|()| None)
            }
            Command::Reclaim { fence, token, incarnation, epoch, changes } => {
                let request = Reclaim {
                    fence: *fence,
                    identity: "",
                    pod: "",
                    token: *token,
                    incarnation: Incarnation(*incarnation),
                    epoch: *epoch,
                    changes,
                };
                record::reclaim(&mut self.store, &request).map(Some)
            }
        }
    }

    pub(super) fn store_writes(&mut self, pod: usize, bounds: Bounds) {
        let Some(command) = self.pods[pod].as_mut().and_then(|connection| connection.command.take()) else {
            return;
        };
        let done = self.apply(&command, bounds);
        let (token, incarnation) = (self.random + 1, self.random + 2);
        let epoch = Epoch(self.epoch);
        let Some(connection) = &mut self.pods[pod] else { return };
        match done {
            Ok(fence) => {
                connection.fence = fence.unwrap_or(connection.fence);
                let live = self.client.pod == Some(pod);
                let mut ended = Vec::new();
                connection.handshakes.written(|over| ended.push(over));
                if bounds.bug == Some(Bug::PubrecOnIntent) && live {
                    let received = connection.waiting.iter().map(|waiting| waiting.packet_id);
                    self.to_client.extend(received.map(|packet_id| ToClient::Received { packet_id }));
                }
                if live && bounds.bug != Some(Bug::PubcompBeforeRelease) {
                    self.to_client.extend(ended.into_iter().map(|over| match over {
                        Ended::Completed(packet_id) | Ended::Unknown(packet_id) => {
                            ToClient::Completed { packet_id }
                        }
                        Ended::Refused(packet_id, _) => ToClient::Refused { packet_id },
                    }));
                }
            }
            Err(Rejected::Fenced) => self.killed_connection(pod),
            Err(Rejected::Forgot) => {
                self.random += 2;
                if bounds.bug == Some(Bug::HeirReclaims) {
                    connection.handshakes.believe_for_test();
                }
                let fence = connection.fence;
                let Some(changes) = connection.handshakes.forgotten(Incarnation(incarnation)) else {
                    return self.killed_connection(pod);
                };
                let changes = changes.to_vec();
                connection.command = Some(Command::Reclaim { fence, token, incarnation, epoch, changes });
            }
        }
    }

    pub(super) fn stored(&mut self, number: Number, message: Message) -> Result<(), Violation> {
        if self.kafka.iter().any(|(known, other)| *known == number && *other != message) {
            return Err(Violation::TwoMessagesUnderOneNumber);
        }
        if !self.store_forgot && self.kafka.iter().any(|(known, same)| *known != number && *same == message) {
            return Err(Violation::TwoNumbers);
        }
        if !self.kafka.contains(&(number, message)) {
            self.kafka.push((number, message));
            self.kafka.sort_unstable();
        }
        Ok(())
    }

    pub(super) fn reported(&mut self, pod: usize, index: usize) {
        let Some(connection) = &mut self.pods[pod] else { return };
        let Produced { packet_id, ticket, handed_over, .. } = connection.produced.remove(index);
        let receipt = Receipt::for_test("t", 0, None, 0);
        let is_due = handed_over || connection.handshakes.persisted(packet_id, ticket, receipt);
        if is_due && self.client.pod == Some(pod) {
            self.to_client.push(ToClient::Received { packet_id });
        }
    }

    pub(super) fn refused(&mut self, pod: usize, index: usize) {
        let Some(connection) = &mut self.pods[pod] else { return };
        let Produced { packet_id, ticket, .. } = connection.produced.remove(index);
        let _ = connection.handshakes.refused(packet_id, ticket, 0x99);
    }
}
