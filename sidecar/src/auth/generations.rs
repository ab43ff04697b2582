//! A bounded table that forgets what is not used: two halves, of which the older is dropped when the younger is full or
//! old enough.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// A table of at most twice `half` entries. An entry lives for one to two `life` after its last use.
#[derive(Debug)]
pub(super) struct Generations<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    half: usize,
    life: Duration,
    born: Instant,
}

impl<K: Eq + Hash + Copy, V: Clone> Generations<K, V> {
    pub(super) fn new(half: usize, life: Duration, now: Instant) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), half, life, born: now }
    }

    pub(super) fn get(&mut self, key: &K, now: Instant) -> Option<V> {
        self.turn(now);
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let value = self.old.remove(key)?;
        self.insert(*key, value.clone(), now);
        Some(value)
    }

    pub(super) fn insert(&mut self, key: K, value: V, now: Instant) {
        self.turn(now);
        if self.young.len() >= self.half && !self.young.contains_key(&key) {
            self.age(now);
        }
        self.young.insert(key, value);
    }

    pub(super) fn remove(&mut self, key: &K) {
        self.young.remove(key);
        self.old.remove(key);
    }

    pub(super) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    fn turn(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.born);
        if age >= self.life * 2 {
            self.young = HashMap::new();
        }
        if age >= self.life {
            self.age(now);
        }
    }

    fn age(&mut self, now: Instant) {
        self.old = std::mem::take(&mut self.young);
        self.born = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_what_is_not_goes() {
        let (start, life) = (Instant::now(), Duration::from_secs(60));
        let at = |lives: u32| start + life * lives;
        let mut table = Generations::new(10, life, start);
        table.insert(1, 'a', at(0));
        table.insert(2, 'b', at(0));
        assert_eq!(table.get(&1, at(1)), Some('a'));
        assert_eq!(table.get(&1, at(2)), Some('a'));
        assert_eq!(table.get(&2, at(2)), None);
        assert_eq!(table.get(&1, at(9)), None, "nobody asked for long");
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn it_never_holds_more_than_two_halves() {
        let start = Instant::now();
        let mut table = Generations::new(10, Duration::from_secs(60), start);
        for key in 0..1_000 {
            table.insert(key, (), start);
            assert!(table.len() <= 20);
        }
        assert!(table.get(&999, start).is_some() && table.get(&0, start).is_none());
        table.remove(&999);
        assert!(table.get(&999, start).is_none());
    }
}
