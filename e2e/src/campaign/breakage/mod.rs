//! How each kind of fault is made, and mended.

mod edge;
mod heal;
mod kafka;
mod redis;
mod road;
mod strangers;

use self::heal::Heal;
use super::faults::{Kind, Place};
use super::site::{EDGES, Site};
use crate::dice::Dice;

/// A fault that is there.
pub(super) struct Fault {
    /// Its kind.
    pub(super) kind: Kind,
    heal: Heal,
}

impl Fault {
    /// Breaks something.
    pub(super) fn inject(kind: Kind, site: &mut Site, dice: &mut Dice) -> Self {
        let heal = match kind.place() {
            Place::Edge => edge::inject(kind, site, dice.below(EDGES), dice),
            Place::Kafka => kafka::inject(kind, site, dice),
            Place::Road => road::inject(kind, site, dice),
            Place::Redis => redis::inject(kind, site),
        };
        Self { kind, heal }
    }

    /// Mends it, and waits until the part that was broken serves again. Says how often it was seen to hit something.
    pub(super) fn heal(self, site: &mut Site) -> u64 {
        let hits = (self.heal)(site);
        match self.kind.place() {
            Place::Kafka => site.kafka.wait_in_sync(&site.topic),
            Place::Redis => drop(site.redis.primary()),
            Place::Edge | Place::Road => {}
        }
        hits
    }
}
