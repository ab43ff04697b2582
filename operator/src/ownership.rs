//! Who owns which field of a child, as server-side apply keeps it (KEP-555).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry};
use serde_json::Value;

use crate::names::FIELD_MANAGER;

/// The entries of `fields` as they have to be before `planned` is applied; none if they are so already.
///
/// Two things that an apply alone gets wrong: what we created belongs to us as an *update*, which no apply ever gives
/// up, so it becomes an *apply*; and replicas that the plan does not name any more would fall back to 1, so we let go of
/// them first, and they stay as they are.
#[must_use]
pub fn handed_over(fields: &[ManagedFieldsEntry], planned: &Value) -> Option<Vec<ManagedFieldsEntry>> {
    let is_ours = |entry: &ManagedFieldsEntry| {
        entry.manager.as_deref() == Some(FIELD_MANAGER)
            && entry.subresource.as_deref().unwrap_or_default().is_empty()
    };
    let names_replicas = planned.pointer("/spec/replicas").is_some();
    let has_replicas = |entry: &ManagedFieldsEntry| {
        entry.fields_v1.as_ref().is_some_and(|fields| fields.0.pointer("/f:spec/f:replicas").is_some())
    };
    let as_update = |entry: &ManagedFieldsEntry| entry.operation.as_deref() == Some("Update");
    let wrong = |entry: &ManagedFieldsEntry| as_update(entry) || (!names_replicas && has_replicas(entry));
    if !fields.iter().any(|entry| is_ours(entry) && wrong(entry)) {
        return None;
    }
    let (ours, mut others): (Vec<_>, Vec<_>) = fields.iter().cloned().partition(|entry| is_ours(entry));
    let mut merged = Value::Object(serde_json::Map::new());
    for entry in &ours {
        if let Some(fields) = &entry.fields_v1 {
            merge(&mut merged, &fields.0);
        }
    }
    if !names_replicas && let Some(Value::Object(spec)) = merged.get_mut("f:spec") {
        spec.remove("f:replicas");
    }
    if let Some(mut entry) = ours.into_iter().next() {
        entry.operation = Some("Apply".to_owned());
        entry.fields_v1 = Some(FieldsV1(merged));
        others.push(entry);
    }
    Some(others)
}

fn merge(into: &mut Value, from: &Value) {
    let (Value::Object(into), Value::Object(from)) = (into, from) else { return };
    for (key, value) in from {
        match into.get_mut(key) {
            Some(known) => merge(known, value),
            None => {
                into.insert(key.clone(), value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::handed_over;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry};

    fn entry(manager: &str, operation: &str, fields: serde_json::Value) -> ManagedFieldsEntry {
        ManagedFieldsEntry {
            manager: Some(manager.to_owned()),
            operation: Some(operation.to_owned()),
            fields_v1: Some(FieldsV1(fields)),
            ..ManagedFieldsEntry::default()
        }
    }

    #[test]
    fn what_we_created_becomes_an_apply_and_lets_go_of_replicas() {
        let created =
            entry("penstock-operator", "Update", json!({"f:spec": {"f:replicas": {}, "f:strategy": {}}}));
        let applied = entry("penstock-operator", "Apply", json!({"f:metadata": {"f:labels": {}}}));
        let other = entry("kube-controller-manager", "Update", json!({"f:status": {}}));
        let after = handed_over(&[created.clone(), applied, other.clone()], &json!({"spec": {}})).unwrap();
        let ours = entry(
            "penstock-operator",
            "Apply",
            json!({"f:metadata": {"f:labels": {}}, "f:spec": {"f:strategy": {}}}),
        );
        assert_eq!(after, [other, ours.clone()]);
        assert_eq!(handed_over(&[ours], &json!({"spec": {}})), None);
        let kept = handed_over(&[created], &json!({"spec": {"replicas": 5}})).unwrap();
        assert!(kept[0].fields_v1.as_ref().unwrap().0.pointer("/f:spec/f:replicas").is_some());
    }
}
