//! What only the operator acts upon. A sidecar that is given a manifest (`run -f`, `dev -f`) serves it all the same,
//! and says what it leaves undone: nothing is ignored in silence.

use crate::pipeline::{ExposureType, IngestPipeline, Management};
use crate::problem::{Problem, below, element};

/// Fields of the pipeline that a process of its own leaves to the operator, each with what that means.
#[must_use]
pub fn left_to_operator(pipeline: &IngestPipeline) -> Vec<Problem> {
    let spec = &pipeline.spec;
    let mut notes = Vec::new();
    let mut note = |set: bool, path: &str, meaning: &str| {
        if set {
            notes.push(Problem::new(format!("spec.{path}"), "is for the operator", meaning));
        }
    };
    note(
        spec.kafka.admin_authentication.is_some(),
        "kafka.adminAuthentication",
        "topics are not created or changed",
    );
    note(
        spec.delivery.as_ref().is_some_and(|delivery| delivery.require_durable == Some(true)),
        "delivery.requireDurable",
        "whether the brokers' configuration is durable is not judged",
    );
    note(spec.autoscaling.is_some(), "autoscaling", "this process is alone");
    note(spec.network_policy.is_some(), "networkPolicy", "whoever reaches a port may use it");
    note(spec.revision_history_limit.is_some(), "revisionHistoryLimit", "no revisions are kept");
    if let Some(edge) = &spec.edge {
        note(edge.replicas.is_some_and(|replicas| replicas != 1), "edge.replicas", "this process is alone");
        note(
            edge.adapters.as_ref().is_some_and(|list| !list.is_empty()),
            "edge.adapters",
            "start them yourself",
        );
        let pod = [
            (edge.image.is_some(), "edge.image"),
            (edge.resources.is_some(), "edge.resources"),
            (edge.image_pull_secrets.is_some(), "edge.imagePullSecrets"),
            (edge.pod_labels.is_some(), "edge.podLabels"),
            (edge.pod_annotations.is_some(), "edge.podAnnotations"),
            (edge.node_selector.is_some(), "edge.nodeSelector"),
            (edge.tolerations.is_some(), "edge.tolerations"),
            (edge.affinity.is_some(), "edge.affinity"),
            (edge.priority_class_name.is_some(), "edge.priorityClassName"),
            (edge.service_account_name.is_some(), "edge.serviceAccountName"),
        ];
        for (set, path) in pod {
            note(set, path, "there is no pod");
        }
    }
    for (index, topic) in spec.topics.iter().enumerate() {
        let path = element("topics", index);
        let managed = topic.management.is_some_and(|management| management != Management::External);
        note(managed, &below(&path, "management"), "the topic must be there");
        note(topic.config.is_some(), &below(&path, "config"), "the topic keeps the settings that it has");
        note(
            topic.partition_growth.is_some(),
            &below(&path, "partitionGrowth"),
            "the topic keeps its partitions",
        );
        note(topic.deletion_policy.is_some(), &below(&path, "deletionPolicy"), "the topic is never deleted");
    }
    for (index, endpoint) in spec.endpoints.iter().enumerate() {
        let Some(exposure) = &endpoint.exposure else { continue };
        let service = exposure.type_.is_some_and(|kind| kind != ExposureType::Pod)
            || exposure.annotations.is_some()
            || exposure.external_traffic_policy.is_some();
        let path = below(&element("endpoints", index), "exposure");
        note(service, &path, "it listens on all addresses, and there is no Service");
    }
    notes
}
