//! One candidate by table; several against a Lease in simulated time, with calls that are late, lost or repeated.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use proptest::prelude::*;

use super::*;

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn record(version: u64, holder: &str) -> Record {
    Record { version: version.to_string(), holder: holder.to_owned(), duration: Some(ms(10_000)) }
}

fn take(version: u64) -> Action {
    Action::Write(Claim { replaces: Some(version.to_string()), takes_over: true })
}

fn renew(version: u64) -> Action {
    Action::Write(Claim { replaces: Some(version.to_string()), takes_over: false })
}

const CREATE: Action = Action::Write(Claim { replaces: None, takes_over: true });

/// Feeds `steps` of (milliseconds since the start, outcome) to a candidate `a`, and expects the action beside each;
/// times of a wait are milliseconds since the start too.
#[track_caller]
fn expect(steps: impl IntoIterator<Item = (u64, Outcome, Expected)>) -> (Election, Instant) {
    let start = Instant::now();
    let mut candidate = Election::new("a", Timing::default());
    for (number, (time, outcome, expected)) in steps.into_iter().enumerate() {
        let action = candidate.next(outcome.clone(), start + ms(time));
        let expected = match expected {
            Expected::Wait(until) => Action::Wait(start + ms(until)),
            Expected::Is(action) => action,
        };
        assert_eq!(action, expected, "step {number}: {outcome:?} at {time} ms");
    }
    (candidate, start)
}

enum Expected {
    Wait(u64),
    Is(Action),
}
use Expected::{Is, Wait};
use Outcome::{Conflict, Failed, Read, Waited, Written};

#[test]
fn the_first_makes_the_lease_and_renews_it_every_two_seconds() {
    let (candidate, start) = expect([
        (0, Waited, Is(Action::Read)),
        (50, Read(None), Is(CREATE)),
        (100, Written(record(1, "a")), Wait(2_050)),
        (2_060, Waited, Is(renew(1))),
        (2_100, Written(record(2, "a")), Wait(4_060)),
        (4_070, Waited, Is(renew(2))),
    ]);
    assert!(candidate.leads(start + ms(9_059)) && !candidate.leads(start + ms(9_060)));
}

#[test]
fn time_counts_from_when_the_renewal_was_sent() {
    let (candidate, start) = expect([
        (0, Waited, Is(Action::Read)),
        (0, Read(None), Is(CREATE)),
        (2_900, Written(record(1, "a")), Wait(2_900)),
    ]);
    assert!(candidate.leads(start + ms(6_999)) && !candidate.leads(start + ms(7_000)));
}

#[test]
fn a_claim_answered_too_late_to_lead_by_it_is_made_again() {
    let (candidate, start) = expect([
        (0, Waited, Is(Action::Read)),
        (0, Read(None), Is(CREATE)),
        (7_000, Written(record(1, "a")), Is(renew(1))),
    ]);
    assert!(!candidate.leads(start + ms(7_000)));
}

#[test]
fn a_lease_that_is_given_back_is_taken_at_once() {
    expect([(0, Waited, Is(Action::Read)), (10, Read(Some(record(7, ""))), Is(take(7)))]);
}

#[test]
fn a_held_lease_is_taken_when_it_was_not_seen_to_change_for_its_duration() {
    expect([
        (0, Waited, Is(Action::Read)),
        (10, Read(Some(record(1, "b"))), Wait(2_010)),
        (2_010, Waited, Is(Action::Read)),
        (2_020, Read(Some(record(2, "b"))), Wait(4_020)),
        (11_000, Waited, Is(Action::Read)),
        (11_010, Read(Some(record(2, "b"))), Wait(12_020)),
        (12_020, Waited, Is(Action::Read)),
        (12_020, Read(Some(record(2, "b"))), Is(take(2))),
        // It was renewed in the last moment.
        (12_030, Conflict, Is(Action::Read)),
        (12_040, Read(Some(record(3, "b"))), Wait(14_040)),
    ]);
}

#[test]
fn its_holder_says_how_long_others_wait() {
    let short = Record { duration: Some(ms(1_000)), ..record(1, "b") };
    let silent = Record { duration: None, ..record(1, "b") };
    expect([
        (0, Waited, Is(Action::Read)),
        (0, Read(Some(short.clone())), Wait(1_000)),
        (1_000, Waited, Is(Action::Read)),
        (1_000, Read(Some(short)), Is(take(1))),
    ]);
    expect([
        (0, Waited, Is(Action::Read)),
        (0, Read(Some(silent.clone())), Wait(2_000)),
        (9_999, Waited, Is(Action::Read)),
        (9_999, Read(Some(silent.clone())), Wait(10_000)),
        (10_000, Read(Some(silent)), Is(take(1))),
    ]);
}

#[test]
fn a_renewal_that_fails_is_tried_again_until_the_deadline_and_no_longer() {
    let (mut candidate, start) = expect([
        (0, Waited, Is(Action::Read)),
        (0, Read(None), Is(CREATE)),
        (0, Written(record(1, "a")), Wait(2_000)),
        (2_000, Waited, Is(renew(1))),
        (5_000, Failed, Wait(5_500)),
        // Nobody knows what that renewal did.
        (5_500, Waited, Is(Action::Read)),
        (6_800, Failed, Wait(7_000)),
        (7_000, Waited, Is(Action::End(Lost::Missed(ms(7_000))))),
    ]);
    // For ever, also when the API server has good news then.
    let late = candidate.next(Written(record(2, "a")), start + ms(7_100));
    assert_eq!(late, Action::End(Lost::Missed(ms(7_000))));
    assert!(!candidate.leads(start));
}

#[test]
fn a_renewal_whose_answer_was_lost_is_found_and_followed_by_another() {
    expect([
        (0, Waited, Is(Action::Read)),
        (0, Read(None), Is(CREATE)),
        (0, Written(record(1, "a")), Wait(2_000)),
        (2_000, Waited, Is(renew(1))),
        (5_000, Failed, Wait(5_500)),
        (5_500, Waited, Is(Action::Read)),
        (5_510, Read(Some(record(2, "a"))), Is(renew(2))),
        (5_520, Written(record(3, "a")), Wait(7_510)),
    ]);
}

#[test]
fn a_stolen_or_deleted_lease_ends_its_holder() {
    for (found, lost) in [(Some(record(9, "b")), Lost::Taken("b".to_owned())), (None, Lost::Deleted)] {
        expect([
            (0, Waited, Is(Action::Read)),
            (0, Read(None), Is(CREATE)),
            (0, Written(record(1, "a")), Wait(2_000)),
            (2_000, Waited, Is(renew(1))),
            (2_010, Conflict, Is(Action::Read)),
            (2_020, Read(found), Is(Action::End(lost.clone()))),
            (2_030, Waited, Is(Action::End(lost))),
        ]);
    }
}

#[test]
fn a_deleted_lease_is_not_made_before_its_holder_must_have_noticed() {
    expect([
        (0, Waited, Is(Action::Read)),
        (0, Read(Some(record(1, "b"))), Wait(2_000)),
        (2_000, Waited, Is(Action::Read)),
        (2_000, Read(None), Wait(4_000)),
        (10_000, Waited, Is(Action::Read)),
        (10_000, Read(None), Is(CREATE)),
    ]);
}

/// How one call of a candidate fares.
#[derive(Clone, Copy, Debug)]
struct Fate {
    /// Milliseconds to the server, and back.
    there: u64,
    back: u64,
    /// Whether it arrives, and whether its answer does.
    arrives: bool,
    answered: bool,
    /// How long the process then stands still (SIGSTOP, a busy machine).
    pause: u64,
}

fn fates() -> impl Strategy<Value = Vec<Fate>> {
    let time = || prop_oneof![6 => 0_u64..40, 2 => 0_u64..3_000, 1 => 0_u64..15_000];
    let pause = prop_oneof![20 => Just(0_u64), 1 => 0_u64..20_000];
    let fate = (time(), time(), prop::bool::weighted(0.9), prop::bool::weighted(0.9), pause)
        .prop_map(|(there, back, arrives, answered, pause)| Fate { there, back, arrives, answered, pause });
    prop::collection::vec(fate, 1..120)
}

const GOOD: Fate = Fate { there: 5, back: 5, arrives: true, answered: true, pause: 0 };
/// As the driver's.
const CALL: u64 = 3_000;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A call arrives at the server.
    Arrival { candidate: usize, call: usize },
    /// The candidate hears of its call, or its wait is over.
    Step { candidate: usize, call: usize },
}

struct Candidate {
    election: Election,
    /// The calls so far, each with its action and, once it has arrived, its answer.
    calls: Vec<(Action, Option<Outcome>)>,
    /// The call that it waits for.
    current: usize,
    /// Whether its answer is not lost.
    answered: bool,
    fates: std::vec::IntoIter<Fate>,
}

/// Several candidates and a server, in milliseconds since `start`.
struct Simulation {
    start: Instant,
    now: u64,
    lease: Option<Record>,
    versions: u64,
    candidates: Vec<Candidate>,
    events: BinaryHeap<Reverse<(u64, usize, Event)>>,
    number: usize,
}

impl Simulation {
    fn new(fates: Vec<(u64, Vec<Fate>)>) -> Self {
        let mut simulation = Self {
            start: Instant::now(),
            now: 0,
            lease: None,
            versions: 0,
            candidates: Vec::new(),
            events: BinaryHeap::new(),
            number: 0,
        };
        for (candidate, (begins, fates)) in fates.into_iter().enumerate() {
            let name = format!("candidate-{candidate}");
            simulation.candidates.push(Candidate {
                election: Election::new(&name, Timing::default()),
                calls: vec![(Action::Wait(simulation.start), Some(Outcome::Waited))],
                current: 0,
                answered: true,
                fates: fates.into_iter(),
            });
            simulation.at(begins, Event::Step { candidate, call: 0 });
        }
        simulation
    }

    fn at(&mut self, time: u64, event: Event) {
        self.number += 1;
        self.events.push(Reverse((time, self.number, event)));
    }

    /// Runs until `end`; the most leaders at a time that there were.
    fn run(&mut self, end: u64) -> usize {
        let mut most = 0;
        while let Some(Reverse((time, _, event))) = self.events.pop() {
            if time > end {
                self.events.push(Reverse((time, 0, event)));
                break;
            }
            self.now = time;
            match event {
                Event::Arrival { candidate, call } => self.arrive(candidate, call),
                Event::Step { candidate, call } => self.step(candidate, call),
            }
            // Leadership begins at an event only.
            most = most.max(self.leaders());
        }
        self.now = end;
        most
    }

    fn leaders(&self) -> usize {
        let now = self.start + ms(self.now);
        self.candidates.iter().filter(|candidate| candidate.election.leads(now)).count()
    }

    fn arrive(&mut self, candidate: usize, call: usize) {
        let name = self.candidates[candidate].election.identity().to_owned();
        let answer = match &self.candidates[candidate].calls[call].0 {
            Action::Read => Outcome::Read(self.lease.clone()),
            Action::Write(claim)
                if claim.replaces == self.lease.as_ref().map(|lease| lease.version.clone()) =>
            {
                self.versions += 1;
                let written = record(self.versions, &name);
                self.lease = Some(written.clone());
                Outcome::Written(written)
            }
            Action::Write(_) => Outcome::Conflict,
            Action::Wait(_) | Action::End(_) => unreachable!("no calls"),
        };
        self.candidates[candidate].calls[call].1 = Some(answer);
    }

    fn step(&mut self, candidate: usize, call: usize) {
        let now = self.start + ms(self.now);
        let this = &mut self.candidates[candidate];
        if this.current != call {
            return;
        }
        let heard = this.calls[call].1.take().filter(|_| this.answered);
        let outcome = heard.unwrap_or(Outcome::Failed);
        let action = this.election.next(outcome, now);
        let fate = this.fates.next().unwrap_or(GOOD);
        let call = this.calls.len();
        this.current = call;
        this.answered = fate.answered || !matches!(action, Action::Read | Action::Write(_));
        let answer = if matches!(action, Action::Wait(_)) { Some(Outcome::Waited) } else { None };
        this.calls.push((action.clone(), answer));
        match action {
            Action::Read | Action::Write(_) => {
                // A call that is given up may still arrive, much later.
                if fate.arrives {
                    self.at(self.now + fate.there, Event::Arrival { candidate, call });
                }
                let heard = if fate.arrives && fate.answered { fate.there + fate.back } else { CALL };
                self.at(self.now + heard.min(CALL) + fate.pause, Event::Step { candidate, call });
            }
            Action::Wait(until) => {
                let until = u64::try_from(until.saturating_duration_since(self.start).as_millis()).unwrap();
                self.at(until.max(self.now + 1) + fate.pause, Event::Step { candidate, call });
            }
            // A process that lost the lease ends and is started again, as another candidate.
            Action::End(_) => {
                let name = format!("{}+", this.election.identity());
                this.election = Election::new(&name, Timing::default());
                this.calls[call].1 = Some(Outcome::Waited);
                self.at(self.now + 500, Event::Step { candidate, call });
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn never_two_that_lead_and_soon_one_when_calls_succeed(
        fates in prop::collection::vec((0_u64..5_000, fates()), 2..4)
    ) {
        let mut simulation = Simulation::new(fates);
        prop_assert!(simulation.run(400_000) <= 1, "two lead");
        // By now the fates are used up, late calls have arrived, and all calls succeed.
        let calls_succeed = simulation.candidates.iter().all(|candidate| candidate.fates.len() == 0);
        prop_assume!(calls_succeed);
        simulation.run(500_000);
        prop_assert_eq!(simulation.leaders(), 1);
        // Then it stays so.
        let holder = simulation.lease.clone().unwrap().holder;
        simulation.run(600_000);
        prop_assert_eq!(simulation.leaders(), 1);
        prop_assert_eq!(simulation.lease.clone().unwrap().holder, holder);
    }
}
