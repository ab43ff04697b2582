//! What the chart lets whom do. This list is the other half of docs/rbac.md.

use std::collections::BTreeSet;

use serde_json::Value;

use super::helm::{find, rendered, title};

/// One right: API group, resource, verb.
type Right = (String, String, String);

/// What the operator may do where pipelines are: group, resources, verbs.
const OPERATOR: [(&str, &str, &str); 12] = [
    ("penstock.dev", "ingestpipelines", "get list watch"),
    ("penstock.dev", "ingestpipelines/status", "patch"),
    ("penstock.dev", "ingestpipelines/finalizers", "update"),
    ("", "secrets", "get"),
    ("", "configmaps services serviceaccounts", "get list watch create patch delete"),
    ("apps", "deployments", "get list watch create patch delete"),
    ("policy", "poddisruptionbudgets", "get list watch create patch delete"),
    ("networking.k8s.io", "networkpolicies", "get list watch create patch delete"),
    ("autoscaling", "horizontalpodautoscalers", "get list watch create patch delete"),
    ("", "pods", "list"),
    ("apps", "replicasets", "list"),
    ("events.k8s.io", "events", "create patch"),
];
const VIEW: [(&str, &str, &str); 2] = [
    ("penstock.dev", "ingestpipelines", "get list watch"),
    ("penstock.dev", "ingestpipelines/status ingestpipelines/scale", "get"),
];
const EDIT: [(&str, &str, &str); 2] = [
    ("penstock.dev", "ingestpipelines", "create update patch delete deletecollection"),
    ("penstock.dev", "ingestpipelines/scale", "update patch"),
];

fn expected(list: &[(&str, &str, &str)]) -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for (group, resources, verbs) in list {
        for resource in resources.split(' ') {
            for verb in verbs.split(' ') {
                rights.insert(((*group).to_owned(), resource.to_owned(), verb.to_owned()));
            }
        }
    }
    rights
}

/// The rights of a role without resourceNames.
fn rights(role: &Value) -> BTreeSet<Right> {
    let list = |value: &Value| -> Vec<String> { serde_json::from_value(value.clone()).unwrap() };
    let mut rights = BTreeSet::new();
    for rule in role["rules"].as_array().unwrap() {
        assert_eq!(rule.as_object().unwrap().len(), 3, "{rule}");
        for group in list(&rule["apiGroups"]) {
            for resource in list(&rule["resources"]) {
                for verb in list(&rule["verbs"]) {
                    rights.insert((group.clone(), resource.clone(), verb));
                }
            }
        }
    }
    rights
}

fn roles(objects: &[Value]) -> BTreeSet<String> {
    let roles = objects.iter().filter(|object| {
        let kind = object["kind"].as_str().unwrap();
        kind.ends_with("Role") || kind.ends_with("RoleBinding")
    });
    roles.map(title).collect()
}

fn set(titles: &[&str]) -> BTreeSet<String> {
    titles.iter().map(|title| (*title).to_owned()).collect()
}

#[track_caller]
fn assert_binds(objects: &[Value], binding: &str, role: &str) {
    let binding = find(objects, binding);
    let (kind, name) = role.split_once('/').unwrap();
    assert_eq!(binding["roleRef"]["kind"], kind);
    assert_eq!(binding["roleRef"]["name"], name);
    let subjects = serde_json::json!([
        {"kind": "ServiceAccount", "name": "penstock-operator", "namespace": "penstock-system"}
    ]);
    assert_eq!(binding["subjects"], subjects);
}

#[test]
fn the_operator_may_do_what_it_needs_and_nothing_else() {
    let objects = rendered(&[]);
    let all = [
        "ClusterRole/penstock-operator",
        "ClusterRole/penstock-operator-edit",
        "ClusterRole/penstock-operator-view",
        "ClusterRoleBinding/penstock-operator",
        "Role/penstock-system/penstock-operator-lease",
        "RoleBinding/penstock-system/penstock-operator-lease",
    ];
    assert_eq!(roles(&objects), set(&all));
    assert_eq!(rights(find(&objects, "ClusterRole/penstock-operator")), expected(&OPERATOR));
    assert_binds(&objects, "ClusterRoleBinding/penstock-operator", "ClusterRole/penstock-operator");
    assert_binds(
        &objects,
        "RoleBinding/penstock-system/penstock-operator-lease",
        "Role/penstock-operator-lease",
    );
    let lease = &find(&objects, "Role/penstock-system/penstock-operator-lease")["rules"];
    let rules = serde_json::json!([
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]},
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"],
         "resourceNames": ["penstock-operator"], "verbs": ["get", "update"]},
    ]);
    assert_eq!(lease, &rules);
}

#[test]
fn with_namespaces_there_are_roles_only() {
    let values =
        ["--set=watchNamespaces={iot,lab}", "--set=rbac.aggregate=false", "--set=crds.enabled=false"];
    let objects = rendered(&values);
    let all = [
        "Role/iot/penstock-operator",
        "Role/lab/penstock-operator",
        "Role/penstock-system/penstock-operator-lease",
        "RoleBinding/iot/penstock-operator",
        "RoleBinding/lab/penstock-operator",
        "RoleBinding/penstock-system/penstock-operator-lease",
    ];
    assert_eq!(roles(&objects), set(&all));
    for namespace in ["iot", "lab"] {
        let role = find(&objects, &format!("Role/{namespace}/penstock-operator"));
        assert_eq!(rights(role), expected(&OPERATOR));
        assert_binds(
            &objects,
            &format!("RoleBinding/{namespace}/penstock-operator"),
            "Role/penstock-operator",
        );
    }
    // Nothing at all is of the whole cluster.
    for object in &objects {
        assert!(object["metadata"]["namespace"].is_string(), "{}", title(object));
    }
}

#[test]
fn whoever_views_sees_pipelines_and_only_editors_and_admins_change_them() {
    let objects = rendered(&[]);
    let aggregates = |role: &Value| -> BTreeSet<String> {
        let labels = role["metadata"]["labels"].as_object().unwrap();
        let of = labels.iter().filter(|(_, value)| *value == "true");
        of.filter_map(|(label, _)| label.strip_prefix("rbac.authorization.k8s.io/aggregate-to-"))
            .map(str::to_owned)
            .collect()
    };
    let view = find(&objects, "ClusterRole/penstock-operator-view");
    assert_eq!(rights(view), expected(&VIEW));
    assert_eq!(aggregates(view), set(&["view"]));
    let edit = find(&objects, "ClusterRole/penstock-operator-edit");
    assert_eq!(rights(edit), expected(&EDIT));
    assert_eq!(aggregates(edit), set(&["admin", "edit"]));
    assert!(aggregates(find(&objects, "ClusterRole/penstock-operator")).is_empty());
}

#[test]
fn roles_can_be_left_to_others() {
    let objects = rendered(&["--set=rbac.create=false", "--set=rbac.aggregate=false"]);
    assert!(roles(&objects).is_empty());
    let own = rendered(&["--set=serviceAccount.create=false", "--set=serviceAccount.name=mine"]);
    assert!(own.iter().all(|object| object["kind"] != "ServiceAccount"));
    let deployment = find(&own, "Deployment/penstock-system/penstock-operator");
    assert_eq!(deployment["spec"]["template"]["spec"]["serviceAccountName"], "mine");
    assert_eq!(find(&own, "ClusterRoleBinding/penstock-operator")["subjects"][0]["name"], "mine");
}
