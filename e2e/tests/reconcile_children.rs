//! Children of a pipeline on a real API server: made, kept, put back, handed over, and taken away.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::time::Duration;

use penstock_e2e::until::{SOON, throughout};
use penstock_e2e::{ApiServer, Operator, Pipeline, Playground, until};
use serde_json::{Value, json};

/// The pipeline `telemetry`, with a topic of its own.
fn telemetry(ground: &Playground, topic: &str) -> Pipeline {
    ground.pipeline(topic).set("/metadata/name", "telemetry")
}

const KINDS: [&str; 7] =
    ["configmap", "serviceaccount", "service", "networkpolicy", "pdb", "hpa", "deployment"];

fn owned(api: &ApiServer) -> Vec<(String, Value)> {
    let of = |kind: &str| {
        let kind = kind.to_owned();
        let ours = |object: &Value| object["metadata"]["ownerReferences"][0]["kind"] == "IngestPipeline";
        api.objects(&kind)
            .into_iter()
            .filter(move |object| ours(object))
            .map(move |object| (kind.clone(), object))
    };
    KINDS.iter().flat_map(|kind| of(kind).collect::<Vec<_>>()).collect()
}

#[test]
fn a_pipeline_gets_its_children_and_then_nothing_is_written() {
    let ground = Playground::start();
    let operator = Operator::start(&ground.api);
    ground.api.apply(telemetry(&ground, "children"));
    let pipeline = ground.api.wait_condition("telemetry", "Ready", "True/Available");
    let mut names: Vec<_> = owned(&ground.api)
        .iter()
        .map(|(kind, object)| format!("{kind}/{}", object["metadata"]["name"].as_str().unwrap()))
        .collect();
    names.sort();
    let hash = pipeline["status"]["configHash"].as_str().unwrap();
    let expected = [
        &format!("configmap/telemetry-edge-{hash}"),
        "deployment/telemetry",
        "networkpolicy/telemetry",
        "pdb/telemetry",
        "service/telemetry-mqtt",
        "service/telemetry-rest",
        "serviceaccount/telemetry-edge",
    ];
    assert_eq!(names, expected);
    assert_eq!(pipeline["status"]["readyReplicas"], 2);
    let writes = ground.api.writes_of_operator();
    println!("{writes:#?}");
    assert!(writes.len() <= 10, "{} writes: {writes:#?}", writes.len());
    throughout("no write of a converged operator", Duration::from_secs(6), || {
        ground.api.writes_of_operator().len() == writes.len()
    });
    // Nor does one that has just started find anything to do.
    assert_eq!(operator.end(), 0);
    let operator = Operator::start(&ground.api);
    until("the first reconcile", SOON, || {
        operator
            .metric("penstock_operator_reconciles_total{outcome=\"converged\"}")
            .filter(|count| *count >= 1.0)
    });
    throughout("no write of an operator that starts", Duration::from_secs(3), || {
        let now = ground.api.writes_of_operator();
        assert_eq!(now.get(writes.len()..), Some(&[][..]));
        true
    });
}

#[test]
fn what_is_ours_is_put_back_and_what_others_add_stays() {
    let ground = Playground::start();
    let _operator = Operator::start(&ground.api);
    ground.api.apply(telemetry(&ground, "drift"));
    ground.api.wait_condition("telemetry", "Ready", "True/Available");
    let before = owned(&ground.api);
    for (kind, object) in &before {
        let name = object["metadata"]["name"].as_str().unwrap();
        let patch = json!({"metadata": {
            "labels": {"penstock.dev/pipeline": "another", "theirs": "stays"},
            "annotations": {"theirs": "stays"},
        }});
        ground
            .api
            .kubectl(&["patch", kind, name, "-n", "iot", "--type=merge", "-p", &patch.to_string()])
            .expect_ok();
        let back = until(&format!("the label of {kind} {name} is back"), SOON, || {
            let now = ground.api.object(kind, name)?;
            (now["metadata"]["labels"]["penstock.dev/pipeline"] == "telemetry").then_some(now)
        });
        assert_eq!(back["metadata"]["labels"]["theirs"], "stays", "{kind}");
        assert_eq!(back["metadata"]["annotations"]["theirs"], "stays", "{kind}");
        assert_eq!(back["metadata"]["uid"], object["metadata"]["uid"], "{kind}");
        ground.api.kubectl(&["delete", kind, name, "-n", "iot", "--wait=false"]).expect_ok();
        until(&format!("{kind} {name} is made again"), SOON, || {
            let now = ground.api.object(kind, name)?;
            (now["metadata"]["uid"] != object["metadata"]["uid"]).then_some(())
        });
    }
    ground.api.wait_condition("telemetry", "Ready", "True/Available");
}

#[test]
fn an_item_under_our_name_is_ours_whole() {
    let ground = Playground::start();
    let _operator = Operator::start(&ground.api);
    ground.api.apply(telemetry(&ground, "items"));
    ground.api.wait_condition("telemetry", "Ready", "True/Available");
    let edit = json!({"spec": {"template": {
        "metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "now"}},
        "spec": {"containers": [
            {"name": "penstock", "image": "theirs:1", "env": [{"name": "THEIRS", "value": "goes"}]},
            {"name": "mesh", "image": "mesh:1"},
        ]},
    }}});
    ground
        .api
        .kubectl(&["patch", "deployment", "telemetry", "-n", "iot", "-p", &edit.to_string()])
        .expect_ok();
    let now = until("our container is ours again", SOON, || {
        let now = ground.api.object("deployment", "telemetry")?;
        let ours = container(&now, "penstock")?.clone();
        (ours["image"] != "theirs:1" && ours.get("env").is_none()).then_some(now)
    });
    assert!(container(&now, "mesh").is_some(), "what a mesh adds beside ours stays");
    let annotations = &now["spec"]["template"]["metadata"]["annotations"];
    assert_eq!(
        annotations["kubectl.kubernetes.io/restartedAt"], "now",
        "and a restart that a person asks for"
    );
}

fn container<'a>(deployment: &'a Value, name: &str) -> Option<&'a Value> {
    deployment["spec"]["template"]["spec"]["containers"]
        .as_array()?
        .iter()
        .find(|container| container["name"] == name)
}

#[test]
fn replicas_are_ours_only_while_the_spec_names_them() {
    let ground = Playground::start();
    let _operator = Operator::start(&ground.api);
    let pipeline = telemetry(&ground, "replicas");
    let replicas =
        || ground.api.object("deployment", "telemetry").map(|now| now["spec"]["replicas"].as_i64().unwrap());
    let never_below = |least: i64, what: &str| {
        throughout(what, Duration::from_secs(3), || replicas().is_some_and(|now| now >= least));
    };
    ground.api.apply(&pipeline);
    ground.api.wait_condition("telemetry", "Ready", "True/Available");
    assert_eq!(replicas(), Some(2), "the default");
    ground.api.kubectl(&["scale", "deployment", "telemetry", "-n", "iot", "--replicas=3"]).expect_ok();
    never_below(3, "what a person scales stays while the spec names no number");
    ground.api.apply(pipeline.clone().set("/spec/edge/replicas", 5));
    until("5 replicas", SOON, || (replicas() == Some(5)).then_some(()));
    ground.api.kubectl(&["scale", "deployment", "telemetry", "-n", "iot", "--replicas=1"]).expect_ok();
    until("5 replicas again", SOON, || (replicas() == Some(5)).then_some(()));
    ground.api.apply(&pipeline);
    ground.api.wait_condition("telemetry", "Ready", "True/Available");
    never_below(5, "5, then unset");
    ground.api.apply(pipeline.clone().set("/spec/edge/replicas", 5));
    ground.api.wait_condition("telemetry", "Ready", "True/Available");
    let scaled = pipeline
        .set("/spec/edge/resources/requests/cpu", "100m")
        .set("/spec/autoscaling", json!({"minReplicas": 2, "maxReplicas": 9}));
    ground.api.apply(&scaled);
    until("an autoscaler", SOON, || ground.api.object("hpa", "telemetry"));
    ground.api.wait_condition("telemetry", "Ready", "True/Available");
    never_below(5, "5, then autoscaling");
    ground.api.apply(scaled.set("/spec/autoscaling", Value::Null));
    until("the autoscaler is gone", SOON, || ground.api.object("hpa", "telemetry").is_none().then_some(()));
}

/// An object without what its own controllers write.
fn as_written(mut object: Value) -> Value {
    object["status"] = Value::Null;
    object["metadata"]["resourceVersion"] = Value::Null;
    object
}

#[test]
fn an_object_of_somebody_else_is_never_touched() {
    let ground = Playground::start();
    let pipeline = telemetry(&ground, "conflict")
        .set("/spec/edge/resources/requests/cpu", "100m")
        .set("/spec/autoscaling", json!({"maxReplicas": 3}));
    let plan = penstock_e2e::operator::plan(&pipeline);
    let _operator = Operator::start(&ground.api);
    for theirs in plan {
        let kind = theirs["kind"].as_str().unwrap().to_owned();
        let name = theirs["metadata"]["name"].as_str().unwrap().to_owned();
        let mut theirs = theirs;
        theirs["metadata"]["ownerReferences"] = json!([]);
        theirs["metadata"]["labels"] = json!({"theirs": "stays"});
        ground.api.apply(&theirs);
        let before = ground.api.object(&kind, &name).unwrap();
        ground.api.apply(&pipeline);
        let stalled = ground.api.wait_condition("telemetry", "Stalled", "True/NameConflict");
        let message = stalled["status"]["conditions"].to_string();
        assert!(message.contains(&format!("{kind} {name}")), "{message}");
        let after = ground.api.object(&kind, &name).unwrap();
        assert_eq!(as_written(before), as_written(after), "{kind} was touched");
        ground.api.kubectl(&["delete", "ipl", "telemetry", "-n", "iot"]).expect_ok();
        // No garbage collector runs here.
        for (kind, object) in owned(&ground.api) {
            let name = object["metadata"]["name"].as_str().unwrap();
            ground.api.kubectl(&["delete", &kind, name, "-n", "iot"]).expect_ok();
        }
        ground.api.kubectl(&["delete", &kind, &name, "-n", "iot"]).expect_ok();
    }
}

#[test]
fn children_that_are_planned_no_more_go_away() {
    let ground = Playground::start();
    let _operator = Operator::start(&ground.api);
    let pipeline = telemetry(&ground, "unplanned");
    ground.api.apply(&pipeline);
    ground.api.wait_condition("telemetry", "Ready", "True/Available");
    ground.api.apply(
        pipeline
            .set("/spec/endpoints/1/exposure/type", "Pod")
            .set("/spec/networkPolicy/mode", "Disabled")
            .set("/spec/edge/serviceAccountName", "default"),
    );
    ground.api.wait_condition("telemetry", "Ready", "True/Available");
    for (kind, name) in
        [("service", "telemetry-rest"), ("networkpolicy", "telemetry"), ("serviceaccount", "telemetry-edge")]
    {
        assert!(ground.api.object(kind, name).is_none(), "{kind} {name}");
    }
    assert!(ground.api.object("service", "telemetry-mqtt").is_some());
}

#[test]
fn services_whose_names_had_to_be_shaped_come_and_go_as_any() {
    let ground = Playground::start();
    let _operator = Operator::start(&ground.api);
    let services = |pipeline: &str| -> Vec<String> {
        let owned = owned(&ground.api).into_iter().filter(|(kind, object)| {
            kind == "service" && object["metadata"]["ownerReferences"][0]["name"] == pipeline
        });
        owned.map(|(_, object)| object["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    };
    for name in ["9lives", "a.b"] {
        let pipeline = telemetry(&ground, "shaped").set("/metadata/name", name);
        ground.api.apply(&pipeline);
        ground.api.wait_condition(name, "Ready", "True/Available");
        let both = services(name);
        assert_eq!(both.len(), 2, "{both:?}");
        assert!(both.iter().all(|service| !service.starts_with(name)), "{both:?}");
        ground.api.apply(pipeline.set("/spec/endpoints/1/exposure/type", "Pod"));
        ground.api.wait_condition(name, "Ready", "True/Available");
        let left = services(name);
        assert_eq!(left.len(), 1, "{left:?}");
        assert!(both.contains(&left[0]), "{left:?} of {both:?}");
    }
}
