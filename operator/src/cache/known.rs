//! What is known of the children of one kind: what the watch has told, what we wrote ourselves and it has not told yet, and
//! which version our last write made. A pure state machine.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use kube::ResourceExt;
use kube::runtime::watcher::Event;

use super::kept::{Kept, Seen};

/// How long our own write counts although the watch does not show it: longer, and it was deleted since.
pub const TRUST_OWN_WRITE: Duration = Duration::from_secs(5);

/// The children of one kind.
#[derive(Default)]
pub(super) struct Known {
    /// By namespace and name.
    children: BTreeMap<Box<str>, BTreeMap<Box<str>, Child>>,
    /// Namespaces and names that a list has told so far, while it is under way.
    listed: BTreeSet<(String, String)>,
}

/// What is known of one child.
#[derive(Default)]
struct Child {
    /// As the watch told it last.
    told: Option<Kept>,
    /// As we wrote it, and when, until the watch has told that or a later version.
    own: Option<Box<(Kept, Instant)>>,
    /// The version that our last write made: as long as it has that one, nobody has changed it.
    settled: Option<u64>,
}

impl Child {
    fn is_known(&self) -> bool {
        self.told.is_some() || self.own.is_some() || self.settled.is_some()
    }

    /// The watch has come so far.
    fn caught_up_with(&mut self, version: u64) {
        if self.own.as_ref().is_some_and(|own| own.0.version <= version) {
            self.own = None;
        }
    }
}

/// The newest version that we know of.
pub(super) struct Newest {
    pub(super) kept: Kept,
    /// Whether only our own write tells of it.
    pub(super) unconfirmed: bool,
}

impl Known {
    /// Takes in what the watch tells. Returns whether everything has been told with that.
    pub(super) fn tell(&mut self, event: &Event<Seen>) -> bool {
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(seen) => {
                self.listed.insert((seen.namespace().unwrap_or_default(), seen.name_any()));
                self.is_there(seen);
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut self.listed);
                for (namespace, children) in &mut self.children {
                    for (name, child) in children {
                        if !listed.contains(&(namespace.to_string(), name.to_string())) {
                            child.told = None;
                        }
                    }
                }
                self.tidy();
                return true;
            }
            Event::Apply(seen) => self.is_there(seen),
            Event::Delete(seen) => {
                self.change(&seen.namespace().unwrap_or_default(), &seen.name_any(), |child| {
                    child.told = None;
                    child.caught_up_with(seen.kept.version);
                });
            }
        }
        false
    }

    fn is_there(&mut self, seen: &Seen) {
        self.change(&seen.namespace().unwrap_or_default(), &seen.name_any(), |child| {
            child.told = Some(seen.kept.clone());
            child.caught_up_with(seen.kept.version);
        });
    }

    /// Changes what is known of a child; nothing is left of one of whom nothing is known.
    fn change(&mut self, namespace: &str, name: &str, change: impl FnOnce(&mut Child)) {
        if !self.children.contains_key(namespace) {
            self.children.insert(namespace.into(), BTreeMap::new());
        }
        let Some(children) = self.children.get_mut(namespace) else { return };
        if let Some(child) = children.get_mut(name) {
            change(child);
            if !child.is_known() {
                children.remove(name);
            }
        } else {
            let mut child = Child::default();
            change(&mut child);
            if child.is_known() {
                children.insert(name.into(), child);
            }
        }
        if children.is_empty() {
            self.children.remove(namespace);
        }
    }

    fn tidy(&mut self) {
        self.children.retain(|_, children| {
            children.retain(|_, child| child.is_known());
            !children.is_empty()
        });
    }

    fn child(&self, namespace: &str, name: &str) -> Option<&Child> {
        self.children.get(namespace)?.get(name)
    }

    /// A child, if it exists as far as is known `now`.
    pub(super) fn newest(&mut self, namespace: &str, name: &str, now: Instant) -> Option<Newest> {
        let too_old =
            |child: &Child| child.own.as_ref().is_some_and(|own| now.duration_since(own.1) > TRUST_OWN_WRITE);
        if self.child(namespace, name).is_some_and(too_old) {
            self.change(namespace, name, |child| child.own = None);
        }
        let child = self.child(namespace, name)?;
        if let Some(own) = &child.own {
            return Some(Newest { kept: own.0.clone(), unconfirmed: true });
        }
        child.told.clone().map(|kept| Newest { kept, unconfirmed: false })
    }

    /// What the watch has told of children that carry the label of this pipeline. Their names need not begin with its name:
    /// that of a Service is brought into shape.
    pub(super) fn of_pipeline(&self, namespace: &str, pipeline: &str) -> Vec<Kept> {
        let children = self.children.get(namespace).into_iter().flat_map(BTreeMap::values);
        children
            .filter_map(|child| child.told.as_ref())
            .filter(|kept| kept.is_of(pipeline))
            .cloned()
            .collect()
    }

    /// All that the watch has told.
    pub(super) fn all(&self) -> Vec<Kept> {
        let children = self.children.values().flat_map(BTreeMap::values);
        children.filter_map(|child| child.told.clone()).collect()
    }

    /// Notes what we wrote `now`.
    pub(super) fn note_write(&mut self, namespace: &str, name: &str, own: Kept, now: Instant) {
        self.change(namespace, name, |child| {
            child.settled = (own.version > 0).then_some(own.version);
            if child.told.as_ref().is_none_or(|told| told.version < own.version) {
                child.own = Some(Box::new((own, now)));
            }
        });
    }

    /// Notes that we deleted it. It is there until the watch tells otherwise: it may have finalizers.
    pub(super) fn note_delete(&mut self, namespace: &str, name: &str) {
        self.change(namespace, name, |child| {
            child.own = None;
            child.settled = None;
        });
    }

    /// Whether this version of the child is the one that our last write made.
    pub(super) fn is_settled(&self, namespace: &str, name: &str, version: u64) -> bool {
        self.child(namespace, name).is_some_and(|child| child.settled == Some(version))
    }

    /// Forgets what was noted of the children of a pipeline that is gone, and of those of which nobody tells whose they are.
    pub(super) fn forget(&mut self, namespace: &str, pipeline: &str) {
        for child in self.children.get_mut(namespace).into_iter().flat_map(BTreeMap::values_mut) {
            let kept = child.told.as_ref().or(child.own.as_ref().map(|own| &own.0));
            if kept.is_none_or(|kept| kept.is_of(pipeline)) {
                child.own = None;
                child.settled = None;
            }
        }
        self.tidy();
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use kube::core::DynamicObject;
    use kube::runtime::watcher::Event;
    use serde_json::json;

    use super::{Kept, Known, Seen, TRUST_OWN_WRITE};
    use crate::plan::ChildKind;

    fn object(name: &str, pipeline: &str, version: u64) -> DynamicObject {
        serde_json::from_value(json!({
            "metadata": {
                "namespace": "plant", "name": name, "resourceVersion": version.to_string(),
                "labels": {"penstock.dev/pipeline": pipeline},
            },
            "data": {"key": "value"},
        }))
        .unwrap()
    }

    fn seen(name: &str, pipeline: &str, version: u64) -> Seen {
        serde_json::from_value(serde_json::to_value(object(name, pipeline, version)).unwrap()).unwrap()
    }

    fn kept(name: &str, pipeline: &str, version: u64) -> Kept {
        Kept::of(&object(name, pipeline, version)).unwrap()
    }

    /// The version that counts, and whether it is told.
    fn newest(known: &mut Known, name: &str, now: Instant) -> Option<(u64, bool)> {
        known.newest("plant", name, now).map(|newest| (newest.kept.version, !newest.unconfirmed))
    }

    #[test]
    fn an_object_comes_back_as_it_was() {
        let mut object = object("a", "a", 7);
        let back = kept("a", "a", 7).object(ChildKind::ConfigMap);
        object.types = back.types.clone();
        assert_eq!(back, object);
        assert_eq!(back.types.unwrap().kind, "ConfigMap");
    }

    #[test]
    fn our_own_write_counts_until_the_watch_has_told_it_or_its_time_is_over() {
        let now = Instant::now();
        let later = now + TRUST_OWN_WRITE + Duration::from_secs(1);
        let mut known = Known::default();
        known.tell(&Event::Apply(seen("a", "a", 3)));
        known.note_write("plant", "a", kept("a", "a", 5), now);
        assert_eq!(newest(&mut known, "a", now), Some((5, false)));
        known.tell(&Event::Apply(seen("a", "a", 4)));
        assert_eq!(newest(&mut known, "a", now), Some((5, false)), "what comes late is older than our write");
        known.tell(&Event::Apply(seen("a", "a", 5)));
        assert_eq!(newest(&mut known, "a", now), Some((5, true)));

        known.note_write("plant", "a", kept("a", "a", 4), now);
        assert_eq!(newest(&mut known, "a", now), Some((5, true)), "the watch was ahead of us");

        known.note_write("plant", "b", kept("b", "b", 6), now);
        assert_eq!(newest(&mut known, "b", later), None, "nobody has told of it for too long");
    }

    #[test]
    fn what_was_deleted_is_gone_and_our_write_before_with_it() {
        let now = Instant::now();
        let mut known = Known::default();
        known.note_write("plant", "a", kept("a", "a", 5), now);
        known.tell(&Event::Delete(seen("a", "a", 6)));
        assert_eq!(newest(&mut known, "a", now), None);
        known.note_write("plant", "a", kept("a", "a", 9), now);
        known.tell(&Event::Delete(seen("a", "a", 6)));
        assert_eq!(newest(&mut known, "a", now), Some((9, false)), "it was made again since");
    }

    #[test]
    fn a_list_tells_of_everything_and_not_of_what_was_just_written() {
        let now = Instant::now();
        let mut known = Known::default();
        known.tell(&Event::Apply(seen("a", "a", 1)));
        known.tell(&Event::Apply(seen("b", "b", 2)));
        known.note_write("plant", "c", kept("c", "c", 9), now);
        assert!(!known.tell(&Event::Init));
        assert!(!known.tell(&Event::InitApply(seen("b", "b", 2))));
        assert_eq!(newest(&mut known, "a", now), Some((1, true)), "the list is not at its end");
        assert!(known.tell(&Event::InitDone));
        assert_eq!(newest(&mut known, "a", now), None);
        assert_eq!(newest(&mut known, "b", now), Some((2, true)));
        assert_eq!(newest(&mut known, "c", now), Some((9, false)));
        assert_eq!(known.all().len(), 1);
    }

    #[test]
    fn children_of_a_pipeline_are_those_with_its_label() {
        let now = Instant::now();
        let mut known = Known::default();
        for (name, pipeline) in [("a", "a"), ("a-edge", "a"), ("x-3f2c", "a"), ("a-b", "a-b"), ("b", "b")] {
            known.tell(&Event::Apply(seen(name, pipeline, 1)));
            known.note_write("plant", name, kept(name, pipeline, 1), now);
        }
        let count = |known: &Known, pipeline: &str| known.of_pipeline("plant", pipeline).len();
        assert_eq!((count(&known, "a"), count(&known, "a-b"), count(&known, "x")), (3, 1, 0));
        assert!(known.of_pipeline("elsewhere", "a").is_empty());

        known.forget("plant", "a");
        let settled = |name: &str| known.is_settled("plant", name, 1);
        assert!(!settled("a") && !settled("a-edge") && !settled("x-3f2c"));
        assert!(settled("a-b") && settled("b"), "a name that begins alike is another's");
    }

    #[test]
    fn nothing_is_left_of_what_is_gone() {
        let now = Instant::now();
        let mut known = Known::default();
        known.tell(&Event::Apply(seen("a", "a", 1)));
        known.note_write("plant", "a", kept("a", "a", 2), now);
        known.tell(&Event::Delete(seen("a", "a", 3)));
        known.forget("plant", "a");
        assert!(known.children.is_empty());
    }
}
