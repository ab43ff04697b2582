//! The plan: from a pipeline that is valid to the objects that should exist. Pure; no client, no clock.
//!
//! Objects are JSON as it is sent, with every default of the API server filled in where an item is ours whole, so that
//! what is stored can be compared with what is planned ([`crate::drift`]).

mod access;
pub(crate) mod deployment;
mod pod;
pub(crate) mod scaling;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource;
use kube::core::ApiResource;
use penstock_crds::edge::EdgeConfig;
use penstock_crds::pipeline::IngestPipeline;
use serde_json::{Value, json};

use crate::names::{
    CONFIG_KEY, PIPELINE_LABEL, PLAN_ANNOTATION, config_map as config_map_name, hash, service_account,
};

/// The kinds of children.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChildKind {
    /// The configuration of the sidecars.
    ConfigMap,
    /// Whom the pods run as.
    ServiceAccount,
    /// How senders reach an endpoint.
    Service,
    /// Who may reach the pods.
    NetworkPolicy,
    /// How many pods may be away at once.
    PodDisruptionBudget,
    /// Scales the pods.
    HorizontalPodAutoscaler,
    /// Runs the pods.
    Deployment,
}

impl ChildKind {
    /// All, in the order in which they are written: what pods need comes before pods.
    pub const ALL: [Self; 7] = [
        Self::ConfigMap,
        Self::ServiceAccount,
        Self::Service,
        Self::NetworkPolicy,
        Self::PodDisruptionBudget,
        Self::HorizontalPodAutoscaler,
        Self::Deployment,
    ];

    /// Group, version, kind and plural.
    #[must_use]
    pub fn resource(self) -> ApiResource {
        let (group, version, kind, plural) = match self {
            Self::ConfigMap => ("", "v1", "ConfigMap", "configmaps"),
            Self::ServiceAccount => ("", "v1", "ServiceAccount", "serviceaccounts"),
            Self::Service => ("", "v1", "Service", "services"),
            Self::NetworkPolicy => ("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies"),
            Self::PodDisruptionBudget => ("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets"),
            Self::HorizontalPodAutoscaler => {
                ("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
            }
            Self::Deployment => ("apps", "v1", "Deployment", "deployments"),
        };
        let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
        ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version,
            kind: kind.to_owned(),
            plural: plural.to_owned(),
        }
    }

    /// As roles name it: `deployments.apps`.
    #[must_use]
    pub fn in_roles(self) -> String {
        let ApiResource { group, plural, .. } = self.resource();
        if group.is_empty() { plural } else { format!("{plural}.{group}") }
    }
}

/// An object that should exist.
#[derive(Clone, Debug, PartialEq)]
pub struct Child {
    /// Its kind.
    pub kind: ChildKind,
    /// Its name.
    pub name: String,
    /// What is applied.
    pub body: Value,
    /// The number of replicas that is written when the Deployment is made and never again, unless `body` has one.
    pub replicas_at_creation: Option<i32>,
}

/// All children of a pipeline.
#[derive(Clone, Debug, PartialEq)]
pub struct Children {
    /// The current configuration.
    pub config_map: Child,
    /// Absent where the pipeline names one of its own.
    pub service_account: Option<Child>,
    /// One for each endpoint that is reached from outside the pod.
    pub services: Vec<Child>,
    /// Absent where it is disabled.
    pub network_policy: Option<Child>,
    /// Always.
    pub disruption_budget: Child,
    /// Where the pipeline is scaled.
    pub autoscaler: Option<Child>,
    /// Always.
    pub deployment: Child,
}

impl Children {
    /// In the order of [`ChildKind::ALL`].
    #[must_use]
    pub fn in_order(self) -> Vec<Child> {
        // Without `..`: a new child cannot be forgotten here.
        let Self {
            config_map,
            service_account,
            services,
            network_policy,
            disruption_budget,
            autoscaler,
            deployment,
        } = self;
        let mut all = vec![config_map];
        all.extend(service_account);
        all.extend(services);
        all.extend(network_policy);
        all.push(disruption_budget);
        all.extend(autoscaler);
        all.push(deployment);
        all
    }
}

/// What of the operator goes into a plan.
#[derive(Clone, Debug)]
pub struct Defaults {
    /// The image of the sidecar, where the pipeline names none.
    pub sidecar_image: String,
}

/// A pipeline whose references are there and which resolves.
#[derive(Clone, Debug)]
pub struct Validated<'a> {
    /// As it was admitted.
    pub pipeline: &'a IngestPipeline,
    /// What its sidecars read.
    pub edge: EdgeConfig,
    /// Versions (`uid/resourceVersion`) of the objects that sidecars read at their start only, by `Kind/name`.
    pub versions: BTreeMap<String, String>,
}

/// A plan.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What should exist.
    pub children: Children,
    /// Hash of the configuration.
    pub config_hash: String,
}

/// Makes the plan.
#[must_use]
pub fn plan(validated: &Validated<'_>, defaults: &Defaults) -> Plan {
    let Validated { pipeline, edge, versions } = validated;
    let config = serde_json::to_string(edge).unwrap_or_default();
    let config_hash = hash(config.as_bytes(), 10);
    let owner = Owner::new(pipeline);
    let references_hash = hash(serde_json::to_string(versions).unwrap_or_default().as_bytes(), 10);
    let pods = pod::Pods {
        owner: &owner,
        edge,
        defaults,
        config_hash: &config_hash,
        references_hash: &references_hash,
    };
    let children = Children {
        config_map: config_map(&owner, &config, &config_hash),
        service_account: own_service_account(pipeline).then(|| {
            let name = service_account(&owner.name);
            owner.child(ChildKind::ServiceAccount, name, json!({"automountServiceAccountToken": false}))
        }),
        services: access::services(&owner, edge),
        network_policy: access::network_policy(&owner, edge),
        disruption_budget: scaling::disruption_budget(&owner),
        autoscaler: scaling::autoscaler(&owner),
        deployment: deployment::deployment(&pods),
    };
    Plan { children, config_hash }
}

fn own_service_account(pipeline: &IngestPipeline) -> bool {
    pipeline.spec.edge.as_ref().is_none_or(|edge| edge.service_account_name.is_none())
}

fn config_map(owner: &Owner<'_>, config: &str, config_hash: &str) -> Child {
    let name = config_map_name(&owner.name, config_hash);
    owner.child(ChildKind::ConfigMap, name, json!({"immutable": true, "data": {CONFIG_KEY: config}}))
}

/// The pipeline as owner of its children.
pub(crate) struct Owner<'a> {
    pub(crate) pipeline: &'a IngestPipeline,
    pub(crate) name: String,
    pub(crate) namespace: String,
    reference: OwnerReference,
}

impl<'a> Owner<'a> {
    fn new(pipeline: &'a IngestPipeline) -> Self {
        let meta = &pipeline.metadata;
        let name = meta.name.clone().unwrap_or_default();
        let reference = OwnerReference {
            api_version: IngestPipeline::api_version(&()).into_owned(),
            kind: IngestPipeline::kind(&()).into_owned(),
            name: name.clone(),
            // A manifest that no server has seen has none.
            uid: meta.uid.clone().unwrap_or_else(|| "00000000-0000-0000-0000-000000000000".to_owned()),
            controller: Some(true),
            block_owner_deletion: Some(true),
        };
        let namespace = meta.namespace.clone().unwrap_or_else(|| "default".to_owned());
        Self { pipeline, name, namespace, reference }
    }

    /// The labels of every child. Those of the pipeline are not copied: a GitOps tool tracks by them.
    pub(crate) fn labels(&self) -> BTreeMap<&'static str, String> {
        BTreeMap::from([
            ("app.kubernetes.io/name", "penstock-edge".to_owned()),
            ("app.kubernetes.io/instance", self.name.clone()),
            ("app.kubernetes.io/component", "edge".to_owned()),
            ("app.kubernetes.io/managed-by", "penstock-operator".to_owned()),
            (PIPELINE_LABEL, self.name.clone()),
        ])
    }

    /// What selects the pods.
    pub(crate) fn selector(&self) -> Value {
        json!({PIPELINE_LABEL: self.name})
    }

    /// A child with `rest` beside type and metadata. `rest` may have `metadata.annotations`.
    pub(crate) fn child(&self, kind: ChildKind, name: String, rest: Value) -> Child {
        let resource = kind.resource();
        let mut body = json!({
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": {
                "name": name,
                "namespace": self.namespace,
                "labels": self.labels(),
                "annotations": {},
                "ownerReferences": [self.reference],
            },
        });
        if let (Some(body), Value::Object(rest)) = (body.as_object_mut(), rest) {
            for (key, value) in rest {
                if key == "annotations" {
                    body["metadata"]["annotations"] = value;
                } else {
                    body.insert(key, value);
                }
            }
        }
        let plan_hash = hash(body.to_string().as_bytes(), 16);
        body["metadata"]["annotations"][PLAN_ANNOTATION] = json!(plan_hash);
        Child { kind, name, body, replicas_at_creation: None }
    }
}
