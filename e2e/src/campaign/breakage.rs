//! How each kind of fault is made, and mended.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use super::balancer::{Balancer, Road};
use super::dice::Dice;
use super::faults::{Kind, Place};
use super::site::{BROKERS, EDGES, PARTITIONS, Site};
use crate::Sidecar;

/// Cgroups of this kernel's cpu controller (version 1).
const CPU: &str = "/sys/fs/cgroup/cpu";
/// How long an edge may take to end when it is asked to.
const END: Duration = Duration::from_secs(60);
const STRANGERS: usize = 100;

/// Mends a fault. Says how often it was seen to hit something, where no client of the load can tell.
pub(super) type Heal = Box<dyn FnOnce(&mut Site) -> u64 + Send>;

/// Breaks something.
pub(super) fn inject(kind: Kind, site: &mut Site, dice: &mut Dice) -> Heal {
    match kind.place() {
        Place::Edge => edge(kind, site, dice.below(EDGES)),
        Place::Kafka => kafka(kind, site, dice),
        Place::Road => road(kind, site, dice),
        Place::Redis => redis(kind, site),
    }
}

fn mend(mend: impl FnOnce(&mut Site) + Send + 'static) -> Heal {
    Box::new(move |site| {
        mend(site);
        0
    })
}

fn edge(kind: Kind, site: &mut Site, index: usize) -> Heal {
    let edge = &mut site.edges[index];
    match kind {
        Kind::EdgeKilled => {
            edge.kill9();
            mend(move |site| site.edges[index].restart())
        }
        Kind::EdgeTerminated => {
            edge.sigterm();
            mend(move |site| {
                let edge = &mut site.edges[index];
                assert_eq!(edge.wait_exit_code(END), 0, "an edge that was asked to end");
                edge.restart();
            })
        }
        Kind::EdgeStopped => {
            edge.stop();
            mend(move |site| site.edges[index].cont())
        }
        Kind::EdgeStarved => starve(edge.pid()),
        Kind::EdgeOutOfDescriptors => {
            let heal = no_more_descriptors(edge.pid());
            // Clients come back, and this edge cannot take them.
            site.roads().into_iter().for_each(Balancer::reset_all);
            heal
        }
        other => unreachable!("{other:?} is no fault of an edge"),
    }
}

fn kafka(kind: Kind, site: &Site, dice: &mut Dice) -> Heal {
    let broker = dice.below(BROKERS);
    let (two, third) = ([broker, (broker + 1) % BROKERS], (broker + 2) % BROKERS);
    let kafka = &site.kafka;
    match kind {
        Kind::LeaderKilled => {
            let leader = kafka.leader(&site.topic, dice.below(PARTITIONS) as i32).unwrap_or(broker);
            kafka.broker(leader).kill();
            mend(move |site| site.kafka.broker(leader).restart())
        }
        Kind::BrokerStopped => {
            kafka.broker(broker).stop();
            mend(move |site| site.kafka.broker(broker).cont())
        }
        Kind::TwoBrokersStopped => {
            two.into_iter().for_each(|broker| kafka.broker(broker).stop());
            mend(move |site| two.into_iter().for_each(|broker| site.kafka.broker(broker).cont()))
        }
        Kind::ControllerKilled => {
            kafka.controller().kill();
            mend(|site| site.kafka.controller().restart())
        }
        Kind::LeadersMoved => {
            kafka.place(&site.topic, PARTITIONS, &[two[1], third, two[0]]);
            kafka.elect_preferred_leaders();
            mend(|_| ())
        }
        Kind::ReplicasMoved => {
            kafka.place(&site.topic, PARTITIONS, &two);
            mend(move |site| site.kafka.place(&site.topic, PARTITIONS, &[two[1], two[0], third]))
        }
        Kind::ReplicasWanting => {
            let wanted = (BROKERS + 1).to_string();
            kafka.configure_topic(&site.topic, "min.insync.replicas", &wanted);
            mend(|site| site.kafka.configure_topic(&site.topic, "min.insync.replicas", "2"))
        }
        Kind::ProducersThrottled => {
            kafka.limit_producers(Some(30_000));
            mend(|site| site.kafka.limit_producers(None))
        }
        other => unreachable!("{other:?} is no fault of Kafka"),
    }
}

fn road(kind: Kind, site: &Site, dice: &mut Dice) -> Heal {
    let edge = &site.edges[dice.below(EDGES)];
    match kind {
        Kind::ClientsReset => {
            // In small pieces, so that the end is in the middle of a message.
            let heal = on_the_road(site, |road| road.piece_bytes = Some(7));
            Box::new(|site| {
                site.roads().into_iter().for_each(Balancer::reset_all);
                heal(site)
            })
        }
        Kind::ClientsCut => on_the_road(site, |road| {
            road.closed_to_edge = true;
            road.closed_to_clients = true;
        }),
        Kind::AnswersCut => on_the_road(site, |road| road.closed_to_clients = true),
        Kind::ClientsFar => on_the_road(site, |road| {
            road.delay = Duration::from_millis(150);
            road.jitter = Duration::from_millis(100);
        }),
        Kind::ClientsNarrow => on_the_road(site, |road| road.bytes_per_second = Some(2_048)),
        Kind::Garbage => {
            let mut garbage = || (0..64).flat_map(|_| dice.roll().to_le_bytes()).collect::<Vec<_>>();
            strangers(edge, |_| garbage())
        }
        Kind::HalfSent => strangers(edge, |is_mqtt| {
            let half: &[u8] = if is_mqtt {
                b"\x10\x20\x00\x04MQTT\x05"
            } else {
                b"POST /v1/p/d/telemetry HTTP/1.1\r\nHost: half\r\nContent-Length: 100\r\n\r\nhalf"
            };
            half.to_vec()
        }),
        other => unreachable!("{other:?} is no fault of the road"),
    }
}

fn redis(kind: Kind, site: &Site) -> Heal {
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
        other => unreachable!("{other:?} is no fault of Redis"),
    }
}

fn on_the_road(site: &Site, change: impl Fn(&mut Road)) -> Heal {
    site.roads().into_iter().for_each(|road| road.change(&change));
    mend(|site| site.roads().into_iter().for_each(Balancer::clear))
}

/// Strangers who say something to both endpoints of an edge and stay; a hit is one who is sent away.
fn strangers(edge: &Sidecar, mut says: impl FnMut(bool) -> Vec<u8>) -> Heal {
    let mut connections = Vec::new();
    for _ in 0..STRANGERS {
        connections.extend(stranger(edge.mqtt(), &says(true)));
        connections.extend(stranger(edge.http(), &says(false)));
    }
    Box::new(move |_| connections.into_iter().filter_map(sent_away).count() as u64)
}

fn stranger(address: SocketAddr, bytes: &[u8]) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.write_all(bytes).ok()?;
    stream.set_nonblocking(true).ok()?;
    Some(stream)
}

fn sent_away(mut stream: TcpStream) -> Option<()> {
    let mut said = [0; 4_096];
    loop {
        match stream.read(&mut said) {
            Ok(1..) => {}
            Ok(0) => return Some(()),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return None,
            Err(_) => return Some(()),
        }
    }
}

/// A twentieth of a processor for a process.
fn starve(pid: u32) -> Heal {
    let group = format!("{CPU}/penstock-campaign-{pid}");
    std::fs::create_dir(&group).expect("a cgroup; run it as root, on a kernel with the cpu controller");
    std::fs::write(format!("{group}/cpu.cfs_quota_us"), "5000").expect("a quota");
    std::fs::write(format!("{group}/cgroup.procs"), pid.to_string()).expect("a process to move");
    mend(move |_| {
        // It may have ended meanwhile, by another fault.
        let _ = std::fs::write(format!("{CPU}/cgroup.procs"), pid.to_string());
        let _ = std::fs::remove_dir(&group);
    })
}

/// As many descriptors as a process has, and no more.
fn no_more_descriptors(pid: u32) -> Heal {
    let process = Pid::from_raw(pid as i32);
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count) as u64;
    // It has its limits from this process, and raises its own to the highest.
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let limit = move |current| prlimit(process, Resource::Nofile, Rlimit { current, maximum });
    limit(Some(open)).expect("a limit for a process of ours");
    mend(move |_| {
        // It may have ended meanwhile, by another fault.
        let _ = limit(maximum);
    })
}
