//! What can happen, and what must not.

use super::{
    Bounds, Bug, Client, Command, Connection, Fault, Message, Produced, Sent, ToClient, ToPod, Waiting, World,
};
use crate::session::handshake::{Arrived, Ended, Handshakes, Number, Permit, Released};
use crate::session::record::{
    self, Digest, Epoch, Incarnation, KeptReceipt, Reclaim, Record, Rejected, TakeOver, Write,
};
use crate::store::Receipt;

/// How many of the store's earlier states a replica may have stayed at.
const PAST: usize = 3;

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Step {
    Connect {
        pod: usize,
    },
    /// The client connects to a pod that has an older connection of it, and gets the session from that one.
    Inherit {
        pod: usize,
    },
    Publish,
    PodReceives,
    ClientReceives,
    /// A pod finds out that its client is gone.
    PodCloses {
        pod: usize,
    },
    StoreWrites {
        pod: usize,
    },
    StrayWrites {
        index: usize,
    },
    StrayVanishes {
        index: usize,
    },
    KafkaStores {
        pod: usize,
        index: usize,
    },
    KafkaReports {
        pod: usize,
        index: usize,
    },
    LateStored {
        index: usize,
    },
    LateLost {
        index: usize,
    },
    ConnectionLost,
    PodKilled {
        pod: usize,
    },
    StoreSilent {
        pod: usize,
    },
    StoreForgetsTail {
        index: usize,
    },
    StoreForgetsAll,
    StoreFlushed,
    ClientForgets,
    KafkaRefuses {
        pod: usize,
        index: usize,
    },
}

impl Step {
    pub(super) fn fault(self) -> Option<Fault> {
        match self {
            Self::ConnectionLost => Some(Fault::ConnectionLost),
            Self::PodKilled { .. } => Some(Fault::PodKilled),
            Self::StoreSilent { .. } => Some(Fault::StoreSilent),
            Self::StoreForgetsTail { .. } => Some(Fault::StoreForgetsTail),
            Self::StoreForgetsAll => Some(Fault::StoreForgetsAll),
            Self::StoreFlushed => Some(Fault::StoreFlushed),
            Self::ClientForgets => Some(Fault::ClientForgets),
            Self::KafkaRefuses { .. } => Some(Fault::Refused),
            _ => None,
        }
    }
}

/// What must not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Violation {
    /// A message was acknowledged and is not stored.
    Lost,
    /// A number means two messages: whoever removes duplicates removes one of them.
    TwoMessagesUnderOneNumber,
    /// A message has two numbers, and the store did not forget.
    TwoNumbers,
    /// There is no way to the end.
    Stuck,
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            client: Client { life: 0, next: 0, open: Vec::new(), pod: None },
            to_pod: Vec::new(),
            to_client: Vec::new(),
            pods: [None, None],
            store: None,
            epoch: 0,
            past: Vec::new(),
            strays: Vec::new(),
            late: Vec::new(),
            kafka: Vec::new(),
            faults: 0,
            store_forgot: false,
            random: 0,
        }
    }

    /// Everything is sent and answered.
    pub(super) fn is_over(&self, bounds: Bounds) -> bool {
        self.client.next == bounds.messages && self.client.open.is_empty()
    }

    /// All that can happen next.
    pub(super) fn steps(&self, bounds: Bounds) -> Vec<Step> {
        let mut steps = Vec::new();
        match self.client.pod {
            None if self.is_over(bounds) => {}
            None => {
                steps.extend([Step::Connect { pod: 0 }, Step::Connect { pod: 1 }]);
                let heritages = (0..self.pods.len()).filter(|&pod| self.has_heritage(pod, bounds));
                steps.extend(heritages.map(|pod| Step::Inherit { pod }));
            }
            Some(_) => {
                if self.client.next < bounds.messages && self.free_id(bounds).is_some() {
                    steps.push(Step::Publish);
                }
                if !self.to_pod.is_empty() {
                    steps.push(Step::PodReceives);
                }
                if !self.to_client.is_empty() {
                    steps.push(Step::ClientReceives);
                }
            }
        }
        for (pod, connection) in self.pods.iter().enumerate() {
            let Some(connection) = connection else { continue };
            if self.client.pod != Some(pod) {
                steps.push(Step::PodCloses { pod });
            }
            if connection.command.is_some() {
                steps.extend([Step::StoreWrites { pod }, Step::StoreSilent { pod }]);
            }
            for (index, produced) in connection.produced.iter().enumerate() {
                if produced.stored {
                    steps.push(Step::KafkaReports { pod, index });
                } else {
                    steps.push(Step::KafkaStores { pod, index });
                    // What it stored once it does not refuse when it comes again.
                    if self.kafka.iter().all(|(_, message)| *message != produced.message) {
                        steps.push(Step::KafkaRefuses { pod, index });
                    }
                }
            }
            steps.push(Step::PodKilled { pod });
        }
        for index in 0..self.strays.len() {
            steps.extend([Step::StrayWrites { index }, Step::StrayVanishes { index }]);
        }
        for index in 0..self.late.len() {
            steps.extend([Step::LateStored { index }, Step::LateLost { index }]);
        }
        if self.client.pod.is_some() {
            steps.push(Step::ConnectionLost);
        }
        steps.extend((0..self.past.len()).map(|index| Step::StoreForgetsTail { index }));
        steps.extend([Step::StoreForgetsAll, Step::StoreFlushed, Step::ClientForgets]);
        let may = |fault: Fault| {
            self.faults < bounds.faults && bounds.kinds.contains(&fault) && !self.is_over(bounds)
        };
        steps.retain(|step| step.fault().is_none_or(may));
        steps
    }

    /// Lets one thing happen, and what pods do at once after it.
    pub(super) fn take(&mut self, step: Step, bounds: Bounds) -> Result<(), Violation> {
        self.faults += u8::from(step.fault().is_some());
        match step {
            Step::Connect { pod } => self.connect(pod, bounds),
            Step::Inherit { pod } => self.inherit(pod, bounds),
            Step::Publish => self.publish(bounds),
            Step::PodReceives => self.pod_receives(bounds),
            Step::ClientReceives => self.client_receives()?,
            Step::PodCloses { pod } => self.close(pod),
            Step::StoreWrites { pod } => self.store_writes(pod, bounds),
            Step::StrayWrites { index } => {
                let stray = self.strays.remove(index);
                if stray.epoch() == Epoch(self.epoch) {
                    let _ = self.apply(&stray, bounds);
                }
            }
            Step::StrayVanishes { index } => {
                self.strays.remove(index);
            }
            Step::KafkaStores { pod, index } => {
                let Some(connection) = &mut self.pods[pod] else { return Ok(()) };
                let produced = &mut connection.produced[index];
                produced.stored = true;
                let (number, message) = (produced.number, produced.message);
                self.stored(number, message)?;
            }
            Step::KafkaReports { pod, index } => self.reported(pod, index),
            Step::KafkaRefuses { pod, index } => self.refused(pod, index),
            Step::LateStored { index } => {
                let (number, message) = self.late.remove(index);
                self.stored(number, message)?;
            }
            Step::LateLost { index } => {
                self.late.remove(index);
            }
            Step::ConnectionLost => self.client_is_cut_off(),
            Step::PodKilled { pod } => self.killed_connection(pod),
            Step::StoreSilent { pod } => self.store_silent(pod),
            Step::StoreForgetsTail { index } => {
                let past = self.past[index].clone();
                self.forget(past, true);
            }
            Step::StoreForgetsAll => self.forget(None, true),
            Step::StoreFlushed => self.forget(None, false),
            Step::ClientForgets => {
                self.client.life += 1;
                self.client.open.clear();
                self.client_is_cut_off();
            }
        }
        for pod in 0..self.pods.len() {
            self.pod_goes_on(pod, bounds);
        }
        Ok(())
    }

    fn random(&mut self) -> u64 {
        self.random += 1;
        self.random
    }

    // The client.

    fn free_id(&self, bounds: Bounds) -> Option<u16> {
        (1..=bounds.packet_ids).find(|id| self.client.open.iter().all(|sent| sent.packet_id != *id))
    }

    fn publish(&mut self, bounds: Bounds) {
        let Some(packet_id) = self.free_id(bounds) else { return };
        let (message, life) = (self.client.next, self.client.life);
        self.client.next += 1;
        self.client.open.push(Sent { packet_id, message, received: false });
        self.to_pod.push(ToPod::Publish { packet_id, dup: false, message, life });
    }

    fn client_receives(&mut self) -> Result<(), Violation> {
        let packet = self.to_client.remove(0);
        let find = |client: &Client, id| client.open.iter().position(|sent| sent.packet_id == id);
        match packet {
            ToClient::Received { packet_id } => {
                let Some(index) = find(&self.client, packet_id) else { return Ok(()) };
                self.acknowledged(index)?;
                self.client.open[index].received = true;
                self.to_pod.push(ToPod::Release { packet_id });
            }
            ToClient::Completed { packet_id } => {
                let Some(index) = find(&self.client, packet_id) else { return Ok(()) };
                self.acknowledged(index)?;
                self.client.open.remove(index);
            }
            ToClient::Refused { packet_id } => {
                if let Some(index) = find(&self.client, packet_id) {
                    self.client.open.remove(index);
                }
            }
        }
        Ok(())
    }

    fn acknowledged(&mut self, index: usize) -> Result<(), Violation> {
        let message = self.client.open[index].message;
        let stored = self.kafka.iter().any(|(_, stored)| *stored == message);
        if stored { Ok(()) } else { Err(Violation::Lost) }
    }

    fn client_is_cut_off(&mut self) {
        self.client.pod = None;
        self.to_pod.clear();
        self.to_client.clear();
    }

    // A connection to a pod. CONNECT, the takeover and CONNACK are one step.

    fn connect(&mut self, pod: usize, bounds: Bounds) {
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
    fn has_heritage(&self, pod: usize, bounds: Bounds) -> bool {
        let Some(Connection { handshakes, .. }) = &self.pods[pod] else { return false };
        match bounds.bug {
            Some(Bug::HandedOverWhileWriting | Bug::ReclaimedHandedOver) => true,
            _ => handshakes.may_be_handed_over(),
        }
    }

    /// Another connection of the client to the same pod, which has the session from the one before; the store is not
    /// asked.
    fn inherit(&mut self, pod: usize, bounds: Bounds) {
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
    fn begin(&mut self, pod: usize, connection: Connection) {
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

    fn pod_receives(&mut self, bounds: Bounds) {
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
    fn pod_goes_on(&mut self, pod: usize, bounds: Bounds) {
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
    fn close(&mut self, pod: usize) {
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
    fn killed_connection(&mut self, pod: usize) {
        let Some(connection) = self.pods[pod].take() else { return };
        self.abandon(connection);
        if self.client.pod == Some(pod) {
            self.client_is_cut_off();
        }
    }

    /// The store does not answer. A connection of which nobody wanted anything goes on, and what it sent may still arrive.
    fn store_silent(&mut self, pod: usize) {
        let Some(connection) = &mut self.pods[pod] else { return };
        if connection.handshakes.put_off() {
            self.strays.extend(connection.command.take());
        } else {
            self.killed_connection(pod);
        }
    }

    fn abandon(&mut self, connection: Connection) {
        self.strays.extend(connection.command);
        let produced = connection.produced.iter().filter(|produced| !produced.stored);
        self.late.extend(produced.map(|produced| (produced.number, produced.message)));
    }

    // The store.

    fn remember(&mut self) {
        if self.past.last() != Some(&self.store) {
            self.past.push(self.store.clone());
            if self.past.len() > PAST {
                self.past.remove(0);
            }
        }
    }

    fn forget(&mut self, store: Option<Record>, restarted: bool) {
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

    fn apply(&mut self, command: &Command, bounds: Bounds) -> Result<Option<record::Fence>, Rejected> {
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

    fn store_writes(&mut self, pod: usize, bounds: Bounds) {
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

    // Kafka.

    fn stored(&mut self, number: Number, message: Message) -> Result<(), Violation> {
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

    fn reported(&mut self, pod: usize, index: usize) {
        let Some(connection) = &mut self.pods[pod] else { return };
        let Produced { packet_id, ticket, handed_over, .. } = connection.produced.remove(index);
        let receipt = Receipt::for_test("t", 0, None, 0);
        let is_due = handed_over || connection.handshakes.persisted(packet_id, ticket, receipt);
        if is_due && self.client.pod == Some(pod) {
            self.to_client.push(ToClient::Received { packet_id });
        }
    }

    fn refused(&mut self, pod: usize, index: usize) {
        let Some(connection) = &mut self.pods[pod] else { return };
        let Produced { packet_id, ticket, .. } = connection.produced.remove(index);
        let _ = connection.handshakes.refused(packet_id, ticket, 0x99);
    }
}

impl Connection {
    fn new(handshakes: Handshakes, fence: record::Fence) -> Self {
        Self { handshakes, fence, waiting: Vec::new(), produced: Vec::new(), command: None }
    }
}

impl Command {
    fn epoch(&self) -> Epoch {
        let (Self::Write { epoch, .. } | Self::Reclaim { epoch, .. }) = self;
        *epoch
    }
}

fn recall(receipt: &KeptReceipt) -> Option<Receipt> {
    Some(Receipt::for_test("t", receipt.partition, receipt.offset, receipt.timestamp_millis))
}
