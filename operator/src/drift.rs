//! What of a stored object is not as planned. Pure.
//!
//! Beside ours, others may add what they like: an autoscaler its replicas, a mesh its containers, a person an
//! annotation. What we wrote is ours; and an item of a list under one of our names (our container, our volume, our
//! port) is ours whole, so that what somebody adds inside it goes away too. Server-side apply alone would keep that.

use penstock_crds::pipeline::Quantity;
use serde_json::Value;

/// What differs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drift {
    /// JSON pointers of planned values that are missing or different.
    pub changed: Vec<String>,
    /// JSON pointers of what somebody has added inside an item that is ours whole.
    pub foreign: Vec<String>,
}

impl Drift {
    /// Whether there is none.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.changed.is_empty() && self.foreign.is_empty()
    }
}

/// Compares what is planned with what is stored.
#[must_use]
pub fn drift(planned: &Value, stored: &Value) -> Drift {
    let mut drift = Drift::default();
    compare(
        planned,
        stored,
        &mut Place { path: String::new(), field: String::new(), whole: false },
        &mut drift,
    );
    // Later items of a list first, so that removing one does not move the next.
    drift.foreign.reverse();
    drift
}

struct Place {
    path: String,
    /// The nearest field name above: what kind of value this is.
    field: String,
    /// Whether this is inside an item that is ours whole.
    whole: bool,
}

impl Place {
    fn field(&self, name: &str) -> Self {
        let escaped = name.replace('~', "~0").replace('/', "~1");
        Self { path: format!("{}/{escaped}", self.path), field: name.to_owned(), whole: self.whole }
    }

    fn item(&self, index: usize, whole: bool) -> Self {
        Self { path: format!("{}/{index}", self.path), field: self.field.clone(), whole }
    }
}

/// The fields by which the API server tells the items of a list apart; none for a list that is one value.
fn keys(field: &str) -> &'static [&'static str] {
    match field {
        "containers" | "initContainers" | "volumes" | "env" | "imagePullSecrets" => &["name"],
        "volumeMounts" => &["mountPath"],
        "ports" => &["port", "containerPort", "protocol"],
        "topologySpreadConstraints" => &["topologyKey", "whenUnsatisfiable"],
        "ownerReferences" => &["uid"],
        _ => &[],
    }
}

/// Maps and objects that the API server takes as one value.
fn is_atomic(field: &str) -> bool {
    matches!(
        field,
        "selector" | "podSelector" | "labelSelector" | "nodeSelector" | "secretKeyRef" | "configMapKeyRef"
    )
}

/// What the API server itself adds to items that are ours.
fn is_allocated(field: &str) -> bool {
    field == "nodePort"
}

fn compare(planned: &Value, stored: &Value, place: &mut Place, drift: &mut Drift) {
    match (planned, stored) {
        (Value::Object(planned), Value::Object(stored)) => {
            let whole = place.whole || is_atomic(&place.field);
            for (name, value) in planned {
                let mut below = place.field(name);
                below.whole = whole;
                match stored.get(name) {
                    Some(stored) => compare(value, stored, &mut below, drift),
                    // What is empty need not be stored.
                    None if is_nothing(value) => {}
                    None => drift.changed.push(below.path),
                }
            }
            if whole {
                let added = stored.iter().filter(|(name, value)| {
                    !planned.contains_key(*name) && !is_allocated(name) && !is_nothing(value)
                });
                drift.foreign.extend(added.map(|(name, _)| place.field(name).path));
            }
        }
        (Value::Array(planned), Value::Array(stored)) => list(planned, stored, place, drift),
        _ if planned == stored || is_same_amount(place, planned, stored) => {}
        _ => drift.changed.push(place.path.clone()),
    }
}

fn list(planned: &[Value], stored: &[Value], place: &Place, drift: &mut Drift) {
    let keys = keys(&place.field);
    if keys.is_empty() || planned.iter().any(|item| !item.is_object()) {
        // One value: a difference anywhere is a difference of the whole.
        if planned.len() != stored.len() {
            drift.changed.push(place.path.clone());
            return;
        }
        for (index, (planned, stored)) in planned.iter().zip(stored).enumerate() {
            let mut inside = Drift::default();
            compare(planned, stored, &mut place.item(index, true), &mut inside);
            if !inside.is_none() {
                drift.changed.push(place.path.clone());
                return;
            }
        }
        return;
    }
    let key = |item: &Value| -> Vec<Value> {
        keys.iter().map(|name| item.get(name).cloned().unwrap_or_default()).collect()
    };
    for item in planned {
        match stored.iter().position(|stored| key(stored) == key(item)) {
            Some(index) => {
                if let Some(stored) = stored.get(index) {
                    compare(item, stored, &mut place.item(index, true), drift);
                }
            }
            None => drift.changed.push(place.path.clone()),
        }
    }
    if place.whole {
        for (index, stored) in stored.iter().enumerate() {
            if !planned.iter().any(|item| key(item) == key(stored)) {
                drift.foreign.push(place.item(index, true).path);
            }
        }
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// The API server writes quantities in its own way: 1000m becomes 1.
fn is_same_amount(place: &Place, planned: &Value, stored: &Value) -> bool {
    let of = |value: &Value| {
        serde_json::from_value::<Quantity>(value.clone()).ok().and_then(|amount| amount.nanos())
    };
    let amounts = ["/resources/requests/", "/resources/limits/", "/sizeLimit"];
    amounts.iter().any(|part| place.path.contains(part)) && of(planned).is_some() && of(planned) == of(stored)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Drift, drift};

    fn found(planned: &Value, stored: &Value) -> (Vec<String>, Vec<String>) {
        let Drift { changed, foreign } = drift(planned, stored);
        (changed, foreign)
    }

    fn deployment() -> Value {
        json!({"metadata": {"labels": {"a": "1"}}, "spec": {"template": {"spec": {"containers": [
            {"name": "penstock", "image": "i:1", "resources": {"requests": {"cpu": "1000m"}},
             "ports": [{"name": "mqtt", "containerPort": 1883, "protocol": "TCP"}],
             "args": ["run", "--x"]},
        ]}}}})
    }

    #[test]
    fn what_others_add_beside_ours_is_theirs() {
        let mut stored = deployment();
        stored["spec"]["replicas"] = json!(5);
        stored["metadata"]["labels"]["b"] = json!("2");
        stored["spec"]["template"]["spec"]["containers"]
            .as_array_mut()
            .unwrap()
            .insert(0, json!({"name": "mesh"}));
        stored["spec"]["template"]["spec"]["containers"][1]["resources"]["requests"]["cpu"] = json!("1");
        assert_eq!(found(&deployment(), &stored), (vec![], vec![]));
    }

    #[test]
    fn a_planned_value_that_differs_or_is_missing_is_found() {
        let mut stored = deployment();
        stored["metadata"]["labels"] = json!({});
        let container = &mut stored["spec"]["template"]["spec"]["containers"][0];
        container["image"] = json!("i:2");
        container["args"] = json!(["run"]);
        container["ports"] = json!([]);
        let (mut changed, foreign) = found(&deployment(), &stored);
        changed.sort();
        let base = "/spec/template/spec/containers/0";
        assert_eq!(
            changed,
            [
                "/metadata/labels/a".to_owned(),
                format!("{base}/args"),
                format!("{base}/image"),
                format!("{base}/ports")
            ]
        );
        assert!(foreign.is_empty());
    }

    #[test]
    fn an_item_under_our_name_is_ours_whole() {
        let mut stored = deployment();
        let container = &mut stored["spec"]["template"]["spec"]["containers"][0];
        container["env"] = json!([{"name": "DEBUG", "value": "1"}]);
        container["ports"].as_array_mut().unwrap().push(json!({"containerPort": 9, "protocol": "TCP"}));
        container["ports"].as_array_mut().unwrap().push(json!({"containerPort": 10, "protocol": "TCP"}));
        let (changed, foreign) = found(&deployment(), &stored);
        assert!(changed.is_empty());
        let base = "/spec/template/spec/containers/0";
        assert_eq!(foreign, [format!("{base}/env"), format!("{base}/ports/2"), format!("{base}/ports/1")]);
    }

    #[test]
    fn a_node_port_is_the_servers_and_a_selector_is_one_value() {
        let planned = json!({"spec": {"selector": {"p": "x"}, "ports": [{"port": 1, "protocol": "TCP"}]}});
        let stored = json!({"spec": {
            "selector": {"p": "x", "q": "y"},
            "ports": [{"port": 1, "protocol": "TCP", "nodePort": 30000}],
        }});
        assert_eq!(found(&planned, &stored), (vec![], vec!["/spec/selector/q".to_owned()]));
    }
}
