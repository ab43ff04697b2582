//! What a campaign has shown, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::time::Duration;

use serde::Serialize;

use super::Plan;
use super::faults::Kind;
use crate::checker::{History, Message, Outcome, Verdict};

/// Everything.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The seed; with it and the number of a round everything that chance decided is known.
    pub seed: u64,
    /// No round began after so many minutes.
    pub minutes: u64,
    /// Messages a second that were offered.
    pub rate: u32,
    /// Faults in a round.
    pub faults_a_round: usize,
    /// How long it took.
    pub seconds: u64,
    /// Rounds.
    pub rounds: u64,
    /// Messages sent, repetitions not counted.
    pub sent: u64,
    /// Those of them at QoS 0, of which nobody says anything.
    pub unanswerable: u64,
    /// Messages with a positive answer.
    pub acknowledged: u64,
    /// Messages that Kafka holds.
    pub stored: u64,
    /// Later copies of messages that were sent again.
    pub duplicates: u64,
    /// Those of them under the id of the first.
    pub duplicates_under_one_id: u64,
    /// Messages refused for good.
    pub refused: u64,
    /// Transient answers over HTTP, by status.
    pub transient: BTreeMap<u16, u64>,
    /// Connections that the edges ended or that broke, by the reason of MQTT 5 where there was one.
    pub closes: BTreeMap<String, u64>,
    /// Attempts to connect that came to nothing.
    pub unreachable: u64,
    /// How often Kafka failed the edges, by their own count at the ends of rounds.
    pub kafka_failures: u64,
    /// Sessions forgotten and second ids in rounds in which the session store was made to forget.
    pub allowed: u64,
    /// Answers that were late while an edge or a road was held.
    pub late_excused: u64,
    /// What each fault of a kind did.
    pub faults: BTreeMap<Kind, Vec<Effect>>,
    /// Everything that must not be.
    pub violations: Vec<Violation>,
    /// The faults of the moment.
    #[serde(skip)]
    pub now: Vec<Kind>,
}

/// What a fault did. Of a pair each has the effect of both.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Effect {
    /// There was no other fault.
    pub alone: bool,
    /// Connections that ended.
    pub closes: u64,
    /// Attempts to connect that came to nothing.
    pub unreachable: u64,
    /// Transient answers over HTTP.
    pub transient: u64,
    /// What else it was seen to hit: strangers sent away, keys forgotten, replicas missed.
    pub hits: u64,
    /// The lowest goodput, as a part of that before.
    pub lowest_goodput: f64,
    /// The longest that an answer took, from its last sending.
    pub longest_answer_ms: u64,
    /// From the heal until goodput was nine tenths of that before.
    pub recovery_ms: u64,
}

/// Something that must not be.
#[derive(Clone, Debug, Serialize)]
pub struct Violation {
    /// Its name.
    pub name: String,
    /// What exactly.
    pub what: String,
    /// In which round.
    pub round: u64,
    /// Of which seed.
    pub seed: u64,
    /// The faults before it in that round; of a message, `what` names those that were there between its first sending and
    /// its answer.
    pub faults: Vec<Kind>,
}

impl Effect {
    /// Whether anybody could notice it.
    pub fn bites(&self) -> bool {
        self.closes + self.unreachable + self.transient + self.hits > 0
            || self.lowest_goodput < 0.8
            || self.longest_answer_ms > 200
    }
}

impl Report {
    /// Nothing yet.
    pub(super) fn new(plan: &Plan) -> Self {
        let Plan { seed, time, faults_a_round, rate } = *plan;
        Self { seed, minutes: time.as_secs() / 60, rate, faults_a_round, ..Self::default() }
    }

    /// Adds what a round shows.
    pub(super) fn add(&mut self, history: &History, verdict: &Verdict) {
        self.sent += verdict.sent as u64;
        let unanswerable = |message: &&Message| message.outcome == Outcome::Unanswerable;
        self.unanswerable += history.messages.iter().filter(unanswerable).count() as u64;
        self.acknowledged += verdict.acknowledged as u64;
        self.stored += verdict.stored as u64;
        self.duplicates += verdict.duplicates as u64;
        self.duplicates_under_one_id += verdict.duplicates_under_one_id as u64;
        self.refused += history.refused() as u64;
        self.allowed += verdict.allowed.len() as u64;
        for (status, _) in &history.transient {
            *self.transient.entry(*status).or_default() += 1;
        }
        for close in &history.closes {
            let reason = close.reason.map_or("lost".to_owned(), |reason| format!("{reason:#04x}"));
            *self.closes.entry(reason).or_default() += 1;
        }
    }

    /// How many faults there were.
    pub fn faults(&self) -> usize {
        self.faults.values().map(Vec::len).sum()
    }

    /// A line on how it goes.
    pub(super) fn line(&self, elapsed: Duration) -> String {
        let Self { rounds, acknowledged, violations, .. } = self;
        let (seconds, faults) = (elapsed.as_secs(), self.faults());
        format!(
            "{seconds} s, round {rounds}: {acknowledged} acknowledged, {faults} faults of {} kinds, {} violations",
            self.faults.len(),
            violations.len()
        )
    }

    /// As a page.
    pub fn markdown(&self) -> String {
        let mut page = String::new();
        self.write(&mut page).expect("a string takes everything");
        page
    }

    fn write(&self, page: &mut String) -> fmt::Result {
        let Self { seed, minutes, rate, faults_a_round, seconds, rounds, sent, acknowledged, .. } = self;
        let arguments = format!("--rate {rate} --faults-a-round {faults_a_round}");
        writeln!(
            page,
            "`make campaign SEED={seed} MINUTES={minutes} CAMPAIGN_ARGS=\"{arguments}\"`: {rounds} rounds in {seconds} s.\n"
        )?;
        writeln!(page, "| what | count |\n|---|---:|")?;
        let counts = [
            ("messages sent", *sent),
            ("of them at QoS 0", self.unanswerable),
            ("acknowledged", *acknowledged),
            ("stored", self.stored),
            ("later copies", self.duplicates),
            ("of them under the id of the first", self.duplicates_under_one_id),
            ("refused for good", self.refused),
            ("connections to nobody", self.unreachable),
            ("sessions forgotten and second ids, where Redis was made to forget", self.allowed),
            ("answers late while an edge or the road was held", self.late_excused),
            ("delivery reports with an error", self.kafka_failures),
            ("faults", self.faults() as u64),
            ("**violations**", self.violations.len() as u64),
        ];
        for (what, count) in counts {
            writeln!(page, "| {what} | {count} |")?;
        }
        for (status, count) in &self.transient {
            writeln!(page, "| HTTP {status} | {count} |")?;
        }
        for (reason, count) in &self.closes {
            writeln!(page, "| connections ended, {reason} | {count} |")?;
        }
        writeln!(
            page,
            "\n| fault | times | noticed | connections ended | by it alone | connections to nobody | HTTP 503 and 429 | other hits | lowest goodput | longest answer | recovery, median | longest |\n\
             |---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
        )?;
        for (kind, effects) in &self.faults {
            let sum = |of: fn(&Effect) -> u64| effects.iter().map(of).sum::<u64>();
            let mut recoveries: Vec<_> = effects.iter().map(|effect| effect.recovery_ms).collect();
            recoveries.sort_unstable();
            let noticed = effects.iter().filter(|effect| effect.bites()).count();
            let lowest = effects.iter().map(|effect| effect.lowest_goodput).fold(1.0, f64::min);
            let longest = effects.iter().map(|effect| effect.longest_answer_ms).max().unwrap_or_default();
            writeln!(
                page,
                "| {kind:?} | {} | {noticed} | {} | {} | {} | {} | {} | {:.0} % | {:.1} s | {:.1} s | {:.1} s |",
                effects.len(),
                sum(|effect| effect.closes),
                sum(|effect| if effect.alone { effect.closes } else { 0 }),
                sum(|effect| effect.unreachable),
                sum(|effect| effect.transient),
                sum(|effect| effect.hits),
                lowest * 100.0,
                longest as f64 / 1_000.0,
                recoveries[recoveries.len() / 2] as f64 / 1_000.0,
                recoveries[recoveries.len() - 1] as f64 / 1_000.0,
            )?;
        }
        if !self.violations.is_empty() {
            writeln!(page, "\n| violation | in round | after | what |\n|---|---:|---|---|")?;
        }
        for Violation { name, what, round, faults, .. } in &self.violations {
            writeln!(page, "| {name} | {round} | {faults:?} | {} |", what.replace('|', "\\|"))?;
        }
        Ok(())
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            closes, unreachable, transient, hits, lowest_goodput, longest_answer_ms, recovery_ms, ..
        } = self;
        write!(
            f,
            "{closes} connections ended, {unreachable} to nobody, {transient} transient answers, {hits} other hits, goodput down to {:.0} %, \
             longest answer {longest_answer_ms} ms, recovered after {recovery_ms} ms",
            lowest_goodput * 100.0
        )
    }
}
