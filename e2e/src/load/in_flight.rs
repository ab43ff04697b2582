//! What an MQTT client has on the way, under which packet identifiers (MQTT 5 §4.3, §4.4).

use std::collections::VecDeque;
use std::time::Instant;

/// How far a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Not sent in this session.
    New,
    /// Sent; waits for PUBACK or PUBREC.
    Published,
    /// PUBREC came; waits for PUBCOMP after so many PUBRELs.
    Released {
        /// PUBRELs sent.
        releases: u32,
    },
}

#[derive(Debug)]
struct Flight {
    id: u16,
    index: usize,
    stage: Stage,
    /// For the last time.
    sent: Instant,
}

/// Messages on the way, in the order of their first sending.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    flights: VecDeque<Flight>,
    last_id: u16,
}

impl InFlight {
    pub(super) fn len(&self) -> usize {
        self.flights.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.flights.is_empty()
    }

    /// A new message; its packet identifier, which no other on the way has.
    pub(super) fn begin(&mut self, index: usize) -> u16 {
        let id = self.free_id();
        self.flights.push_back(Flight { id, index, stage: Stage::Published, sent: Instant::now() });
        id
    }

    fn free_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if self.flights.iter().all(|flight| flight.id != self.last_id) {
                return self.last_id;
            }
        }
    }

    fn place(&self, id: u16, fits: impl Fn(Stage) -> bool) -> Option<usize> {
        self.flights.iter().position(|flight| flight.id == id && fits(flight.stage))
    }

    /// The identifier that the next PUBACK or PUBREC must have.
    pub(super) fn oldest_published(&self) -> Option<u16> {
        self.flights.iter().find(|flight| flight.stage == Stage::Published).map(|flight| flight.id)
    }

    /// A PUBACK, or a PUBREC that refuses: the message, which is done, and when it was sent.
    pub(super) fn finish(&mut self, id: u16) -> Option<(usize, Instant)> {
        let place = self.place(id, |stage| stage == Stage::Published)?;
        self.flights.remove(place).map(|flight| (flight.index, flight.sent))
    }

    /// A PUBREC that accepts: the message, whose PUBREL is due, and when it was sent.
    pub(super) fn release(&mut self, id: u16) -> Option<(usize, Instant)> {
        let place = self.place(id, |stage| stage == Stage::Published)?;
        let flight = self.flights.get_mut(place)?;
        flight.stage = Stage::Released { releases: 1 };
        Some((flight.index, flight.sent))
    }

    /// A PUBCOMP: how many PUBRELs it took.
    pub(super) fn complete(&mut self, id: u16) -> Option<u32> {
        let place = self.place(id, |stage| matches!(stage, Stage::Released { .. }))?;
        match self.flights.remove(place)?.stage {
            Stage::Released { releases } => Some(releases),
            Stage::New | Stage::Published => None,
        }
    }

    /// Everything that goes out on a new connection, in order.
    pub(super) fn again(&mut self) -> Vec<(u16, usize, Stage)> {
        let flights = self.flights.iter_mut();
        flights
            .map(|flight| {
                let stage = flight.stage;
                flight.sent = Instant::now();
                match &mut flight.stage {
                    Stage::Released { releases } => *releases += 1,
                    stage => *stage = Stage::Published,
                }
                (flight.id, flight.index, stage)
            })
            .collect()
    }

    /// The other side knows nothing: what was published becomes new under another identifier. Returns these messages.
    pub(super) fn forget(&mut self) -> Vec<usize> {
        let mut published = Vec::new();
        for place in 0..self.flights.len() {
            if matches!(self.flights[place].stage, Stage::Released { .. }) {
                continue;
            }
            let id = self.free_id();
            let flight = &mut self.flights[place];
            (flight.id, flight.stage) = (id, Stage::New);
            published.push(flight.index);
        }
        published
    }

    /// Takes out what only waited for its PUBCOMP; how many that were.
    pub(super) fn drop_released(&mut self) -> u64 {
        let before = self.flights.len();
        self.flights.retain(|flight| !matches!(flight.stage, Stage::Released { .. }));
        (before - self.flights.len()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(answered: Option<(usize, Instant)>) -> Option<usize> {
        answered.map(|(index, _)| index)
    }

    #[test]
    fn a_kept_session_sends_everything_again_under_its_identifier() {
        let mut flight = InFlight::default();
        assert_eq!([flight.begin(10), flight.begin(11), flight.begin(12)], [1, 2, 3]);
        assert_eq!((index(flight.release(1)), flight.oldest_published()), (Some(10), Some(2)));
        assert_eq!(flight.release(1), None, "a second PUBREC answers nothing");
        let again =
            [(1, 10, Stage::Released { releases: 1 }), (2, 11, Stage::Published), (3, 12, Stage::Published)];
        assert_eq!(flight.again(), again);
        assert_eq!(
            (flight.complete(2), flight.complete(1), index(flight.finish(2))),
            (None, Some(2), Some(11))
        );
        assert_eq!(flight.len(), 1);
    }

    #[test]
    fn a_forgotten_session_makes_new_messages_of_what_was_not_acknowledged() {
        let mut flight = InFlight::default();
        for index in 10..13 {
            flight.begin(index);
        }
        flight.release(1);
        assert_eq!((flight.forget(), flight.drop_released()), (vec![11, 12], 1));
        assert_eq!(flight.again(), [(4, 11, Stage::New), (5, 12, Stage::New)]);
    }

    #[test]
    fn an_identifier_on_the_way_is_not_taken_again() {
        let mut flight = InFlight { last_id: 65_534, ..InFlight::default() };
        assert_eq!([flight.begin(0), flight.begin(1)], [65_535, 1]);
        flight.last_id = 65_534;
        assert_eq!(flight.begin(2), 2);
    }
}
