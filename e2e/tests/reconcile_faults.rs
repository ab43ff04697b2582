//! Whatever happens on the way, a pipeline ends where its spec says: the operator killed, edits in a row, other pipelines
//! that are broken, owners that go, and two operators that both think they lead.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::time::Duration;

use penstock_crds::schema;
use penstock_e2e::operator::condition;
use penstock_e2e::until::{SOON, START, throughout, within};
use penstock_e2e::versions::Versions;
use penstock_e2e::{ApiServer, Operator, Pipeline, Playground, until};
use rustix::process::Signal;
use serde_json::{Value, json};

/// A pipeline with every kind of child.
fn full(ground: &Playground, name: &str) -> Pipeline {
    ground
        .pipeline(name)
        .set("/spec/edge/resources/requests/cpu", "100m")
        .set("/spec/autoscaling", json!({"minReplicas": 2, "maxReplicas": 5}))
}

#[test]
fn an_operator_killed_after_any_write_is_made_up_for_by_the_next_one() {
    let ground = Playground::start();
    let api = &ground.api;
    let topic = ground.kafka.fresh_name("killed");
    let topics = json!([{"name": "telemetry", "topicName": topic, "management": "Managed", "partitions": 1}]);
    let pipeline = full(&ground, "killed").set("/spec/topics", topics);
    let mut calm = None;
    for writes in [usize::MAX, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10] {
        if ground.kafka.has_topic(&topic) {
            ground.kafka.delete_topic(&topic);
        }
        api.apply(&pipeline);
        let mark = api.audit_mark();
        // A Lease of its own for each: nobody waits for that of a dead one to expire.
        let mut operator = Operator::start_with(api, &["--lease-name", &format!("killed-{writes}")]);
        if calm.is_some() {
            api.wait_for_writes_since(mark, writes, || {
                let now = api.object("ipl", "killed").unwrap();
                condition(&now, "Ready").as_deref() == Some("True/Available")
            });
            operator.kill();
            operator = Operator::start_with(api, &["--lease-name", &format!("after-{writes}")]);
        }
        api.wait_condition("killed", "Ready", "True/Available");
        let end = api.essence("killed");
        assert_eq!(end.len(), 8);
        assert_eq!(&end, calm.get_or_insert_with(|| end.clone()), "killed after {writes} writes");
        assert_eq!(operator.end(), 0);
        api.delete_with_children("killed");
    }
}

#[test]
fn where_a_pipeline_ends_does_not_depend_on_its_way() {
    let ground = Playground::start();
    let api = &ground.api;
    let operator = Operator::start(api);
    let plain = ground.pipeline("path").set("/spec/edge/replicas", 3);
    let adapter = json!({
        "name": "poller", "image": "poller:1", "env": [{"name": "TARGET", "value": "127.0.0.1"}],
        "resources": {"requests": {"cpu": "10m"}},
    });
    let mut bare = plain.value().clone();
    bare["spec"]["endpoints"].as_array_mut().unwrap().truncate(1);
    bare["spec"]["routes"][0]["from"].as_array_mut().unwrap().truncate(1);
    let specs: Vec<Value> = vec![
        plain.value().clone(),
        plain.clone().set("/spec/edge/adapters", json!([adapter])).value().clone(),
        full(&ground, "path").set("/spec/topics", plain.value()["spec"]["topics"].clone()).value().clone(),
        plain
            .clone()
            .set("/spec/endpoints/0/exposure", json!({"type": "NodePort"}))
            .set("/spec/endpoints/1/exposure", json!({"type": "LoadBalancer", "annotations": {"a": "b"}}))
            .set("/spec/networkPolicy/mode", "Disabled")
            .set("/spec/edge/nodeSelector", json!({"edge": "yes"}))
            .set("/spec/edge/podLabels", json!({"team": "ours"}))
            .value()
            .clone(),
        bare,
    ];
    // `kubectl apply` merges, which is a way of its own; these are the specs whole.
    let put = |spec: &Value| {
        let verb = if api.object("ipl", "path").is_some() { "replace" } else { "create" };
        api.kubectl_with(&[verb, "-f", "-"], &spec.to_string()).expect_ok();
        api.wait_condition("path", "Ready", "True/Available");
    };
    for (index, last) in specs.iter().enumerate() {
        put(last);
        let straight = api.essence("path");
        api.delete_with_children("path");
        for step in [1, 2, 0] {
            put(&specs[(index + step) % specs.len()]);
        }
        assert_eq!(api.essence("path"), straight, "spec {index}");
        api.delete_with_children("path");
    }
    assert_eq!(operator.end(), 0);
}

#[test]
fn edits_in_a_row_become_few_writes_and_the_last_one_holds() {
    let ground = Playground::start();
    let api = &ground.api;
    let versions = Versions::watch(api);
    let _operator = Operator::start(api);
    let pipeline = ground.pipeline("edits");
    api.apply(&pipeline);
    api.wait_condition("edits", "Ready", "True/Available");
    let mark = api.audit_mark();
    let edits = (10..20).map(|seconds| pipeline.clone().ack_timeout(seconds).value().clone());
    api.apply(json!({"apiVersion": "v1", "kind": "List", "items": edits.collect::<Vec<_>>()}));
    let seen = api.wait_condition("edits", "Ready", "True/Available");
    assert_eq!(seen["spec"]["delivery"]["ackTimeoutSeconds"], 19);
    assert_eq!(seen["metadata"]["generation"], 11);
    let hash = seen["status"]["configHash"].as_str().unwrap();
    let config = api.object("configmap", &format!("edits-edge-{hash}")).unwrap();
    assert!(config["data"]["edge.json"].as_str().unwrap().contains("19"), "{config:#}");
    let writes = api.requests_of_operator_since(mark);
    let rolls =
        writes.iter().filter(|write| write.verb == "patch" && write.resource == "deployments").count();
    assert!((1..=5).contains(&rolls), "{rolls} of ten edits rolled the pods: {writes:#?}");
    versions.catch_up(api);
    versions.assert_no_false_current();
    versions.assert_never_failed("edits");
}

#[test]
fn a_malformed_object_is_told_and_stops_nobody() {
    let ground = Playground::start();
    let api = &ground.api;
    // As an older or newer version of the definition could have let it in.
    let strict: Value = serde_yaml::from_str(&schema::crd_yaml().unwrap()).unwrap();
    let mut lax = strict.clone();
    lax["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"] =
        json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let replace = |definition: &Value| {
        let patch = json!([{"op": "replace", "path": "/spec", "value": definition["spec"]}]).to_string();
        let crd = "ingestpipelines.penstock.dev";
        api.kubectl(&["patch", "crd", crd, "--type=json", "-p", &patch]).expect_ok();
    };
    replace(&lax);
    let mut broken = ground.pipeline("broken").value().clone();
    broken["spec"]["kafka"] = json!({"bootstrapServers": 5});
    until("the server takes it", SOON, || {
        api.kubectl_with(&["create", "-f", "-"], &broken.to_string()).ok.then_some(())
    });
    let good = ground.pipeline("good").set("/spec/fieldOfAnotherVersion", "kept");
    api.apply(&good);
    replace(&strict);

    let operator = Operator::start(api);
    // Its status is written past the schema of its spec.
    let seen = api.wait_condition("broken", "Stalled", "True/MalformedObject");
    let conditions = seen["status"]["conditions"].to_string();
    assert!(conditions.contains("Expected a sequence"), "{conditions}");
    assert!(api.children("broken").is_empty());
    api.wait_condition("good", "Ready", "True/Available");
    api.apply(ground.pipeline("another"));
    api.wait_condition("another", "Ready", "True/Available");
    let status = |object: Value| object["metadata"]["resourceVersion"].clone();
    let before = status(api.object("ipl", "broken").unwrap());
    throughout("it is told once", Duration::from_secs(2), || {
        status(api.object("ipl", "broken").unwrap()) == before
    });
    // Mended, it is served.
    api.kubectl_with(&["replace", "-f", "-"], &ground.pipeline("broken").to_string()).expect_ok();
    let seen = api.wait_condition("broken", "Ready", "True/Available");
    assert_eq!(condition(&seen, "Stalled"), None);
    assert_eq!(operator.end(), 0);
}

#[test]
fn a_hundred_pipelines_come_up_from_cold() {
    const COUNT: usize = 100;
    let ground = Playground::start();
    let api = &ground.api;
    let versions = Versions::watch(api);
    let one = ground.pipeline("crowd");
    let all =
        (0..COUNT).map(|index| one.clone().set("/metadata/name", format!("crowd-{index}")).value().clone());
    api.apply(json!({"apiVersion": "v1", "kind": "List", "items": all.collect::<Vec<_>>()}));
    let operator = Operator::start(api);
    until("all are ready", START, || {
        let ready = |object: &&Value| condition(object, "Ready").as_deref() == Some("True/Available");
        (api.objects("ipl").iter().filter(ready).count() == COUNT).then_some(())
    });
    // Last of a pipeline's writes is the event that tells of it.
    until("all are told of", SOON, || {
        let told = api.objects("event").into_iter().filter(|event| event["reason"] == "Available");
        (told.count() == COUNT).then_some(())
    });
    let writes = api.writes_of_operator();
    assert!(writes.len() <= 10 * COUNT, "{} writes", writes.len());
    assert!(writes.iter().all(|write| write.code < 300), "{writes:#?}");
    throughout("no write once all are ready", Duration::from_secs(6), || {
        api.writes_of_operator().len() == writes.len()
    });
    versions.catch_up(api);
    versions.assert_no_false_current();
    assert_eq!(operator.end(), 0);
}

#[test]
fn an_owner_that_goes_in_mid_flight_is_let_go_and_may_come_back() {
    let ground = Playground::start();
    let api = &ground.api;
    let versions = Versions::watch(api);
    let _operator = Operator::start(api);
    let pipeline = full(&ground, "going");
    let mark = api.audit_mark();
    api.apply(&pipeline);
    api.wait_for_writes_since(mark, 2, || false);
    api.kubectl(&["delete", "ipl", "going", "-n", "iot", "--wait=false"]).expect_ok();
    api.wait_for_writes_since(mark, 4, || true);
    let mark = api.audit_mark();
    throughout("nothing is written for nobody", Duration::from_secs(3), || {
        let writes = api.requests_of_operator_since(mark);
        // What was under way when the deletion came may still end.
        writes.iter().filter(|request| request.is_write()).count() <= 6
    });
    // Its namesake comes before the garbage collector has been: it waits for it.
    assert!(!api.children("going").is_empty());
    api.apply(&pipeline);
    let left = api.children("going");
    api.wait_condition("going", "Reconciling", "True/RollingOut");
    for child in left {
        let (kind, name) = (child["kind"].as_str().unwrap(), child["metadata"]["name"].as_str().unwrap());
        let now = api.object(kind, name).unwrap();
        assert_eq!(now["metadata"]["resourceVersion"], child["metadata"]["resourceVersion"], "{kind} {name}");
        api.kubectl(&["delete", kind, name, "-n", "iot"]).expect_ok();
    }
    api.wait_condition("going", "Ready", "True/Available");
    versions.catch_up(api);
    versions.assert_never_failed("going");
}

#[test]
fn two_operators_that_overlap_end_at_the_same_objects() {
    let ground = Playground::start();
    let api = &ground.api;
    let mut first = Operator::start_with(api, &["--identity", "first"]);
    let pipeline = full(&ground, "overlap");
    api.apply(&pipeline);
    api.wait_condition("overlap", "Ready", "True/Available");
    let second = Operator::start_as(&api.operator_kubeconfig(), &["--identity", "second"]);
    until("the second is there", SOON, || second.admin("/livez"));
    // In the midst of work.
    let mark = api.audit_mark();
    api.apply(pipeline.clone().ack_timeout(11));
    api.wait_for_writes_since(mark, 1, || false);
    first.signal(Signal::STOP);
    until("the second leads", SOON, || {
        second.metric("penstock_operator_leader").filter(|leads| *leads == 1.0)
    });
    api.apply(pipeline.ack_timeout(12));
    api.wait_condition("overlap", "Ready", "True/Available");
    let before = api.essence("overlap");
    first.signal(Signal::CONT);
    assert_eq!(first.wait_exit_code(SOON), 1, "whoever does not lead any more ends: {}", first.log());
    // A write that was on its way when the first was stopped may still be done, and is put right.
    until("nothing moves", SOON, || {
        let seen = api.children("overlap");
        let moved = || (api.children("overlap") != seen).then_some(());
        within(Duration::from_secs(3), moved).is_none().then_some(())
    });
    assert_eq!(api.essence("overlap"), before);
    api.wait_condition("overlap", "Ready", "True/Available");
}

#[test]
fn a_kind_that_the_cluster_does_not_serve_is_missed_by_those_only_who_need_it() {
    let ground =
        Playground::on(ApiServer::serving_pipelines_with(&["--runtime-config=autoscaling/v2=false"]));
    let _operator = Operator::start(&ground.api);
    ground.api.apply(ground.pipeline("plain"));
    ground.api.wait_condition("plain", "Ready", "True/Available");
    let scaled = ground
        .pipeline("scaled")
        .set("/spec/edge/resources/requests/cpu", "100m")
        .set("/spec/autoscaling", json!({"maxReplicas": 3}));
    ground.api.apply(&scaled);
    let missing = ground.api.wait_condition("scaled", "Ready", "False/CapabilityMissing");
    let told = missing["status"]["conditions"].to_string();
    assert!(told.contains("horizontalpodautoscalers.autoscaling"), "{told}");
    ground.api.apply(scaled.set("/spec/autoscaling", Value::Null));
    ground.api.wait_condition("scaled", "Ready", "True/Available");
}

#[test]
fn a_namespace_that_is_being_deleted_is_told_and_stops_nobody() {
    let ground = Playground::start();
    let api = &ground.api;
    let _operator = Operator::start(api);
    api.kubectl(&["create", "namespace", "ending"]).expect_ok();
    api.apply(ground.pipeline("ending").set("/metadata/namespace", "ending"));
    let ready = || {
        let text = api.kubectl(&["get", "ipl", "ending", "-n", "ending", "-o", "json"]).expect_ok();
        condition(&serde_json::from_str(&text).unwrap(), "Ready")
    };
    until("it is ready", SOON, || (ready().as_deref() == Some("True/Available")).then_some(()));
    // No controller empties it here, so it stays for the time being.
    api.kubectl(&["delete", "namespace", "ending", "--wait=false"]).expect_ok();
    api.kubectl(&["delete", "deployment", "ending", "-n", "ending"]).expect_ok();
    let told = "False/NamespaceTerminating";
    until("it is told", SOON, || (ready().as_deref() == Some(told)).then_some(()));
    api.apply(ground.pipeline("staying"));
    api.wait_condition("staying", "Ready", "True/Available");
}
