//! The chart as data.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use super::helm::{Helm, NAMESPACE, chart, find, objects, rendered, root, title};

/// All that the chart can make.
const EVERYTHING: [&str; 8] = [
    "--set=replicas=2",
    "--set=metrics.serviceMonitor.enabled=true",
    "--set=metrics.podMonitor.enabled=true",
    "--set=metrics.podMonitor.labels.prometheus=main",
    "--set=allowedBootstrapServers={*.kafka:9092,[::1]:9092}",
    "--set=log.filter=warn\\,penstock_operator=debug",
    "--set=imagePullSecrets[0].name=pull",
    "--set=extraArguments={--one,--two=2}",
];

#[test]
fn lint_finds_nothing() {
    let (helm, chart) = (Helm::new(None), chart());
    helm.ok(&["lint", "--strict", chart.to_str().unwrap()]);
    helm.ok(&["lint", "--strict", chart.to_str().unwrap(), "--set", "watchNamespaces={iot}"]);
}

#[test]
fn the_chart_has_the_version_of_the_workspace() {
    let text = fs::read_to_string(chart().join("Chart.yaml")).unwrap();
    let chart: Value = serde_yaml::from_str(&text).unwrap();
    assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn a_kubernetes_that_is_too_old_is_refused() {
    let (helm, chart) = (Helm::new(None), chart());
    for (version, taken) in [("1.29.9", false), ("1.30.0", true), ("1.36.3-vendor.1", true)] {
        let output = helm.run(&["template", "a", chart.to_str().unwrap(), "--kube-version", version]);
        assert_eq!(output.status.success(), taken, "{version}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Paths of the values that are not objects, in values.yaml and in the schema.
fn paths(value: &Value, schema: &Value, path: &str, out: &mut BTreeSet<String>) {
    let properties = schema["properties"].as_object();
    if schema["additionalProperties"] != false {
        out.insert(path.to_owned());
        return;
    }
    let fields = value.as_object().into_iter().flatten().map(|(name, _)| name);
    let names: BTreeSet<&String> =
        fields.chain(properties.into_iter().flatten().map(|(name, _)| name)).collect();
    for name in names {
        let path = format!("{path}.{name}");
        assert!(properties.is_some_and(|known| known.contains_key(name)), "{path} is not in the schema");
        assert!(path == ".global" || value.get(name).is_some(), "{path} is not in values.yaml");
        let schema = &schema["properties"][name];
        assert!(schema["description"].is_string(), "{path} is not described");
        paths(&value[name], schema, &path, out);
    }
}

#[test]
fn values_and_their_schema_are_the_same() {
    let values: Value =
        serde_yaml::from_str(&fs::read_to_string(chart().join("values.yaml")).unwrap()).unwrap();
    let schema: Value =
        serde_json::from_str(&fs::read_to_string(chart().join("values.schema.json")).unwrap()).unwrap();
    let mut all = BTreeSet::new();
    paths(&values, &schema, "", &mut all);
    assert!(all.len() > 30, "{all:#?}");
}

#[test]
fn values_that_mean_nothing_are_refused() {
    let (helm, chart) = (Helm::new(None), chart());
    for (values, named) in [
        ("watchNamespace={iot}", "watchNamespace"),
        ("image.tags=1", "tags"),
        ("replicas=-1", "replicas"),
        ("replicas=two", "replicas"),
        ("watchNamespaces={Iot}", "watchNamespaces"),
        ("watchNamespaces={iot,iot}", "watchNamespaces"),
        ("allowedBootstrapServers={kafka}", "allowedBootstrapServers"),
        ("image.digest=sha256:123", "digest"),
        ("image.pullPolicy=Sometimes", "pullPolicy"),
        ("maxUpgrades=0", "maxUpgrades"),
        ("log.format=xml", "format"),
        ("metrics.serviceMonitor.interval=often", "interval"),
        ("crds.enabled=perhaps", "enabled"),
        ("serviceAccount.create=false", "serviceAccount.name is needed"),
    ] {
        let arguments =
            ["template", "a", chart.to_str().unwrap(), "--kube-version", "1.30.0", "--set", values];
        let output = helm.run(&arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && error.contains(named), "{values}: {error}");
    }
}

#[test]
fn the_operator_is_told_what_the_values_say() {
    let arguments = |values: &[&str]| -> Vec<String> {
        let objects = rendered(values);
        let deployment = find(&objects, "Deployment/penstock-system/penstock-operator");
        serde_json::from_value(deployment["spec"]["template"]["spec"]["containers"][0]["args"].clone())
            .unwrap()
    };
    let version = env!("CARGO_PKG_VERSION");
    let usual = [
        "run",
        "--log-format=json",
        "--admin-port=9464",
        "--identity=$(POD_NAME)",
        "--lease-namespace=$(POD_NAMESPACE)",
        "--lease-name=penstock-operator",
        &format!("--sidecar-image=penstock-sidecar:{version}"),
        "--max-upgrades=2",
    ];
    assert_eq!(arguments(&[]), usual);
    let digest = format!("sha256:{}", "a".repeat(64));
    let more = arguments(&[
        "--set=watchNamespaces={iot,lab}",
        "--set=allowedBootstrapServers={*.kafka:9092,[::1]:9092}",
        "--set=extraArguments={--one,--two=2}",
        "--set=sidecarImage.repository=registry.example:5000/edge",
        &format!("--set=sidecarImage.digest={digest}"),
    ]);
    assert_eq!(more[6], format!("--sidecar-image=registry.example:5000/edge@{digest}"));
    assert_eq!(
        more[8..],
        [
            "--watch-namespaces=iot,lab",
            "--allowed-bootstrap-servers=*.kafka:9092,[::1]:9092",
            "--one",
            "--two=2"
        ]
    );
}

#[test]
fn two_operators_are_spread_and_evicted_one_by_one() {
    let one: Vec<_> = rendered(&[]).iter().map(title).collect();
    assert!(!one.contains(&"PodDisruptionBudget/penstock-system/penstock-operator".to_owned()));
    let two = rendered(&["--set=replicas=2"]);
    let budget = find(&two, "PodDisruptionBudget/penstock-system/penstock-operator");
    assert_eq!(budget["spec"]["maxUnavailable"], 1);
    let pod = &find(&two, "Deployment/penstock-system/penstock-operator")["spec"]["template"];
    assert_eq!(
        budget["spec"]["selector"]["matchLabels"],
        pod["spec"]["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"]
    );
    for (label, value) in budget["spec"]["selector"]["matchLabels"].as_object().unwrap() {
        assert_eq!(&pod["metadata"]["labels"][label], value);
    }
}

#[test]
fn the_definition_stays_unless_told_otherwise() {
    let title = "CustomResourceDefinition/ingestpipelines.penstock.dev";
    let policy = |values: &[&str]| {
        find(&rendered(values), title)["metadata"]["annotations"]["helm.sh/resource-policy"].clone()
    };
    assert_eq!(policy(&[]), "keep");
    assert_eq!(policy(&["--set=crds.keep=false"]), Value::Null);
    let without = rendered(&["--set=crds.enabled=false"]);
    assert!(without.iter().all(|object| object["kind"] != "CustomResourceDefinition"));
    // What helm made of the template is what the types say.
    let spec = find(&rendered(&[]), title)["spec"].clone();
    assert_eq!(spec, penstock_crds::schema::crd()["spec"]);
}

#[test]
fn monitors_select_the_operator_and_the_edges() {
    let objects = rendered(&EVERYTHING);
    let service = find(&objects, "Service/penstock-system/penstock-operator");
    let monitor = find(&objects, "ServiceMonitor/penstock-system/penstock-operator");
    let pod = &find(&objects, "Deployment/penstock-system/penstock-operator")["spec"]["template"];
    for (label, value) in service["spec"]["selector"].as_object().unwrap() {
        assert_eq!(&pod["metadata"]["labels"][label], value);
    }
    for (label, value) in monitor["spec"]["selector"]["matchLabels"].as_object().unwrap() {
        assert_eq!(&service["metadata"]["labels"][label], value);
    }
    assert_eq!(monitor["spec"]["endpoints"][0]["port"], service["spec"]["ports"][0]["name"]);
    let edges = find(&objects, "PodMonitor/penstock-system/penstock-operator-edges");
    assert_eq!(edges["metadata"]["labels"]["prometheus"], "main");
    assert_eq!(edges["spec"]["podMetricsEndpoints"][0]["port"], penstock_crds::edge::ADMIN_PORT_NAME);
    assert_eq!(edges["spec"]["namespaceSelector"]["any"], true);
    let some = rendered(&["--set=metrics.podMonitor.enabled=true", "--set=watchNamespaces={iot}"]);
    let edges = find(&some, "PodMonitor/penstock-system/penstock-operator-edges");
    assert_eq!(edges["spec"]["namespaceSelector"]["matchNames"][0], "iot");
}

/// The operator's part of `charts/plain`, as the chart has it, without what only helm needs.
fn plain() -> String {
    let text = Helm::new(None).template(&["--set=crds.enabled=false"]);
    let kept = text.lines().filter(|line| {
        let line = line.trim_start();
        !line.starts_with("# Source:")
            && !line.starts_with("app.kubernetes.io/managed-by:")
            && !line.starts_with("helm.sh/chart:")
    });
    let lines: Vec<_> = kept.collect();
    format!("# Written by `make generate` from charts/penstock. Do not edit.\n{}\n", lines.join("\n"))
}

#[test]
fn the_plain_manifests_are_current() {
    let file = root().join("charts/plain/operator.yaml");
    if std::env::var_os("PENSTOCK_UPDATE").is_some() {
        fs::write(&file, plain()).unwrap();
    }
    let found = fs::read_to_string(&file).unwrap_or_default();
    assert!(found == plain(), "charts/plain/operator.yaml is stale: run `make generate`");
    let namespace = fs::read_to_string(root().join("charts/plain/namespace.yaml")).unwrap();
    assert_eq!(objects(&namespace)[0]["metadata"]["name"], NAMESPACE);
}
