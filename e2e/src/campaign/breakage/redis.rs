//! Faults of Redis, and of the roads to it.

use super::heal::{Heal, mend, on_the_road};
use crate::balancer::Road;
use crate::campaign::faults::Kind;
use crate::campaign::site::Site;

pub(super) fn inject(kind: Kind, site: &Site) -> Heal {
    let redis = &site.redis;
    let port = redis.primary().port();
    let primary = redis.servers().iter().position(|server| server.port() == port).expect("one of ours");
    match kind {
        Kind::RedisKilled => {
            redis.server(primary).kill();
            mend(move |site| {
                site.redis.wait_for_failover(site.redis.server(primary));
                site.redis.server(primary).restart();
            })
        }
        Kind::RedisStopped => {
            redis.server(primary).stop();
            mend(move |site| site.redis.server(primary).cont())
        }
        Kind::RedisReplicaKilled => {
            let replica = 1 - primary;
            redis.server(replica).kill();
            Box::new(move |site| {
                let told = site.redis.server(primary).try_cli(&["INFO", "replication"]);
                site.redis.server(replica).restart();
                u64::from(told.is_some_and(|told| told.contains("connected_slaves:0")))
            })
        }
        Kind::RedisFlushed => {
            let keys = redis.server(primary).cli(&["DBSIZE"]).parse().expect("a number of keys");
            redis.flush_all();
            Box::new(move |_| keys)
        }
        Kind::RedisCut => on_the_road(site, move |site| vec![&*site.to_redis[primary]], Road::cut),
        Kind::RedisFar => on_the_road(site, Site::roads_to_redis, |road| road.lengthen(75, 50)),
        other => unreachable!("{other:?} is no fault of Redis"),
    }
}
