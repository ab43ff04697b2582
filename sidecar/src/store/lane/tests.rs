use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::budget::PodBudget;
use crate::ledger::EndpointLedger;
use crate::store::{MessageId, Receipt};

const PERSISTED: Outcome =
    Outcome::Persisted(Receipt { topic: "t", partition: 0, offset: Some(1), timestamp_millis: 0 });
const TRANSIENT: Outcome = Outcome::Transient(TransientCause::BrokerError);

struct Fixture {
    lanes: Lanes,
    budget: Arc<EndpointBudget>,
    ledger: Arc<EndpointLedger>,
}

impl Fixture {
    fn new() -> Self {
        let pod = PodBudget::new(1 << 20);
        let budget = EndpointBudget::new(pod, 1 << 20, 1_000);
        Self { lanes: Lanes::default(), budget, ledger: EndpointLedger::new("test") }
    }

    fn open(&self) -> (LaneKey, Arc<Lane>) {
        self.lanes.open(&self.budget, &self.ledger.account(0))
    }

    /// As the store does it.
    fn submit(&self, key: LaneKey, lane: &Lane, tag: u16) -> Result<Ticket, TransientCause> {
        assert!(self.budget.try_take(10, 1));
        lane.occupy(key, back(tag), 10).inspect_err(|_| self.budget.give_back(10, 1))
    }

    fn report(&self, ticket: Ticket, outcome: Outcome) -> usize {
        let mut wake = Vec::new();
        self.lanes.complete(std::iter::once((ticket, outcome)), &mut wake);
        wake.len()
    }

    fn late(&self) -> u64 {
        self.ledger.snapshot().0.late_reports
    }
}

fn back(tag: u16) -> Return {
    let id = MessageId::Sender("1".into());
    Return { id, tag, ticket: 0, refusal: 0, dead_letter: false, duplicate: false, arrived: Instant::now() }
}

fn taken(lane: &Lane) -> Vec<(u16, Outcome)> {
    let mut taken = Vec::new();
    lane.drain(|slot, outcome| {
        taken.push((slot.back.tag, outcome));
        ControlFlow::Continue(())
    });
    taken
}

#[test]
fn outcomes_leave_in_the_order_of_arrival() {
    let fixture = Fixture::new();
    let (key, lane) = fixture.open();
    let tickets: Vec<_> = (0..3).map(|tag| fixture.submit(key, &lane, tag).unwrap()).collect();
    lane.decide(back(3), Outcome::Refused);
    fixture.report(tickets[2], PERSISTED);
    fixture.report(tickets[1], PERSISTED);
    assert_eq!(taken(&lane), [], "the first is not finished");
    fixture.report(tickets[0], PERSISTED);
    assert_eq!(taken(&lane), [(0, PERSISTED), (1, PERSISTED), (2, PERSISTED), (3, Outcome::Refused)]);
    assert_eq!((fixture.budget.used_bytes(), fixture.budget.used_messages()), (0, 0));
}

#[test]
fn behind_a_failed_message_nothing_is_taken_until_every_outcome_is() {
    let fixture = Fixture::new();
    let (key, lane) = fixture.open();
    let first = fixture.submit(key, &lane, 1).unwrap();
    let second = fixture.submit(key, &lane, 2).unwrap();
    fixture.report(second, TRANSIENT);
    assert_eq!(fixture.submit(key, &lane, 3), Err(TransientCause::BrokerError), "in a later slot");
    fixture.report(first, PERSISTED);
    lane.drain(|_, _| ControlFlow::Break(()));
    assert_eq!(
        fixture.submit(key, &lane, 3),
        Err(TransientCause::BrokerError),
        "the failed one is still there"
    );
    assert_eq!(taken(&lane), [(2, TRANSIENT)]);
    assert!(fixture.submit(key, &lane, 3).is_ok(), "the connection knows of all of it");
    lane.decide(back(4), TRANSIENT);
    assert!(fixture.submit(key, &lane, 5).is_err(), "what intake refused counts as well");
    assert_eq!(fixture.budget.used_messages(), 1, "nothing is held for what was refused");
}

#[test]
fn a_refused_message_stops_nothing() {
    let fixture = Fixture::new();
    let (key, lane) = fixture.open();
    let first = fixture.submit(key, &lane, 1).unwrap();
    fixture.report(first, Outcome::Refused);
    assert!(fixture.submit(key, &lane, 2).is_ok());
}

#[test]
fn what_was_given_up_holds_its_budget_until_its_late_report() {
    let fixture = Fixture::new();
    let (key, lane) = fixture.open();
    let tickets: Vec<_> = (0..3).map(|tag| fixture.submit(key, &lane, tag).unwrap()).collect();
    fixture.report(tickets[1], PERSISTED);
    assert_eq!(lane.give_up(), 3);
    assert_eq!((fixture.budget.used_bytes(), lane.load()), (20, (0, 0)));
    assert_eq!(fixture.lanes.due(), 2);
    fixture.report(tickets[2], PERSISTED);
    assert_eq!((fixture.budget.used_bytes(), fixture.late()), (10, 1));
    let next = fixture.submit(key, &lane, 3).unwrap();
    fixture.report(tickets[0], TRANSIENT);
    assert_eq!((fixture.budget.used_bytes(), fixture.late()), (10, 2));
    assert_eq!(taken(&lane), [], "a late report finishes no later slot");
    fixture.report(next, PERSISTED);
    assert_eq!(taken(&lane), [(3, PERSISTED)], "and a late failure keeps nothing away");
    assert_eq!((fixture.budget.used_bytes(), fixture.budget.used_messages()), (0, 0));
}

#[test]
fn a_lane_counts_as_a_holder_while_its_messages_hold_something() {
    let fixture = Fixture::new();
    let holders = || fixture.budget.pod().holders();
    let (key, lane) = fixture.open();
    let (_, idle) = fixture.open();
    lane.decide(back(0), Outcome::Refused);
    assert_eq!(holders(), 0, "what is refused holds nothing");
    let tickets: Vec<_> = (1..3).map(|tag| fixture.submit(key, &lane, tag).unwrap()).collect();
    assert_eq!(holders(), 1);
    fixture.report(tickets[0], PERSISTED);
    taken(&lane);
    assert_eq!(holders(), 1, "one of two is left");
    fixture.report(tickets[1], PERSISTED);
    taken(&lane);
    assert_eq!(holders(), 0);
    fixture.submit(key, &lane, 3).unwrap();
    lane.retract();
    assert_eq!(holders(), 0);
    fixture.submit(key, &lane, 4).unwrap();
    fixture.lanes.close(key, &lane);
    assert_eq!((holders(), idle.load()), (0, (0, 0)));
}

#[test]
fn a_lanes_number_is_used_again_only_after_its_last_report() {
    let fixture = Fixture::new();
    let (key, lane) = fixture.open();
    let ticket = fixture.submit(key, &lane, 1).unwrap();
    assert_eq!(fixture.lanes.close(key, &lane), 1);
    let (other_key, other) = fixture.open();
    assert_ne!(key, other_key);
    let other_ticket = fixture.submit(other_key, &other, 2).unwrap();
    fixture.report(ticket, PERSISTED);
    assert_eq!((fixture.lanes.len(), fixture.late()), (1, 1));
    let (third_key, _) = fixture.open();
    assert_eq!(third_key, key, "now it is free");
    fixture.report(other_ticket, PERSISTED);
    assert_eq!(taken(&other), [(2, PERSISTED)]);
    assert_eq!(fixture.budget.used_messages(), 0);
}

#[test]
fn either_the_close_or_the_last_report_frees_the_number() {
    // If both did, the second would take it from the lane that was opened in between, whose reports would find nobody.
    let fixture = Fixture::new();
    let (key, lane) = fixture.open();
    let sequence = fixture.submit(key, &lane, 1).unwrap().parts().1;
    lane.give_up();
    assert!(!lane.complete(sequence, PERSISTED).finished, "the close will");
    fixture.lanes.close(key, &lane);
    assert!(fixture.lanes.is_empty());

    let (key, lane) = fixture.open();
    let sequence = fixture.submit(key, &lane, 1).unwrap().parts().1;
    fixture.lanes.close(key, &lane);
    assert_eq!(fixture.lanes.len(), 1, "the report will");
    assert!(lane.complete(sequence, PERSISTED).finished);
}

#[test]
fn only_the_front_wakes_the_connection_and_only_once() {
    struct Count(AtomicUsize);
    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let count = Arc::new(Count(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&count));
    let fixture = Fixture::new();
    let (key, lane) = fixture.open();
    let tickets: Vec<_> = (0..3).map(|tag| fixture.submit(key, &lane, tag).unwrap()).collect();
    assert!(lane.poll_front(&Context::from_waker(&waker)).is_pending());
    let mut wake = Vec::new();
    let reports = tickets.iter().rev().map(|ticket| (*ticket, PERSISTED));
    fixture.lanes.complete(reports, &mut wake);
    wake.drain(..).for_each(Waker::wake);
    assert_eq!(count.0.load(Ordering::SeqCst), 1);
    assert!(lane.poll_front(&Context::from_waker(&waker)).is_ready());
}

#[test]
fn an_idle_lane_is_small() {
    // The mark is 6 KiB for an idle connection with everything that belongs to it.
    assert!(size_of::<Lane>() <= 160, "{}", size_of::<Lane>());
    assert!(size_of::<Slot>() <= 112, "{}", size_of::<Slot>());
    let fixture = Fixture::new();
    let (key, lane) = fixture.open();
    let tickets: Vec<_> = (0..500).map(|tag| fixture.submit(key, &lane, tag).unwrap()).collect();
    for ticket in tickets {
        fixture.report(ticket, PERSISTED);
    }
    assert_eq!(taken(&lane).len(), 500);
    assert!(lane.state.lock().slots.capacity() <= IDLE_SLOTS, "the room of a burst is given back");
}
