//! What the machine is, and what it and single processes spend.

use std::fs;

/// Clock ticks a second in /proc; USER_HZ is 100 on every architecture that Linux runs Kafka on.
const TICKS: f64 = 100.0;

/// User and system time of a process and all its threads so far, in seconds.
pub(crate) fn cpu_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a running process");
    // The second field is the name in parentheses, which may hold anything; utime and stime are the 14th and 15th.
    let (_, rest) = stat.rsplit_once(") ").expect("a process name");
    rest.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<f64>().expect("ticks")).sum::<f64>() / TICKS
}

/// Resident memory of a process, in KiB.
pub(crate) fn rss_kib(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a running process");
    field(&status, "VmRSS:").trim_end_matches(" kB").parse().expect("a number of KiB")
}

/// Seconds since boot, of all processors together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Busy {
    /// In processes, user and system.
    pub(crate) busy: f64,
    /// Given to other machines by the hypervisor.
    pub(crate) stolen: f64,
}

/// What the machine has been doing.
pub(crate) fn busy() -> Busy {
    let stat = fs::read_to_string("/proc/stat").expect("/proc/stat");
    // user nice system idle iowait irq softirq steal: proc_stat(5).
    let ticks: Vec<f64> = field(&stat, "cpu ").split(' ').filter_map(|ticks| ticks.parse().ok()).collect();
    Busy { busy: (ticks[0] + ticks[1] + ticks[2]) / TICKS, stolen: ticks[7] / TICKS }
}

/// The number of processors and their model.
pub(crate) fn processors() -> (usize, String) {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    (count, model.trim_start_matches([' ', '\t', ':']).to_owned())
}

/// Memory in GiB.
pub(crate) fn memory_gib() -> f64 {
    let text = fs::read_to_string("/proc/meminfo").expect("/proc/meminfo");
    let kib: f64 = field(&text, "MemTotal:").trim_end_matches(" kB").parse().expect("a number of KiB");
    kib / f64::from(1 << 20)
}

/// The kernel's release.
pub(crate) fn kernel() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

fn field<'a>(text: &'a str, name: &str) -> &'a str {
    text.lines().find_map(|line| line.strip_prefix(name)).expect("a known field").trim()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_process_that_computes_spends_time() {
        let pid = std::process::id();
        let before = (super::cpu_seconds(pid), super::busy().busy);
        let mut sum = 0u64;
        while super::cpu_seconds(pid) - before.0 < 0.05 {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(super::busy().busy > before.1);
        assert!(super::rss_kib(pid) > 100.0);
    }
}
