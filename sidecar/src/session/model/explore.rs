//! Breadth first through every state, and back from the ends.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::rc::Rc;

use super::step::{Step, Violation};
use super::{Bounds, World};

/// What there is.
pub(super) struct Found {
    pub(super) states: usize,
    /// What was violated, with the way there.
    pub(super) violation: Option<(Violation, Vec<Step>)>,
}

impl Found {
    /// Nothing was violated, and there was something to look at.
    #[track_caller]
    pub(super) fn assert_sound(&self, least: usize) {
        if let Some((violation, way)) = &self.violation {
            panic!("{violation:?} after\n{way:#?}");
        }
        assert!(self.states >= least, "only {} states", self.states);
    }
}

/// Goes everywhere.
pub(super) fn all(bounds: Bounds) -> Found {
    from(World::new(), bounds)
}

/// Goes everywhere from there.
pub(super) fn from(world: World, bounds: Bounds) -> Found {
    let mut numbers: HashMap<Rc<World>, usize> = HashMap::new();
    let mut worlds = vec![Rc::new(world)];
    let mut came: Vec<Option<(usize, Step)>> = vec![None];
    // Who leads here without a fault.
    let mut before: Vec<Vec<u32>> = vec![Vec::new()];
    numbers.insert(Rc::clone(&worlds[0]), 0);
    let mut at = 0;
    while at < worlds.len() {
        let world = Rc::clone(&worlds[at]);
        for step in world.steps(bounds) {
            let mut next = World::clone(&world);
            if let Err(violation) = next.take(step, bounds) {
                came.push(Some((at, step)));
                let way = way(&came, came.len() - 1);
                return Found { states: worlds.len(), violation: Some((violation, way)) };
            }
            let next = Rc::new(next);
            let number = match numbers.entry(Rc::clone(&next)) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(new) => {
                    let number = worlds.len();
                    new.insert(number);
                    worlds.push(next);
                    came.push(Some((at, step)));
                    before.push(Vec::new());
                    number
                }
            };
            if step.fault().is_none() {
                before[number].push(u32::try_from(at).expect("fewer states"));
            }
        }
        at += 1;
    }
    let stuck = stuck(&worlds, &before, bounds);
    let violation = stuck.map(|number| (Violation::Stuck, way(&came, number)));
    Found { states: worlds.len(), violation }
}

/// A state from which the end cannot be reached any more.
fn stuck(worlds: &[Rc<World>], before: &[Vec<u32>], bounds: Bounds) -> Option<usize> {
    let mut good: Vec<bool> = worlds.iter().map(|world| world.is_over(bounds)).collect();
    let mut todo: Vec<usize> = (0..worlds.len()).filter(|&number| good[number]).collect();
    while let Some(number) = todo.pop() {
        for &earlier in &before[number] {
            if !std::mem::replace(&mut good[earlier as usize], true) {
                todo.push(earlier as usize);
            }
        }
    }
    good.iter().position(|&good| !good)
}

fn way(came: &[Option<(usize, Step)>], mut number: usize) -> Vec<Step> {
    let mut steps = Vec::new();
    while let Some((from, step)) = came[number] {
        steps.push(step);
        number = from;
    }
    steps.reverse();
    steps
}
