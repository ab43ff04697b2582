//! Leader election: one operator acts at a time, by a `coordination.k8s.io/v1` Lease that only its holder keeps renewed.
//!
//! [`election`] decides, without a clock or a client of its own; this module asks the API server. Writes carry the
//! resourceVersion of what they replace, so of two candidates one wins and the other reads again. A process that may
//! have missed a renewal has lost the lease for good: [`Lease::hold`] ends with an error, and so must the process.

pub mod election;

use std::future::Future;
use std::pin::pin;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease as Object, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};

use self::election::{Action, Claim, Election, Outcome, Record, Timing};
use crate::api_error::ApiError;

/// What it is in roles.
const IN_ROLES: &str = "leases.coordination.k8s.io";

/// How long one call may take. Two of them fit into the renew deadline: one that hangs is not the end.
const CALL: Duration = Duration::from_secs(3);
/// How long the release at the end may take.
const RELEASE: Duration = Duration::from_secs(2);

pub use self::election::Lost as LeaseLost;

/// A candidate for a Lease, and then its holder.
pub struct Lease {
    api: Api<Object>,
    name: String,
    namespace: String,
    election: Election,
    /// The object of the last answer: what a write replaces.
    last: Option<Object>,
    outcome: Outcome,
}

impl Lease {
    /// A candidate called `identity` for the Lease `namespace`/`name`.
    ///
    /// `identity` must belong to this process alone, also among earlier processes of its pod: see [`identity`].
    #[must_use]
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            election: Election::new(identity, Timing::default()),
            last: None,
            outcome: Outcome::Waited,
        }
    }

    /// Waits until the Lease is ours. Errors of the API server are logged, and it is asked again.
    ///
    /// What follows must be [`Lease::hold`], at once: the lease is renewed nowhere else.
    pub async fn acquire(&mut self) {
        // A candidate cannot lose what it does not hold.
        while !self.election.leads(Instant::now()) && self.step().await.is_ok() {}
        tracing::info!(lease = %self.place(), "this operator leads");
    }

    /// Keeps the Lease renewed until `shutdown` resolves, then gives it back, so that the next one need not wait.
    ///
    /// `shutdown` must resolve only when everything that a leader does has ended.
    ///
    /// # Errors
    /// As soon as another may hold the Lease: nothing may be written any more, and the process must end.
    pub async fn hold(mut self, shutdown: impl Future<Output = ()>) -> Result<(), LeaseLost> {
        let mut shutdown = pin!(shutdown);
        loop {
            tokio::select! {
                biased;
                lost = self.step() => lost?,
                () = &mut shutdown => break,
            }
        }
        if tokio::time::timeout(RELEASE, self.release()).await.is_err() {
            tracing::warn!(lease = %self.place(), "the lease could not be given back in time; it will expire");
        }
        Ok(())
    }

    /// One action of the election. It may be dropped half-way: what a dropped call did is then not known.
    async fn step(&mut self) -> Result<(), LeaseLost> {
        let outcome = std::mem::replace(&mut self.outcome, Outcome::Failed);
        self.outcome = match self.election.next(outcome, Instant::now()) {
            Action::Wait(until) => {
                tokio::time::sleep_until(until.into()).await;
                Outcome::Waited
            }
            Action::Read => {
                self.in_time("get", self.api.get_opt(&self.name)).await.map_or(Outcome::Failed, |found| {
                    let record = found.as_ref().map(record);
                    self.last = found;
                    Outcome::Read(record)
                })
            }
            Action::Write(claim) => {
                let object = self.claimed(&claim);
                let parameters = PostParams::default();
                let written = match claim.replaces {
                    Some(_) => {
                        self.in_time("update", self.api.replace(&self.name, &parameters, &object)).await
                    }
                    None => self.in_time("create", self.api.create(&parameters, &object)).await,
                };
                match written {
                    Ok(object) => {
                        let record = record(&object);
                        self.last = Some(object);
                        Outcome::Written(record)
                    }
                    // Changed, made or removed by somebody else meanwhile.
                    Err(Some(409 | 404)) => Outcome::Conflict,
                    Err(_) => Outcome::Failed,
                }
            }
            Action::End(lost) => return Err(lost),
        };
        Ok(())
    }

    /// The answer of a call, or the status code of a refusal, if it was one.
    async fn in_time<T>(
        &self,
        verb: &'static str,
        call: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, Option<u16>> {
        let deadline = Instant::now() + CALL;
        let deadline = self.election.leads_until().map_or(deadline, |until| until.min(deadline));
        match tokio::time::timeout_at(deadline.into(), call).await {
            Ok(Ok(answer)) => Ok(answer),
            // A create that finds nothing misses the namespace.
            Ok(Err(kube::Error::Api(status)))
                if status.code == 409 || (status.code == 404 && verb != "create") =>
            {
                Err(Some(status.code))
            }
            Ok(Err(error)) => {
                let error = ApiError::new(verb, IN_ROLES, &self.name, &error);
                tracing::warn!(lease = %self.place(), %error, "the lease cannot be read or written");
                Err(None)
            }
            Err(_) => {
                tracing::warn!(lease = %self.place(), "the API server does not answer about the lease");
                Err(None)
            }
        }
    }

    /// The Lease as we want it: what somebody else put beside the claim stays.
    fn claimed(&self, claim: &Claim) -> Object {
        let now = Some(MicroTime(Timestamp::now()));
        let old = if claim.replaces.is_some() { self.last.clone() } else { None }.unwrap_or_default();
        let mut spec = old.spec.unwrap_or_default();
        if claim.takes_over {
            let transitions = spec.lease_transitions.unwrap_or_default();
            let first = claim.replaces.is_none();
            spec.lease_transitions = Some(if first { 0 } else { transitions.saturating_add(1).max(0) });
            spec.acquire_time.clone_from(&now);
        }
        spec.holder_identity = Some(self.election.identity().to_owned());
        spec.lease_duration_seconds = Some(whole_seconds(self.election.timing().duration));
        spec.renew_time = now;
        let metadata = ObjectMeta { resource_version: claim.replaces.clone(), ..old.metadata };
        Object { metadata: ObjectMeta { name: Some(self.name.clone()), ..metadata }, spec: Some(spec) }
    }

    /// As client-go's `ReleaseOnCancel`: nobody holds it, for a second.
    async fn release(&self) {
        let Ok(Some(mut lease)) = self.in_time("get", self.api.get_opt(&self.name)).await else { return };
        if record(&lease).holder != self.election.identity() {
            return;
        }
        let now = Some(MicroTime(Timestamp::now()));
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(String::new()),
            lease_duration_seconds: Some(1),
            acquire_time: now.clone(),
            renew_time: now,
            ..lease.spec.unwrap_or_default()
        });
        let parameters = PostParams::default();
        let written = self.api.replace(&self.name, &parameters, &lease);
        if self.in_time("update", written).await.is_ok() {
            tracing::info!(lease = %self.place(), "the lease is given back");
        }
    }

    fn place(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// An identity of this process alone: the pod's name for people, and something random.
#[must_use]
pub fn identity(pod: &str) -> String {
    format!("{pod}_{}", uuid::Uuid::now_v7())
}

fn record(lease: &Object) -> Record {
    let spec = lease.spec.clone().unwrap_or_default();
    let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    Record {
        version: lease.metadata.resource_version.clone().unwrap_or_default(),
        holder: spec.holder_identity.unwrap_or_default(),
        duration: seconds.filter(|seconds| *seconds > 0).map(Duration::from_secs),
    }
}

fn whole_seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)
}
