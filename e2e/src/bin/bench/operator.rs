//! What the operator costs: many pipelines from cold to Ready, and then nothing.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use penstock_e2e::apiserver::Request;
use penstock_e2e::deployments::Deployments;
use penstock_e2e::until::throughout;
use penstock_e2e::{ApiServer, Kafka, Operator, Pipeline, Readiness, until};

use crate::figures::{Figure, Mark};
use crate::machine::{cpu_seconds, rss_kib};
use crate::rounds::say;

/// How long pipelines may take to become Ready together.
const PATIENCE: Duration = Duration::from_secs(300);

/// What an operator may take for so many pipelines.
pub(crate) struct Marks {
    /// Until all are Ready.
    pub(crate) ready_seconds: f64,
    /// Then.
    pub(crate) rss_mib: f64,
}

/// Measures `count` pipelines, and the `quiet` time after.
pub(crate) fn figures(count: usize, quiet: Duration, marks: &Marks) -> Vec<Figure> {
    say(&format!("the operator: {count} pipelines from cold"));
    let api = ApiServer::serving_pipelines();
    let _deployments = Deployments::play(&api);
    let kafka = Kafka::single().start();
    let topic = kafka.create_topic("operator", 6);
    let mut manifests = String::new();
    for number in 0..count {
        let pipeline = Pipeline::telemetry(&kafka, &topic)
            .set("/metadata/namespace", "iot")
            .set("/metadata/name", format!("pipeline-{number}"));
        let _ = writeln!(manifests, "---\n{pipeline}");
    }
    api.apply(manifests);
    let readiness = Readiness::watch(&api);
    let started = Instant::now();
    let operator = Operator::start(&api);
    until("all pipelines are Ready", PATIENCE, || (readiness.count() == count).then_some(()));
    let seconds = started.elapsed().as_secs_f64();
    let (cpu, rss) = (cpu_seconds(operator.pid()), rss_kib(operator.pid()));
    let requests = settled(&api);
    let per_pipeline =
        |of: &dyn Fn(&&Request) -> bool| requests.iter().filter(of).count() as f64 / count as f64;
    let writes = per_pipeline(&|request| request.is_write());
    // Lists and watches are of all pipelines together.
    let reads = per_pipeline(&|request| !request.is_write() && request.verb == "get");
    say(&format!("the operator: {} s of quiet", quiet.as_secs()));
    let before = requests.iter().filter(|request| request.is_write()).count();
    throughout("the operator lives", quiet, || operator.admin("/livez").is_some());
    let idle = api.writes_of_operator().len() - before;
    let name = |what: &str| format!("operator_{count}_{what}");
    vec![
        Figure::new(name("ready_s"), "s", vec![seconds]).mark(Mark::AtMost(marks.ready_seconds)),
        Figure::new(name("cpu_s"), "s", vec![cpu]),
        Figure::new(name("rss_mib"), "MiB", vec![rss / 1024.0]).mark(Mark::AtMost(marks.rss_mib)),
        Figure::new(name("writes"), "per pipeline", vec![writes]).mark(Mark::AtMost(10.0)),
        Figure::new(name("reads"), "per pipeline", vec![reads]).mark(Mark::AtMost(6.0)),
        Figure::new(name("writes_when_quiet"), "", vec![idle as f64]).mark(Mark::AtMost(0.0)),
    ]
}

/// The requests, once the last Event is written.
fn settled(api: &ApiServer) -> Vec<Request> {
    let mut last = (api.audit_mark(), Instant::now());
    until("the operator has nothing to do", PATIENCE, || {
        // Only what has come since: the whole log is long.
        if !api.requests_of_operator_since(last.0).is_empty() {
            last = (api.audit_mark(), Instant::now());
        }
        (last.1.elapsed() > Duration::from_secs(2)).then(|| api.requests_of_operator())
    })
}
