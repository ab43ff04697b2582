//! Faults on the roads from clients to edges.

use super::heal::{Heal, on_the_road, reset};
use super::strangers;
use crate::balancer::Road;
use crate::campaign::faults::Kind;
use crate::campaign::site::{EDGES, Site};
use crate::dice::Dice;

pub(super) fn inject(kind: Kind, site: &Site, dice: &mut Dice) -> Heal {
    let edge = &site.edges[dice.below(EDGES)];
    match kind {
        Kind::ClientsReset => reset(site, Site::roads),
        Kind::ClientsCut => on_the_road(site, Site::roads, Road::cut),
        Kind::AnswersCut => on_the_road(site, Site::roads, |road| road.closed_to_clients = true),
        Kind::ClientsFar => on_the_road(site, Site::roads, |road| road.lengthen(150, 100)),
        Kind::ClientsNarrow => on_the_road(site, Site::roads, |road| road.bytes_per_second = Some(2_048)),
        Kind::Garbage => strangers::with_garbage(edge, dice),
        Kind::HalfSent => strangers::with_halves(edge),
        Kind::Unread => strangers::who_read_nothing(edge),
        Kind::Confused => strangers::who_are_confused(edge, dice),
        other => unreachable!("{other:?} is no fault of the road"),
    }
}
