//! The chart on a real API server (no nodes): admission, authorization, and what helm does over a release's life.

use std::fs;
use std::process::Command;
use std::time::Duration;

use kube::{Api, Client, Config};
use penstock_e2e::{ApiServer, process::run, until};
use penstock_operator::client;
use penstock_operator::lease::{Lease, identity};
use penstock_operator::telemetry::Telemetry;

use super::helm::{Helm, NAMESPACE, chart, root};

const SOON: Duration = Duration::from_secs(30);
const PIPELINE: &str = "ingestpipelines.penstock.dev";
const NAMESPACED: &str = "--set=watchNamespaces={iot,lab}";

/// An API server with the namespaces that the tests use. They warn about pods that are not restricted.
fn start() -> ApiServer {
    let api = ApiServer::start();
    for namespace in [NAMESPACE, "iot", "lab"] {
        api.kubectl(&["create", "namespace", namespace]).expect_ok();
        let labels =
            ["pod-security.kubernetes.io/warn=restricted", "pod-security.kubernetes.io/enforce=restricted"];
        api.kubectl(&["label", "namespace", namespace, labels[0], labels[1]]).expect_ok();
    }
    api
}

fn helm(api: &ApiServer) -> Helm {
    Helm::new(Some(api.kubeconfig()))
}

/// `helm ACTION penstock CHART --namespace … MORE`.
#[track_caller]
fn release(helm: &Helm, action: &str, chart: &std::path::Path, more: &[&str]) -> String {
    let mut arguments = vec![action, "penstock", chart.to_str().unwrap(), "--namespace", NAMESPACE];
    arguments.extend(more);
    helm.ok(&arguments)
}

#[test]
fn the_server_takes_every_object_and_warns_of_none() {
    let api = start();
    let helm = helm(&api);
    let plain = api.kubectl(&["kustomize", root().join("charts/plain").to_str().unwrap()]).expect_ok();
    for (what, yaml) in [
        ("as it is", helm.template(&[])),
        ("two operators", helm.template(&["--set=replicas=2", "--set=log.filter=warn"])),
        ("two namespaces", helm.template(&[NAMESPACED])),
        ("the plain manifests", plain),
    ] {
        let answer = api.kubectl_with(&["apply", "--server-side", "--dry-run=server", "-f", "-"], &yaml);
        assert!(answer.ok, "{what}: {}", answer.err);
        assert!(!answer.err.contains("Warning"), "{what}: {}", answer.err);
    }
    // The warning would come.
    let open = helm
        .template(&["-s", "templates/deployment.yaml"])
        .replace("runAsNonRoot: true", "runAsNonRoot: false");
    let answer = api.kubectl_with(&["apply", "--server-side", "--dry-run=server", "-f", "-"], &open);
    assert!(answer.ok && answer.err.contains("would violate PodSecurity"), "{}", answer.err);
}

#[test]
fn the_notes_tell_the_next_command() {
    let api = start();
    let helm = helm(&api);
    let notes = release(&helm, "install", &chart(), &["--dry-run=server"]);
    for line in [
        "kubectl --namespace penstock-system rollout status deployment/penstock-operator",
        "kubectl --namespace default apply -f pipeline.yaml",
        "kubectl --namespace default wait ipl --all --for=condition=Ready --timeout=3m",
    ] {
        assert!(notes.contains(line), "{line}\n{notes}");
    }
    let notes =
        release(&helm, "install", &chart(), &["--dry-run=server", NAMESPACED, "--set=crds.keep=false"]);
    assert!(
        notes.contains("kubectl --namespace iot apply") && notes.contains("crds.keep is false"),
        "{notes}"
    );
}

/// Whether the operator's account may do it: `VERB RESOURCE`, in a namespace, or in all.
#[track_caller]
fn may(api: &ApiServer, what: &str, namespace: Option<&str>) -> bool {
    let mut arguments = vec!["auth", "can-i", "--as=system:serviceaccount:penstock-system:penstock-operator"];
    match namespace {
        Some(namespace) => arguments.extend(["--namespace", namespace]),
        None => arguments.push("--all-namespaces"),
    }
    arguments.extend(what.split(' '));
    match api.kubectl(&arguments).out.trim() {
        "yes" => true,
        "no" => false,
        other => panic!("{what}: {other}"),
    }
}

#[test]
fn the_server_allows_the_operator_what_the_roles_say() {
    let api = start();
    let helm = helm(&api);
    release(&helm, "install", &chart(), &[]);
    let allowed = [
        ("list ingestpipelines.penstock.dev", None),
        ("patch ingestpipelines.penstock.dev --subresource=status", Some("iot")),
        ("get secrets/a", Some("iot")),
        ("create deployments.apps", Some("iot")),
        ("list pods", None),
        ("get leases.coordination.k8s.io/penstock-operator", Some(NAMESPACE)),
    ];
    let denied = [
        ("list secrets", Some("iot")),
        ("watch secrets", None),
        ("create secrets", Some("iot")),
        ("patch ingestpipelines.penstock.dev", Some("iot")),
        ("delete ingestpipelines.penstock.dev", Some("iot")),
        ("watch pods", None),
        ("create pods", Some("iot")),
        ("create pods --subresource=exec", Some("iot")),
        ("delete pods", Some("iot")),
        ("list nodes", None),
        ("list namespaces", None),
        ("create clusterrolebindings.rbac.authorization.k8s.io", None),
        ("create serviceaccounts --subresource=token", Some("iot")),
        ("get leases.coordination.k8s.io/another", Some(NAMESPACE)),
        ("get leases.coordination.k8s.io/penstock-operator", Some("iot")),
    ];
    for (what, namespace) in allowed {
        assert!(may(&api, what, namespace), "{what} in {namespace:?}");
    }
    for (what, namespace) in denied {
        assert!(!may(&api, what, namespace), "{what} in {namespace:?}");
    }

    release(&helm, "upgrade", &chart(), &[NAMESPACED]);
    assert!(may(&api, "get secrets/a", Some("iot")) && may(&api, "create deployments.apps", Some("lab")));
    for (what, namespace) in
        [("get secrets/a", Some("default")), ("list ingestpipelines.penstock.dev", None), ("list pods", None)]
    {
        assert!(!may(&api, what, namespace), "{what} in {namespace:?}");
    }
}

#[test]
fn the_lease_can_be_held_by_the_rights_of_the_chart() {
    let api = start();
    release(&helm(&api), "install", &chart(), &[]);
    let token = api.kubectl(&["--namespace", NAMESPACE, "create", "token", "penstock-operator"]).expect_ok();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let kubeconfig = kube::config::Kubeconfig::read_from(api.kubeconfig()).unwrap();
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.unwrap();
        config.auth_info = serde_json::from_value(serde_json::json!({"token": token.trim()})).unwrap();
        let client: Client = client::connect(config, &Telemetry::default()).unwrap();
        // It is who we think it is.
        let maps: Api<k8s_openapi::api::core::v1::Secret> = Api::namespaced(client.clone(), "iot");
        assert!(maps.list(&Default::default()).await.unwrap_err().to_string().contains("penstock-operator"));
        for turn in 0..2 {
            let mut lease = Lease::new(client.clone(), NAMESPACE, "penstock-operator", &identity("operator"));
            let led = tokio::time::timeout(Duration::from_secs(5), lease.acquire()).await;
            assert!(led.is_ok(), "turn {turn}");
            lease.hold(std::future::ready(())).await.unwrap();
        }
    });
}

#[test]
fn an_upgrade_serves_new_fields_and_an_uninstall_leaves_pipelines() {
    let api = start();
    let helm = helm(&api);
    // The chart as it was before `spec.revisionHistoryLimit`.
    let old = helm.folder().join("old");
    run(Command::new("cp").arg("-r").arg(chart()).arg(&old));
    let definition = old.join("templates/ingestpipelines.yaml");
    let text = fs::read_to_string(&definition).unwrap();
    let (head, rest) = text.split_once("              revisionHistoryLimit:\n").unwrap();
    let end = rest
        .split_inclusive('\n')
        .take_while(|line| line.starts_with("                "))
        .map(str::len)
        .sum();
    fs::write(&definition, format!("{head}{}", &rest[end..])).unwrap();

    release(&helm, "install", &old, &[]);
    until("pipelines are served", SOON, || api.kubectl(&["get", "ipl"]).ok.then_some(()));
    let quickstart = root().join("docs/examples/quickstart.yaml");
    api.kubectl(&["--namespace", "iot", "create", "-f", quickstart.to_str().unwrap()]).expect_ok();
    let get = |path: &str| {
        api.kubectl(&[
            "--namespace",
            "iot",
            "get",
            "ipl",
            "quickstart",
            "-o",
            &format!("jsonpath={{{path}}}"),
        ])
        .expect_ok()
    };
    // A server that does not know the field drops it.
    let taken = || {
        let patch = r#"{"spec":{"revisionHistoryLimit":5}}"#;
        let patched = ["--namespace", "iot", "patch", "ipl", "quickstart", "--type=merge", "-p", patch];
        api.kubectl(&patched).expect_ok();
        get(".spec.revisionHistoryLimit") == "5"
    };
    let before = get(".metadata.uid");
    assert!(!taken());

    release(&helm, "upgrade", &chart(), &[]);
    until("the new field is served", SOON, || taken().then_some(()));
    assert_eq!(get(".metadata.uid"), before);

    helm.ok(&["uninstall", "penstock", "--namespace", NAMESPACE]);
    assert_eq!(get(".metadata.uid"), before);
    // And it can come back.
    release(&helm, "install", &chart(), &[]);
    assert_eq!(get(".metadata.uid"), before);

    release(&helm, "upgrade", &chart(), &["--set=crds.keep=false"]);
    helm.ok(&["uninstall", "penstock", "--namespace", NAMESPACE]);
    until("the definition is gone", SOON, || (!api.kubectl(&["get", "crd", PIPELINE]).ok).then_some(()));
}

#[test]
fn a_definition_of_somebody_else_is_refused_until_it_is_given_to_the_release() {
    let api = start();
    let helm = helm(&api);
    api.kubectl(&["apply", "--server-side", "-k", root().join("crds").to_str().unwrap()]).expect_ok();
    let chart = chart();
    let install = ["install", "penstock", chart.to_str().unwrap(), "--namespace", NAMESPACE];
    let refused = helm.run(&install);
    let error = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && error.contains("cannot be imported"), "{error}");

    // As docs/install.md says.
    let page = fs::read_to_string(root().join("docs/install.md")).unwrap();
    let (_, commands) = page.split_once("or give it to the release:\n\n```sh\n").unwrap();
    let (commands, _) = commands.split_once("```").unwrap();
    for command in commands.replace("\\\n", " ").lines() {
        let words: Vec<_> = command.split_whitespace().collect();
        assert_eq!(words[0], "kubectl");
        api.kubectl(&words[1..]).expect_ok();
    }
    helm.ok(&install);
}
