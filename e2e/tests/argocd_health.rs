//! `charts/argocd/health.lua`, run by a real Lua over a table of objects.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::path::Path;
use std::process::Command;

use penstock_e2e::{parts, process::run};
use serde_json::{Value, json};

/// A value as Lua writes it; null is absent, as in Argo CD.
fn lua(value: &Value) -> String {
    match value {
        Value::Null => "nil".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => format!("{text:?}"),
        Value::Array(items) => format!("{{{}}}", items.iter().map(lua).collect::<Vec<_>>().join(",")),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| format!("[{name:?}]={}", lua(value)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
        }
    }
}

fn health(object: &Value) -> (String, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/argocd/health.lua");
    let program = format!(
        "obj = {}; local hs = dofile({:?}); print(hs.status); print(hs.message)",
        lua(object),
        script.to_str().unwrap()
    );
    let out = run(Command::new(parts::program("lua5.4")).args(["-e", &program]));
    let (status, message) = out.trim_end().split_once('\n').unwrap();
    (status.to_owned(), message.to_owned())
}

/// An object of generation 3.
fn pipeline(status: Value) -> Value {
    json!({"metadata": {"name": "a", "generation": 3}, "spec": {}, "status": status})
}

fn condition(kind: &str, status: &str, reason: &str) -> Value {
    json!({"type": kind, "status": status, "reason": reason, "message": "what is so", "observedGeneration": 3})
}

#[test]
fn argo_cd_sees_what_kstatus_sees() {
    let ready = || condition("Ready", "True", "Available");
    let unready = || condition("Ready", "False", "RollingOut");
    let on_the_way = || condition("Reconciling", "True", "RollingOut");
    let stalled = || condition("Stalled", "True", "NameConflict");
    let paused = || condition("ReconciliationPaused", "True", "Paused");
    let seen = |conditions: Vec<Value>| json!({"observedGeneration": 3, "conditions": conditions});
    let table = [
        ("no status", pipeline(Value::Null), "Progressing", "not acted"),
        ("as the server makes it", pipeline(json!({"observedGeneration": -1})), "Progressing", "not acted"),
        (
            "ready, of an earlier generation",
            pipeline(json!({"observedGeneration": 2, "conditions": [ready()]})),
            "Progressing",
            "not acted",
        ),
        ("no conditions", pipeline(seen(vec![])), "Progressing", "not ready"),
        (
            "on its way",
            pipeline(seen(vec![unready(), on_the_way()])),
            "Progressing",
            "RollingOut: what is so",
        ),
        ("a left-over outvotes", pipeline(seen(vec![ready(), on_the_way()])), "Progressing", "RollingOut"),
        ("stalled", pipeline(seen(vec![unready(), stalled()])), "Degraded", "NameConflict: what is so"),
        ("stalled and ready", pipeline(seen(vec![ready(), stalled()])), "Degraded", "NameConflict"),
        ("not ready", pipeline(seen(vec![unready()])), "Progressing", "RollingOut: what is so"),
        ("ready", pipeline(seen(vec![ready()])), "Healthy", "Available: what is so"),
        (
            "no longer on its way",
            pipeline(seen(vec![ready(), condition("Reconciling", "False", "Available")])),
            "Healthy",
            "Available",
        ),
        ("paused", pipeline(seen(vec![ready(), paused()])), "Suspended", "Paused: what is so"),
        (
            "changed while paused",
            pipeline(json!({"observedGeneration": 2, "conditions": [ready(), paused()]})),
            "Suspended",
            "Paused",
        ),
        (
            "being deleted",
            json!({"metadata": {"generation": 3, "deletionTimestamp": "2026-01-01T00:00:00Z"},
                   "status": seen(vec![ready()])}),
            "Progressing",
            "deleted",
        ),
    ];
    for (case, object, status, message) in table {
        let (found, told) = health(&object);
        assert_eq!(found, status, "{case}: {told}");
        assert!(told.contains(message), "{case}: {told}");
    }
}
