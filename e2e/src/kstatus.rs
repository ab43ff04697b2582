//! What a GitOps tool reads from an object: the rules of kstatus (sigs.k8s.io/cli-utils, `pkg/kstatus/status`), in its
//! order.

use serde_json::Value;

/// What kstatus says of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kstatus {
    /// It is being deleted.
    Terminating,
    /// On its way.
    InProgress,
    /// Somebody has to act.
    Failed,
    /// It is what it declares.
    Current,
}

/// Evaluates an object of a kind that kstatus does not know.
pub fn evaluate(object: &Value) -> Kstatus {
    let metadata = &object["metadata"];
    if metadata["deletionTimestamp"].is_string() {
        return Kstatus::Terminating;
    }
    let observed = &object["status"]["observedGeneration"];
    if observed.is_i64() && *observed != metadata["generation"] {
        return Kstatus::InProgress;
    }
    let truth = |kind: &str| {
        let conditions = object["status"]["conditions"].as_array()?;
        let found = conditions.iter().find(|condition| condition["type"] == kind)?;
        found["status"].as_str()
    };
    if truth("Reconciling") == Some("True") {
        return Kstatus::InProgress;
    }
    if truth("Stalled") == Some("True") {
        return Kstatus::Failed;
    }
    match truth("Ready") {
        Some("True") | None => Kstatus::Current,
        Some(_) => Kstatus::InProgress,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Kstatus, evaluate};

    #[test]
    fn the_rules_hold_in_their_order() {
        let of = |observed: i64, conditions: &[(&str, &str)]| {
            let conditions: Vec<_> =
                conditions.iter().map(|(kind, status)| json!({"type": kind, "status": status})).collect();
            evaluate(&json!({
                "metadata": {"generation": 2},
                "status": {"observedGeneration": observed, "conditions": conditions},
            }))
        };
        assert_eq!(of(-1, &[]), Kstatus::InProgress);
        assert_eq!(of(1, &[("Stalled", "True")]), Kstatus::InProgress);
        assert_eq!(of(2, &[("Stalled", "True"), ("Reconciling", "True")]), Kstatus::InProgress);
        assert_eq!(of(2, &[("Ready", "True"), ("Stalled", "True")]), Kstatus::Failed);
        assert_eq!(of(2, &[("Ready", "Unknown")]), Kstatus::InProgress);
        assert_eq!(of(2, &[("Ready", "True")]), Kstatus::Current);
        assert_eq!(of(2, &[]), Kstatus::Current);
        assert_eq!(evaluate(&json!({"metadata": {"generation": 1}})), Kstatus::Current);
        let going = json!({"metadata": {"generation": 1, "deletionTimestamp": "2026-01-01T00:00:00Z"}});
        assert_eq!(evaluate(&going), Kstatus::Terminating);
    }
}
