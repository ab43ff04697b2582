//! What the client does.

use super::step::Violation;
use super::{Bounds, Client, Sent, ToClient, ToPod, World};

impl World {
    pub(super) fn free_id(&self, bounds: Bounds) -> Option<u16> {
        (1..=bounds.packet_ids).find(|id| self.client.open.iter().all(|sent| sent.packet_id != *id))
    }

    pub(super) fn publish(&mut self, bounds: Bounds) {
        let Some(packet_id) = self.free_id(bounds) else { return };
        let (message, life) = (self.client.next, self.client.life);
        self.client.next += 1;
        self.client.open.push(Sent { packet_id, message, received: false });
        self.to_pod.push(ToPod::Publish { packet_id, dup: false, message, life });
    }

    pub(super) fn client_receives(&mut self) -> Result<(), Violation> {
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

    pub(super) fn acknowledged(&mut self, index: usize) -> Result<(), Violation> {
        let message = self.client.open[index].message;
        let stored = self.kafka.iter().any(|(_, stored)| *stored == message);
        if stored { Ok(()) } else { Err(Violation::Lost) }
    }

    pub(super) fn client_is_cut_off(&mut self) {
        self.client.pod = None;
        self.to_pod.clear();
        self.to_client.clear();
    }
}
