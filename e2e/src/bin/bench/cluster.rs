//! What a person waits for: from `kubectl apply` to Ready on a whole cluster that has the images.

use penstock_e2e::Installed;

use crate::figures::{Figure, Mark};
use crate::rounds::say;

/// Measures `rounds` pipelines, one after another. The time that pods must have been ready is not ours, and left out.
pub(crate) fn figures(rounds: usize) -> Vec<Figure> {
    if !rustix::process::geteuid().is_root() {
        say("a whole cluster: left out, for it needs root");
        return Vec::new();
    }
    say(&format!("a whole cluster: {rounds} pipelines from kubectl apply to Ready"));
    let cluster = Installed::start();
    let beyond = |round: usize| {
        let namespace = format!("round-{round}");
        let took = cluster.apply_ready(&cluster.telemetry(&namespace));
        took.saturating_sub(cluster.min_ready(&namespace, "telemetry")).as_secs_f64()
    };
    let samples = (0..rounds).map(beyond).collect();
    vec![Figure::new("cluster_apply_to_ready_s", "s", samples).mark(Mark::AtMost(8.0))]
}
