//! An API server that refuses, that is slow, or whose answers are lost: who is not concerned is served meanwhile, the reason
//! is told, and in the end everything is as it would be without.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use penstock_e2e::front::{Asked, Fault};
use penstock_e2e::operator::condition;
use penstock_e2e::until::{SOON, START};
use penstock_e2e::versions::Versions;
use penstock_e2e::{ApiServer, Front, Operator, Pipeline, Playground, until};
use serde_json::Value;

/// The pipeline whose children have trouble.
const TROUBLED: &str = "troubled";
const READY: &str = "True/Available";

fn of_troubled(asked: &Asked) -> bool {
    asked.is_write_of_child(TROUBLED)
}

/// An operator behind a front, and what becomes of the pipeline in trouble without trouble: as made, and as edited.
struct Stage {
    ground: Playground,
    front: Front,
    operator: Operator,
    specs: [Pipeline; 2],
    calm: [Calm; 2],
}

/// What children there are in the end, and by which writes.
#[derive(Debug)]
struct Calm {
    essence: Vec<Value>,
    writes: Vec<String>,
}

impl Stage {
    fn start(concurrency: &str) -> Self {
        let ground = Playground::start();
        let front = Front::before(&ground.api);
        let mut operator = Operator::start_as(&front.kubeconfig(), &["--concurrency", concurrency]);
        operator.wait_to_lead();
        let made = ground.pipeline(TROUBLED);
        let specs = [made.clone(), made.ack_timeout(11)];
        let calm = specs.each_ref().map(|spec| {
            let mark = ground.api.audit_mark();
            ground.api.apply(spec);
            ground.api.wait_condition(TROUBLED, "Ready", READY);
            Calm { essence: ground.api.essence(TROUBLED), writes: writes(&ground.api, mark) }
        });
        ground.api.delete_with_children(TROUBLED);
        Self { ground, front, operator, specs, calm }
    }

    fn api(&self) -> &ApiServer {
        &self.ground.api
    }

    /// Waits until the pipeline in trouble says why it is.
    #[track_caller]
    fn wait_told(&self, why: &str) {
        until(&format!("{TROUBLED} tells {why}"), START, || {
            let object = self.api().object("ipl", TROUBLED)?;
            let current = object["status"]["observedGeneration"] == object["metadata"]["generation"];
            let told = condition(&object, "Ready").as_deref() == Some("False/ApiError");
            (current && told && object["status"]["conditions"].to_string().contains(why)).then_some(())
        });
    }

    /// Waits until the pipeline in trouble is as it is without trouble.
    #[track_caller]
    fn wait_calm(&self, version: usize) {
        self.api().wait_condition(TROUBLED, "Ready", READY);
        assert_eq!(self.api().essence(TROUBLED), self.calm[version].essence);
    }

    /// How many applies of the Deployment have been done since a mark.
    #[track_caller]
    fn applied(&self, mark: u64) -> usize {
        writes(self.api(), mark).iter().filter(|write| *write == "patch deployments").count()
    }
}

/// The writes of children that have been done since a mark.
#[track_caller]
fn writes(api: &ApiServer, mark: u64) -> Vec<String> {
    let requests = api.requests_of_operator_since(mark).into_iter();
    let done = requests.filter(|request| {
        request.is_write()
            && request.code < 300
            && !["ingestpipelines/status", "events"].contains(&&*request.resource)
    });
    let mut all: Vec<_> = done.map(|request| format!("{} {}", request.verb, request.resource)).collect();
    all.sort();
    all
}

#[test]
fn who_is_refused_waits_alone_tells_why_and_is_made_up_for() {
    // One turn: whoever kept it would keep everybody.
    let stage = Stage::start("1");
    let versions = Versions::watch(stage.api());
    for (fault, code, outcome) in [
        (Fault::Refused(409), 409, "conflict"),
        (Fault::Throttled(1), 429, "throttled"),
        (Fault::Throttled(30), 429, "throttled"),
        (Fault::Refused(500), 500, "server_error"),
        (Fault::Refused(503), 503, "server_error"),
    ] {
        let good = stage.ground.pipeline("good");
        for (version, spec) in stage.specs.iter().enumerate() {
            stage.front.fail(fault, of_troubled);
            let before = stage.front.met();
            stage.api().apply(spec);
            until("it is refused", SOON, || (stage.front.met() > before).then_some(()));
            stage.api().apply(good.clone().ack_timeout(11 + u32::try_from(version).unwrap()));
            stage.api().wait_condition("good", "Ready", READY);
            stage.wait_told(&format!("the front answers {code}"));
            assert!(version > 0 || stage.api().children(TROUBLED).is_empty());
            let metrics = stage.operator.admin("/metrics").unwrap();
            let counted = format!("outcome=\"{outcome}\"}}");
            assert!(metrics.lines().any(|line| line.contains(&counted)), "{outcome}: {metrics}");
            stage.front.clear();
            stage.wait_calm(version);
        }
        stage.api().delete_with_children(TROUBLED);
        stage.api().delete_with_children("good");
        let said = stage.operator.log().contains(&format!("the front answers {code}"));
        assert!(said, "{}", stage.operator.log());
    }
    let errors = "penstock_operator_reconcile_errors_total{reason=\"ApiError\"}";
    assert!(stage.operator.metric(errors).is_some_and(|count| count >= 10.0));
    versions.catch_up(stage.api());
    versions.assert_no_false_current();
    versions.assert_never_failed(TROUBLED);
    assert_eq!(stage.operator.end(), 0);
}

#[test]
fn who_gets_no_answer_in_time_waits_alone_and_what_is_done_late_does_no_harm() {
    const LATE: Duration = Duration::from_secs(45);
    let stage = Stage::start("2");
    let api = stage.api();
    stage.front.fail(Fault::Late(LATE), of_troubled);
    api.apply(&stage.specs[0]);
    until("it waits", SOON, || (stage.front.met() > 0).then_some(()));
    for name in ["good-0", "good-1", "good-2"] {
        api.apply(stage.ground.pipeline(name));
    }
    for name in ["good-0", "good-1", "good-2"] {
        api.wait_condition(name, "Ready", READY);
    }
    stage.wait_told("no answer within");
    stage.front.clear();
    stage.wait_calm(0);

    // A write of an earlier plan that is done when a later one has been.
    // The first edit hands the fields over that came by the create, which is a write of its own.
    api.apply(stage.specs[0].clone().ack_timeout(13));
    api.wait_condition(TROUBLED, "Ready", READY);
    let met = stage.front.met();
    stage.front.fail(Fault::Late(LATE), |asked| of_troubled(asked) && asked.path.contains("/deployments/"));
    api.apply(stage.specs[0].clone().ack_timeout(12));
    until("it waits", SOON, || (stage.front.met() > met).then_some(()));
    stage.wait_told("no answer within");
    stage.front.clear();
    api.apply(&stage.specs[1]);
    let of_current = || {
        let status = &api.object("ipl", TROUBLED).unwrap()["status"];
        status["observedGeneration"] == 4 && status["conditions"][0]["status"] == "True"
    };
    until("the edit is served", START, || of_current().then_some(()));
    stage.wait_calm(1);
    let mark = api.audit_mark();
    until("the late one is done, and undone", START, || (stage.applied(mark) >= 2).then_some(()));
    stage.wait_calm(1);
    assert_eq!(stage.operator.end(), 0);
}

#[test]
fn a_write_whose_answer_is_lost_is_not_made_twice() {
    let stage = Stage::start("1");
    let api = stage.api();
    let mark = api.audit_mark();
    stage.front.fail(Fault::Unanswered, of_troubled);
    api.apply(&stage.specs[0]);
    until("three answers are lost", START, || (stage.front.met() >= 3).then_some(()));
    stage.front.clear();
    stage.wait_calm(0);
    assert_eq!(writes(api, mark), stage.calm[0].writes);

    let met = stage.front.met();
    let mark = api.audit_mark();
    stage.front.fail(Fault::Unanswered, of_troubled);
    api.apply(&stage.specs[1]);
    until("all answers are lost", START, || {
        (stage.front.met() - met >= stage.calm[1].writes.len()).then_some(())
    });
    stage.front.clear();
    stage.wait_calm(1);
    assert_eq!(writes(api, mark), stage.calm[1].writes);
    assert_eq!(stage.operator.end(), 0);
}

#[test]
fn an_operator_that_has_not_seen_its_pipelines_yet_ends_as_asked() {
    let api = ApiServer::serving_pipelines();
    let front = Front::before(&api);
    front.fail(Fault::Refused(503), |asked| asked.path.contains("/ingestpipelines?"));
    let mut operator = Operator::start_as(&front.kubeconfig(), &[]);
    operator.wait_to_lead();
    until("it asks for them", SOON, || (front.met() > 0).then_some(()));
    assert_eq!(operator.end(), 0);
    let holder = ["get", "lease", "penstock-operator", "-o", "jsonpath={.spec.holderIdentity}"];
    assert_eq!(api.kubectl(&holder).expect_ok(), "", "it is given back");
}

#[test]
fn a_child_that_changes_while_it_is_written_is_written_again_at_once() {
    let stage = Stage::start("1");
    let api = stage.api();
    api.apply(&stage.specs[0]);
    stage.wait_calm(0);
    // The first edit hands fields over by a patch that holds for one version of the object.
    let refused = AtomicUsize::new(0);
    let is_patch = |asked: &Asked| of_troubled(asked) && asked.body.starts_with('[');
    stage.front.fail(Fault::Refused(409), move |asked| {
        is_patch(asked) && refused.fetch_add(1, Ordering::SeqCst) < 2
    });
    api.apply(&stage.specs[1]);
    until("two patches are refused", SOON, || (stage.front.met() == 2).then_some(()));
    stage.wait_calm(1);
    // We warn of pipelines only; others may warn of a Service.
    let ours = "type=Warning,involvedObject.kind=IngestPipeline";
    let warnings = ["get", "events", "-A", "--field-selector", ours, "-o", "name"];
    assert_eq!(api.kubectl(&warnings).expect_ok(), "");
    let errors = "penstock_operator_reconcile_errors_total{reason=\"ApiError\"}";
    assert_eq!(stage.operator.metric(errors), Some(0.0));
    assert_eq!(stage.operator.end(), 0);
}
