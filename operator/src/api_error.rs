//! What a failed call to the API server means.

use kube::core::Status;

use crate::plan::ChildKind;
use crate::reason::Reason;

/// A call to the API server that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {verb} {object}: {message}")]
pub struct ApiError {
    /// As roles name it.
    pub verb: &'static str,
    /// What was meant: `deployments.apps telemetry`.
    pub object: String,
    /// What the server said, and what to do where we know it.
    pub message: String,
    reason: Reason,
    kind: Failure,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    NotFound,
    AlreadyExists,
    Conflict,
    Other,
}

impl ApiError {
    /// What `error` means for `verb` on `resource` (as roles name it) of this name.
    #[must_use]
    pub fn new(verb: &'static str, resource: &str, name: &str, error: &kube::Error) -> Self {
        let object = if name.is_empty() { resource.to_owned() } else { format!("{resource} {name}") };
        let kube::Error::Api(status) = error else {
            let message = format!("the API server does not answer: {error}");
            return Self { verb, object, message, reason: Reason::ApiError, kind: Failure::Other };
        };
        let (reason, advice) = meaning(status, resource);
        let kind = match status.code {
            404 => Failure::NotFound,
            409 if status.reason == "AlreadyExists" => Failure::AlreadyExists,
            409 => Failure::Conflict,
            _ => Failure::Other,
        };
        let said = if status.message.is_empty() { status.reason.clone() } else { status.message.clone() };
        let message = if advice.is_empty() { said } else { format!("{said}; {advice}") };
        Self { verb, object, message, reason, kind }
    }

    /// As [`ApiError::new`], for a child.
    #[must_use]
    pub fn of_child(verb: &'static str, kind: ChildKind, name: &str, error: &kube::Error) -> Self {
        Self::new(verb, &kind.in_roles(), name, error)
    }

    /// The reason for conditions and metrics.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// Whether the same call may succeed later without a change of the pipeline.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.reason.remedy() != crate::reason::Remedy::Spec
    }

    /// Whether the object, or its kind, is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.kind == Failure::NotFound
    }

    /// Whether an object of that name is there already.
    #[must_use]
    pub fn is_already_exists(&self) -> bool {
        self.kind == Failure::AlreadyExists
    }

    /// Whether the object has changed since it was read.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.kind == Failure::Conflict
    }
}

fn meaning(status: &Status, resource: &str) -> (Reason, &'static str) {
    let has_cause = |cause: &str| {
        status.details.iter().flat_map(|details| &details.causes).any(|found| found.reason == cause)
    };
    match status.code {
        403 if has_cause("NamespaceTerminating") => (Reason::NamespaceTerminating, ""),
        // A quota, or an admission webhook or policy: not our roles.
        403 if status.message.contains("exceeded quota") || status.message.contains("admission webhook") => {
            (Reason::ApiError, "raise the quota, or ask who set the policy")
        }
        401 | 403 => (Reason::ApiForbidden, "the operator's roles lack it: install those of the chart"),
        404 if status.message.contains("could not find the requested resource") => {
            (Reason::CapabilityMissing, "the cluster does not serve this kind")
        }
        404 if status.message.contains("namespaces") => (Reason::NamespaceTerminating, ""),
        422 if resource == "services" && status.message.contains("port is already allocated") => {
            (Reason::PortTaken, "")
        }
        400 | 422 => (Reason::InvalidSpec, "correct the field of the pipeline that this comes from"),
        _ => (Reason::ApiError, ""),
    }
}
