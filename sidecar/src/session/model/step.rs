//! What can happen, and what must not.

use super::{Bounds, Client, Command, Fault, World};
use crate::session::record::Epoch;

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

    pub(super) fn random(&mut self) -> u64 {
        self.random += 1;
        self.random
    }
}

impl Command {
    fn epoch(&self) -> Epoch {
        let (Self::Write { epoch, .. } | Self::Reclaim { epoch, .. }) = self;
        *epoch
    }
}
