//! The fault campaign: load of every kind on real parts, faults by a seeded schedule, alone and in pairs, and the checker's
//! judgement after each round. docs/proof.md says what it shows.
//!
//! A round has edges and a topic of its own, so that memory stays bounded however long the campaign is.

mod breakage;
pub mod certificates;
pub mod faults;
pub mod report;
pub mod site;
mod watch;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use self::breakage::Fault;
use self::faults::{Kind, Place};
use self::report::{Effect, Report, Violation};
use self::site::Site;
use self::watch::Watch;
use crate::checker::{Disturbance, History, Outcome, check};
use crate::dice::Dice;
use crate::load::Loads;
use crate::until::within;

/// How long goodput is watched before a fault.
const BEFORE: Duration = Duration::from_millis(2_500);
/// Goodput after a heal has to reach this part of what it was before, and within which time.
const RECOVERED: f64 = 0.9;
const RECOVER_WITHIN: Duration = Duration::from_secs(10);
/// How long it is waited for at most.
const GIVE_UP: Duration = Duration::from_secs(60);
/// How long the last answers may take when all is well.
const FINISH: Duration = Duration::from_secs(120);
/// How long edges may hold anything when everybody has gone.
const LET_GO: Duration = Duration::from_secs(20);
/// Of so many faults one has another beside it.
const PAIRS: usize = 4;

/// How much to do.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Decides everything that chance decides.
    pub seed: u64,
    /// No round begins after this time.
    pub time: Duration,
    /// Faults in a round, pairs counted as one.
    pub faults_a_round: usize,
    /// Messages a second.
    pub rate: u32,
}

/// Runs rounds until the time is over, and tells of each on standard error.
pub fn run(plan: &Plan) -> Report {
    let started = Instant::now();
    let mut report = Report::new(plan);
    let mut site = Site::start();
    let mut deck = Deck::new(plan.seed);
    while report.rounds == 0 || started.elapsed() < plan.time {
        report.rounds += 1;
        let outcome = catch_unwind(AssertUnwindSafe(|| round(&mut site, &mut deck, plan, &mut report)));
        if let Err(panic) = outcome {
            let what = panic.downcast_ref::<String>().map_or("a part failed", String::as_str);
            report.violation("broken off", what.lines().take(3).collect::<Vec<_>>().join(" "));
            site = Site::start();
        }
        eprintln!("{}", report.line(started.elapsed()));
    }
    report.seconds = started.elapsed().as_secs();
    report
}

/// Every kind once, in an order that the seed decides, and again.
struct Deck {
    dice: Dice,
    cards: Vec<Kind>,
}

impl Deck {
    fn new(seed: u64) -> Self {
        Self { dice: Dice::of(seed), cards: Vec::new() }
    }

    fn draw(&mut self) -> Vec<Kind> {
        let first = self.next(|_| true);
        let mut kinds = vec![first];
        if self.dice.below(PAIRS) == 0 {
            kinds.push(self.next(|kind| kind.place() != first.place()));
            kinds.sort_by_key(|kind| kind.place() != Place::Edge);
        }
        kinds
    }

    fn next(&mut self, fits: impl Fn(Kind) -> bool) -> Kind {
        loop {
            if let Some(place) = self.cards.iter().position(|&kind| fits(kind)) {
                return self.cards.remove(place);
            }
            let mut all = Kind::ALL;
            self.dice.shuffle(&mut all);
            self.cards.extend(all);
        }
    }
}

/// Faults that were there at the same time.
struct Trouble {
    kinds: Vec<Kind>,
    from: Instant,
    /// When goodput was as before.
    to: Instant,
}

fn round(site: &mut Site, deck: &mut Deck, plan: &Plan, report: &mut Report) {
    site.begin_round();
    let loads = site.loads(plan.rate);
    let unanswered = site.unanswered_load(plan.rate);
    loads.wait_acknowledged(100);
    let watch = Watch::new();
    let admins: Vec<_> = site.edges.iter().map(crate::Sidecar::admin).collect();
    let mut troubles = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| watch.goodput(&loads));
        scope.spawn(|| watch.books(&admins));
        // The watchers end whatever happens here.
        let faults = catch_unwind(AssertUnwindSafe(|| {
            for _ in 0..plan.faults_a_round {
                let kinds = deck.draw();
                troubles.push(break_and_mend(site, kinds, &loads, &watch, &mut deck.dice, report));
            }
        }));
        watch.end();
        if let Err(panic) = faults {
            std::panic::resume_unwind(panic);
        }
    });
    report.unreachable += loads.unreachable();
    let mut history = loads.finish(FINISH);
    history.merge(unanswered.finish(FINISH));
    report.late_excused += excuse(&mut history, &troubles);
    history.disturbances.extend(troubles.iter().map(|Trouble { kinds, from, to }| Disturbance {
        what: format!("{kinds:?}"),
        from: *from,
        to: *to,
    }));
    report.now = troubles.iter().flat_map(|trouble| &trouble.kinds).copied().collect();
    let verdict = check(&history, &site.take_records());
    let forgets = report.now.iter().any(|kind| kind.forgets_sessions());
    let verdict = if forgets { verdict.allow_two_ids().allow_forgotten_sessions() } else { verdict };
    report.add(&history, &verdict);
    for (name, lines) in verdict.violations() {
        lines.iter().for_each(|line| report.violation(name, line.clone()));
    }
    wrong_answers(&history).into_iter().for_each(|line| report.violation("wrong answer", line));
    watch.take_unbalanced().into_iter().for_each(|line| report.violation("books do not balance", line));
    if within(LET_GO, || site.held().is_empty().then_some(())).is_none() {
        site.held().into_iter().for_each(|line| report.violation("held for nobody", line));
    }
    report.kafka_failures += site.kafka_failures();
}

/// Answers may be late without anybody's fault while somebody on their way was held. How many that were.
fn excuse(history: &mut History, troubles: &[Trouble]) -> u64 {
    let delays = |trouble: &&Trouble| trouble.kinds.iter().any(|kind| kind.delays_answers());
    let excuses: Vec<_> = troubles.iter().filter(delays).collect();
    let before = history.late.len();
    history.late.retain(|late| {
        !excuses.iter().any(|trouble| late.sent < trouble.to && late.sent + late.took > trouble.from)
    });
    (before - history.late.len()) as u64
}

/// Answers that fit no cause: every message of the load is good, so that none may be refused for good, and whoever is told
/// to wait is told how long.
fn wrong_answers(history: &History) -> Vec<String> {
    let refused = history.messages.iter().filter(|message| matches!(message.outcome, Outcome::Refused(_)));
    let unclear = history.transient.iter().filter(|(status, after)| *status != 503 || after.is_none());
    refused
        .map(|message| history.describe(message))
        .chain(unclear.map(|answer| format!("HTTP {answer:?}")))
        .collect()
}

/// Has faults come, last and go, and notes what they did.
fn break_and_mend(
    site: &mut Site,
    kinds: Vec<Kind>,
    loads: &Loads,
    watch: &Watch,
    dice: &mut Dice,
    report: &mut Report,
) -> Trouble {
    let _ = within(BEFORE, || None::<()>);
    let began = Instant::now();
    let before = watch.rate(began.checked_sub(BEFORE).unwrap_or(began), began);
    let counted = [loads.closes(), loads.unreachable(), loads.transient()];
    loads.take_longest();
    report.now.clone_from(&kinds);
    let mut faults: Vec<_> =
        kinds.iter().map(|kind| (kind.lasts(dice), Fault::inject(*kind, site, dice))).collect();
    let lasts = faults.iter().map(|(lasts, _)| *lasts).max().unwrap_or_default();
    let _ = within(lasts, || None::<()>);
    // An edge that starts again waits for what else is broken.
    faults.sort_by_key(|(_, fault)| fault.kind.place() == Place::Edge);
    let hits = faults.into_iter().map(|(_, fault)| fault.heal(site)).sum();
    let healed = Instant::now();
    let recovered = within(GIVE_UP, || (watch.rate_now() >= RECOVERED * before).then(Instant::now));
    let took = recovered.map_or(GIVE_UP, |at| at - healed);
    let effect = Effect {
        alone: kinds.len() == 1,
        closes: loads.closes() - counted[0],
        unreachable: loads.unreachable() - counted[1],
        transient: loads.transient() - counted[2],
        hits,
        lowest_goodput: watch.lowest_since(began).min(before) / before.max(1.0),
        longest_answer_ms: loads.take_longest().as_millis() as u64,
        recovery_ms: took.as_millis() as u64,
    };
    eprintln!("  {kinds:?}: {effect}");
    if took > RECOVER_WITHIN {
        report
            .violation("slow to recover", format!("{kinds:?}: {took:?} until {RECOVERED} of {before:.0}/s"));
    }
    kinds.iter().for_each(|kind| report.faults.entry(*kind).or_default().push(effect));
    Trouble { kinds, from: began, to: healed + took }
}

impl Report {
    fn violation(&mut self, name: &str, what: String) {
        let (round, seed) = (self.rounds, self.seed);
        eprintln!("VIOLATION {name}: {what}");
        self.violations.push(Violation {
            name: name.to_owned(),
            what,
            round,
            seed,
            faults: self.now.clone(),
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::checker::Late;

    #[test]
    fn every_kind_comes_once_before_one_comes_again() {
        let mut deck = Deck::new(3);
        for _ in 0..2 {
            let drawn: BTreeSet<_> = Kind::ALL.iter().map(|_| deck.next(|_| true)).collect();
            assert_eq!(drawn.len(), Kind::ALL.len());
        }
        // The last of them: whoever adds one puts it into the list.
        assert_eq!(Kind::ALL.map(|kind| kind as usize), std::array::from_fn(|place| place));
        assert_eq!(Kind::ALL.last(), Some(&Kind::RedisFar));
    }

    #[test]
    fn faults_of_a_pair_are_in_two_places() {
        let mut deck = Deck::new(5);
        let pairs: Vec<_> = (0..200).map(|_| deck.draw()).filter(|kinds| kinds.len() == 2).collect();
        assert!(pairs.len() > 20, "{pairs:?}");
        assert!(pairs.iter().all(|pair| pair[0].place() != pair[1].place()), "{pairs:?}");
    }

    #[test]
    fn late_answers_are_excused_while_somebody_was_held() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let late = |seconds| Late { message: 0, sent: at(seconds), took: Duration::from_secs(7) };
        let trouble = |kind, from, to| Trouble { kinds: vec![kind], from: at(from), to: at(to) };
        let troubles = [trouble(Kind::EdgeStopped, 20, 30), trouble(Kind::CertificatesRenewed, 50, 60)];
        let mut history =
            History { late: vec![late(10), late(14), late(29), late(31), late(51)], ..History::default() };
        assert_eq!(excuse(&mut history, &troubles), 2);
        assert_eq!(history.late.iter().map(|late| late.sent).collect::<Vec<_>>(), [at(10), at(31), at(51)]);
    }
}
