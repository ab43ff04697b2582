//! Faults of an edge, and of the resources that it has.

use std::time::{Duration, SystemTime};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use super::heal::{Heal, mend};
use super::strangers;
use crate::Sidecar;
use crate::campaign::certificates::{HTTPS, MQTTS, Pair};
use crate::campaign::faults::Kind;
use crate::campaign::site::{EDGES, Site};
use crate::dice::Dice;
use crate::until::{SOON, until};

/// Cgroups of this kernel (version 1).
const CGROUPS: &str = "/sys/fs/cgroup";
/// How long an edge may take to end when it is asked to.
const END: Duration = Duration::from_secs(60);
/// What an edge may take more of memory before it is killed.
const MEMORY_BYTES: u32 = 1 << 20;
const HOUR_SECONDS: i64 = 3_600;

pub(super) fn inject(kind: Kind, site: &mut Site, index: usize, dice: &mut Dice) -> Heal {
    let edge = &mut site.edges[index];
    match kind {
        Kind::EdgeKilled => {
            edge.kill9();
            mend(move |site| site.edges[index].restart())
        }
        Kind::EdgeTerminated => {
            edge.sigterm();
            mend(move |site| drained(&mut site.edges[index]))
        }
        Kind::EdgeStopped => {
            edge.stop();
            mend(move |site| site.edges[index].cont())
        }
        Kind::EdgeStarved => {
            let pid = edge.pid();
            confine(pid, "cpu", "cpu.cfs_quota_us", 5_000);
            mend(move |_| release(pid, "cpu"))
        }
        Kind::EdgeOutOfDescriptors => {
            let heal = no_more_descriptors(edge.pid());
            // Clients come back, and this edge cannot take them.
            site.roads().into_iter().for_each(|road| _ = road.reset_all());
            heal
        }
        Kind::EdgeOutOfMemory => {
            let pid = edge.pid();
            confine(pid, "memory", "memory.limit_in_bytes", MEMORY_BYTES);
            let leave = strangers::with_large_bodies(edge);
            Box::new(move |site| {
                leave(site);
                let edge = &mut site.edges[index];
                let killed = !edge.is_running();
                release(pid, "memory");
                if killed {
                    edge.restart();
                }
                u64::from(killed)
            })
        }
        Kind::EdgesRolled => {
            site.change_configuration();
            for edge in &mut site.edges {
                edge.sigterm();
                drained(edge);
            }
            mend(|_| ())
        }
        Kind::ClockStepped => {
            site.set_clock(index, if dice.below(2) == 0 { HOUR_SECONDS } else { -HOUR_SECONDS });
            Box::new(move |site| {
                let is_off = time_of(&site.edges[index]).is_some_and(|time| {
                    let now = SystemTime::now();
                    let off = time.duration_since(now).or_else(|_| now.duration_since(time));
                    off.is_ok_and(|off| off.as_secs() > HOUR_SECONDS as u64 / 2)
                });
                site.set_clock(index, 0);
                u64::from(is_off)
            })
        }
        Kind::CertificatesRenewed => {
            site.certificates.renew();
            site.mount(site.certificates.current());
            Box::new(|site| shown_by_all(site, site.certificates.current()))
        }
        Kind::CertificatesMismatched => {
            let before = site.certificates.renew();
            site.mount(&site.certificates.current().with_key_of(&before));
            Box::new(move |site| {
                let current = [MQTTS, HTTPS].map(|endpoint| {
                    format!("penstock_endpoint_certificate_current{{endpoint=\"{endpoint}\"}}")
                });
                until("every edge says that its certificate and key do not fit", SOON, || {
                    let all = |edge: &Sidecar| current.iter().all(|current| edge.metric(current) == 0.0);
                    site.edges.iter().all(all).then_some(())
                });
                let kept = shown_by_all(site, &before);
                site.mount(site.certificates.current());
                shown_by_all(site, site.certificates.current());
                kept
            })
        }
        other => unreachable!("{other:?} is no fault of an edge"),
    }
}

/// Waits until every edge shows this certificate to who comes now. Says how many they are.
fn shown_by_all(site: &Site, pair: &Pair) -> u64 {
    until("every edge shows the certificate that it should have", SOON, || {
        (site.showing(pair) == EDGES).then_some(EDGES as u64)
    })
}

/// Waits for the end of an edge that was asked for it, and starts it again.
fn drained(edge: &mut Sidecar) {
    assert_eq!(edge.wait_exit_code(END), 0, "an edge that was asked to end");
    edge.restart();
}

/// What an edge takes for the time, by the Date of its answers.
fn time_of(edge: &Sidecar) -> Option<SystemTime> {
    let answer = crate::clients::curl(edge.http(), "/", &[]);
    httpdate::parse_http_date(answer.header("date")?).ok()
}

fn group(pid: u32, controller: &str) -> String {
    format!("{CGROUPS}/{controller}/penstock-campaign-{pid}")
}

/// Puts a process into a cgroup of its own with this limit.
fn confine(pid: u32, controller: &str, limit: &str, value: u32) {
    let group = group(pid, controller);
    std::fs::create_dir(&group).expect("a cgroup; run it as root, on a kernel with cgroups of version 1");
    std::fs::write(format!("{group}/{limit}"), value.to_string()).expect("a limit");
    std::fs::write(format!("{group}/cgroup.procs"), pid.to_string()).expect("a process to move");
}

/// Ends [`confine`]. The process may have ended meanwhile, by another fault.
fn release(pid: u32, controller: &str) {
    let group = group(pid, controller);
    let _ = std::fs::write(format!("{CGROUPS}/{controller}/cgroup.procs"), pid.to_string());
    let _ = std::fs::remove_dir(&group);
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
