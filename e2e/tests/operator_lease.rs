//! Leader election against a real API server: who leads after a kill, a release, a theft, and without an API server.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use penstock_e2e::until::throughout;
use penstock_e2e::{ApiServer, Operator, until};
use penstock_operator::lease::{Lease, LeaseLost, identity};
use penstock_operator::telemetry::Telemetry;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const SOON: Duration = Duration::from_secs(30);

async fn client(kubeconfig: &Path) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    penstock_operator::client::connect(config, &Telemetry::default()).unwrap()
}

/// A candidate in this process, with a client of its own.
struct Candidate {
    identity: String,
    leads: Arc<AtomicBool>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), LeaseLost>>,
}

impl Candidate {
    fn start(runtime: &Runtime, api: &ApiServer, name: &str) -> Self {
        let kubeconfig = api.kubeconfig();
        let identity = identity(name);
        let leads = Arc::new(AtomicBool::new(false));
        let (stop, stopped) = oneshot::channel::<()>();
        let task = runtime.spawn({
            let (leads, identity) = (Arc::clone(&leads), identity.clone());
            async move {
                let mut lease =
                    Lease::new(client(&kubeconfig).await, "default", "penstock-operator", &identity);
                lease.acquire().await;
                leads.store(true, Ordering::SeqCst);
                let ended = lease.hold(async { drop(stopped.await) }).await;
                leads.store(false, Ordering::SeqCst);
                ended
            }
        });
        Self { identity, leads, stop, task }
    }

    fn leads(&self) -> bool {
        self.leads.load(Ordering::SeqCst)
    }

    #[track_caller]
    fn until_it_leads(&self, deadline: Duration) -> Duration {
        let started = Instant::now();
        until(&format!("{} leads", self.identity), deadline, || self.leads().then_some(()));
        started.elapsed()
    }

    /// As SIGKILL: no release.
    fn kill(self) {
        self.task.abort();
    }

    /// As SIGTERM.
    fn stop(self, runtime: &Runtime) -> Result<(), LeaseLost> {
        self.stop.send(()).unwrap();
        runtime.block_on(self.task).unwrap()
    }

    /// How it ends by itself.
    fn end(self, runtime: &Runtime) -> Result<(), LeaseLost> {
        let _keep = self.stop;
        runtime.block_on(async { tokio::time::timeout(SOON, self.task).await.unwrap().unwrap() })
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[track_caller]
fn lease(api: &ApiServer, path: &str) -> String {
    let path = format!("jsonpath={{{path}}}");
    api.kubectl(&["get", "lease", "penstock-operator", "-o", &path]).expect_ok()
}

#[test]
fn the_second_leads_within_15_s_of_a_kill_and_at_once_after_a_release() {
    let (runtime, api) = (runtime(), ApiServer::start());
    let first = Candidate::start(&runtime, &api, "first");
    first.until_it_leads(SOON);
    assert_eq!(lease(&api, ".spec.holderIdentity"), first.identity);
    let second = Candidate::start(&runtime, &api, "second");
    let renewed = lease(&api, ".spec.renewTime");
    until("a renewal", SOON, || (lease(&api, ".spec.renewTime") != renewed).then_some(()));
    assert!(first.leads() && !second.leads());

    first.kill();
    let took = second.until_it_leads(Duration::from_secs(15));
    // The holder's time must be over first: it was renewed at most two seconds before.
    assert!(took > Duration::from_secs(6), "after {took:?}");
    assert_eq!(lease(&api, ".spec.leaseTransitions"), "1");

    let third = Candidate::start(&runtime, &api, "third");
    second.stop(&runtime).unwrap();
    // At its next look, and long before the 10 s of a Lease that was not released.
    third.until_it_leads(Duration::from_secs(8));
    assert_eq!(lease(&api, ".spec.holderIdentity"), third.identity);

    third.stop(&runtime).unwrap();
    // As client-go's release: an empty holder, for a second.
    let spec = "{.spec.holderIdentity}/{.spec.leaseDurationSeconds}";
    let path = format!("jsonpath={spec}");
    assert_eq!(api.kubectl(&["get", "lease", "penstock-operator", "-o", &path]).expect_ok(), "/1");
}

#[test]
fn a_stolen_lease_ends_its_holder_and_what_others_wrote_on_it_stays() {
    let (runtime, api) = (runtime(), ApiServer::start());
    let first = Candidate::start(&runtime, &api, "first");
    first.until_it_leads(SOON);
    api.kubectl(&["label", "lease", "penstock-operator", "team=ingest"]).expect_ok();
    let renewed = lease(&api, ".spec.renewTime");
    until("a renewal", SOON, || (lease(&api, ".spec.renewTime") != renewed).then_some(()));
    assert_eq!(lease(&api, ".metadata.labels.team"), "ingest");
    assert!(first.leads());

    let thief = r#"{"spec":{"holderIdentity":"thief"}}"#;
    api.kubectl(&["patch", "lease", "penstock-operator", "--type=merge", "-p", thief]).expect_ok();
    assert_eq!(first.end(&runtime), Err(LeaseLost::Taken("thief".to_owned())));
    assert_eq!(lease(&api, ".spec.holderIdentity"), "thief");
}

#[test]
fn a_deleted_lease_ends_its_holder() {
    let (runtime, api) = (runtime(), ApiServer::start());
    let first = Candidate::start(&runtime, &api, "first");
    first.until_it_leads(SOON);
    api.kubectl(&["delete", "lease", "penstock-operator"]).expect_ok();
    assert_eq!(first.end(&runtime), Err(LeaseLost::Deleted));
}

#[test]
fn without_its_namespace_a_candidate_says_so_asks_seldom_and_leads_when_it_is_there() {
    let api = ApiServer::serving_pipelines();
    let arguments = ["--lease-namespace", "nowhere"];
    let mut operator = Operator::start_as(&api.operator_kubeconfig(), &arguments);
    until("it says what is missing", SOON, || {
        operator.log().contains("namespaces \\\"nowhere\\\" not found").then_some(())
    });
    let tries =
        "penstock_operator_api_calls_total{verb=\"create\",resource=\"leases\",outcome=\"not_found\"}";
    let before = operator.metric(tries).unwrap();
    throughout("it waits", Duration::from_secs(5), || {
        operator.metric(tries).is_some_and(|tries| tries <= before + 3.0)
    });
    api.kubectl(&["create", "namespace", "nowhere"]).expect_ok();
    operator.wait_to_lead();
    assert_eq!(operator.end(), 0);
}

#[test]
fn without_an_api_server_a_holder_ends_after_seven_seconds() {
    let (runtime, api) = (runtime(), ApiServer::start());
    let first = Candidate::start(&runtime, &api, "first");
    first.until_it_leads(SOON);
    drop(api);
    let gone = Instant::now();
    assert_eq!(first.end(&runtime), Err(LeaseLost::Missed(Duration::from_secs(7))));
    assert!(gone.elapsed() < Duration::from_secs(9), "{:?}", gone.elapsed());
}
