//! A short fault campaign with a fixed seed, as `make campaign` runs long ones.

use std::time::Duration;

use penstock_e2e::campaign::{self, Plan};

/// So few that a run of all tests stays short; the seed decides which.
const FAULTS: usize = 8;

#[test]
fn a_short_campaign_finds_nothing() {
    let plan = Plan { seed: 6, time: Duration::ZERO, faults_a_round: FAULTS, rate: 1_000 };
    let report = campaign::run(&plan);
    println!("{}", report.markdown());
    assert!(report.violations.is_empty(), "{:#?}", report.violations);
    assert!(report.faults() >= FAULTS && report.acknowledged > 1_000, "{report:?}");
}
