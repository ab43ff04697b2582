//! How faults are mended.

use std::time::Duration;

use crate::Balancer;
use crate::balancer::Road;
use crate::campaign::site::Site;
use crate::until::within;

/// For how long everything passes in pieces before connections end.
const IN_PIECES: Duration = Duration::from_millis(300);

/// Mends a fault. Says how often it was seen to hit something, where no client of the load can tell.
pub(super) type Heal = Box<dyn FnOnce(&mut Site) -> u64 + Send>;

pub(super) fn mend(mend: impl FnOnce(&mut Site) + Send + 'static) -> Heal {
    Box::new(move |site| {
        mend(site);
        0
    })
}

/// Makes roads of a site so until they are mended.
pub(super) fn on_the_road(
    site: &Site,
    roads: impl Fn(&Site) -> Vec<&Balancer> + Send + 'static,
    change: impl Fn(&mut Road),
) -> Heal {
    roads(site).into_iter().for_each(|road| road.change(&change));
    mend(move |site| roads(site).into_iter().for_each(Balancer::clear))
}

/// Has connections on these roads end in the middle of a message: until then everything passes in small pieces. A hit is
/// a connection that ended.
pub(super) fn reset(site: &Site, roads: fn(&Site) -> Vec<&Balancer>) -> Heal {
    let heal = on_the_road(site, roads, |road| road.piece_bytes = Some(7));
    let _ = within(IN_PIECES, || None::<()>);
    let ended: usize = roads(site).into_iter().map(Balancer::reset_all).sum();
    Box::new(move |site| heal(site) + ended as u64)
}
