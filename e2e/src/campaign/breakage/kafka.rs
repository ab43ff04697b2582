//! Faults of Kafka: of its processes, of what it is told, and of the roads from edges to brokers.

use std::time::Duration;

use super::heal::{Heal, mend, on_the_road, reset};
use crate::balancer::Road;
use crate::campaign::faults::Kind;
use crate::campaign::site::{BROKERS, PARTITIONS, Site};
use crate::dice::Dice;
use crate::until::{START, until, within};

const MIN_IN_SYNC: &str = "min.insync.replicas";
/// More replicas than there are brokers.
const WANTED: usize = BROKERS + 1;
/// When nothing is appended for so long, nothing will be: senders never pause.
const LAST_APPENDED: Duration = Duration::from_millis(1_500);

pub(super) fn inject(kind: Kind, site: &mut Site, dice: &mut Dice) -> Heal {
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
            kafka.configure_topic(&site.topic, MIN_IN_SYNC, &WANTED.to_string());
            mend(|site| site.kafka.configure_topic(&site.topic, MIN_IN_SYNC, "2"))
        }
        Kind::ProducersThrottled => {
            kafka.limit_producers(Some(30_000));
            mend(|site| site.kafka.limit_producers(None))
        }
        Kind::TopicRecreated => {
            // Nothing more is acknowledged, so that all that was can be read before it goes.
            kafka.forbid_writing(&site.topic, true);
            let mut appended = kafka.appended(&site.topic);
            until("nothing more is appended", START, || {
                let _ = within(LAST_APPENDED, || None::<()>);
                let before = std::mem::replace(&mut appended, kafka.appended(&site.topic));
                (before == appended).then_some(())
            });
            let read = kafka.read(&site.topic);
            kafka.delete_topic(&site.topic);
            let lost = read.len() as u64;
            site.former.extend(read);
            Box::new(move |site| {
                site.create_topic();
                site.kafka.forbid_writing(&site.topic, false);
                lost
            })
        }
        Kind::WritingForbidden => {
            kafka.forbid_writing(&site.topic, true);
            mend(|site| site.kafka.forbid_writing(&site.topic, false))
        }
        Kind::BrokerDiskFull => {
            kafka.broker(broker).disk().fill();
            mend(move |site| {
                let broker = site.kafka.broker(broker);
                broker.wait_ended();
                broker.disk().relieve();
                broker.restart();
            })
        }
        Kind::BrokerCut => on_the_road(site, move |site| vec![&*site.to_brokers[broker]], Road::cut),
        Kind::BrokerAnswersCut => {
            on_the_road(site, Site::roads_to_brokers, |road| road.closed_to_clients = true)
        }
        Kind::BrokersFar => on_the_road(site, Site::roads_to_brokers, |road| road.lengthen(150, 100)),
        Kind::BrokersReset => reset(site, Site::roads_to_brokers),
        other => unreachable!("{other:?} is no fault of Kafka"),
    }
}
