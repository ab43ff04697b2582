//! The harness's own cluster works: a real node, pods, names, Services, images, Kafka by name, and nothing left behind.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use penstock_e2e::checker::check;
use penstock_e2e::load::Plan;
use penstock_e2e::load::wire::Version;
use penstock_e2e::process::run;
use penstock_e2e::until::SOON;
use penstock_e2e::{Cluster, Image, Kafka, Pipeline, folder, sidecar, until};
use serde_json::json;

const BUSYBOX: &str = "penstock.local/busybox:1";
const SIDECAR: &str = "penstock.local/sidecar:test";

/// A pod that Pod Security `restricted` admits, in the namespace `iot`.
fn pod(name: &str, image: &str, command: &[&str]) -> String {
    let field = if image == SIDECAR { "args" } else { "command" };
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: iot, labels: {{app: {name}}}}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  automountServiceAccountToken: false
  securityContext: {{runAsNonRoot: true, seccompProfile: {{type: RuntimeDefault}}}}
  containers:
    - name: main
      image: {image}
      imagePullPolicy: Never
      {field}: {command:?}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: {{drop: [ALL]}}
"
    )
}

/// Runs a shell script in a pod to its end and returns what it wrote.
fn run_in_pod(cluster: &Cluster, name: &str, script: &str) -> String {
    cluster.apply(&pod(name, BUSYBOX, &["sh", "-c", script]));
    let phase = cluster.wait_pod_end("iot", name);
    let text = cluster.kubectl(&["logs", "-n", "iot", name]).expect_ok();
    assert_eq!(phase, "Succeeded", "{name}: {text}");
    text
}

#[test]
fn a_cluster_runs_pods_that_find_services_and_kafka_by_name() {
    let cluster = Cluster::start();
    let nodes = cluster.kubectl(&["get", "nodes", "--no-headers"]).expect_ok();
    assert!(nodes.contains(" Ready ") && nodes.contains("v1.36.3"), "{nodes}");
    cluster.load_image(BUSYBOX, &Image::busybox());
    cluster.create_namespace("iot");

    // A Service through kube-proxy, by its name, from a pod and from the harness.
    let serve = "mkdir /tmp/w; cd /tmp/w; echo hello >index.html; exec httpd -f -p 8080";
    let server = pod("web", BUSYBOX, &["sh", "-c", serve])
        .replace("  containers:\n", "  volumes: [{name: tmp, emptyDir: {}}]\n  containers:\n")
        .replace(
            "      imagePullPolicy",
            "      volumeMounts: [{name: tmp, mountPath: /tmp}]\n      imagePullPolicy",
        );
    cluster.apply(&server);
    cluster.kubectl(&["expose", "pod", "web", "-n", "iot", "--port=80", "--target-port=8080"]).expect_ok();
    cluster.kubectl(&["wait", "-n", "iot", "--for=condition=Ready", "--timeout=60s", "pod/web"]).expect_ok();
    let fetch = "wget -q -O - http://web/ && wget -q -O - http://web.iot.svc/";
    assert_eq!(run_in_pod(&cluster, "client", fetch), "hello\nhello\n");
    let fetched =
        cluster.command("curl").args(["--silent", "--fail", "http://web.iot.svc/"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&fetched.stdout), "hello\n");

    let who = cluster.kubectl(&["exec", "-n", "iot", "web", "--", "id", "-u"]).expect_ok();
    assert_eq!(who.trim(), "65532");

    // Kafka, from a pod by its name and from the harness.
    let kafka = cluster.kafka(Kafka::single());
    assert_eq!(kafka.bootstrap(), "kafka.kafka.svc:9092");
    run_in_pod(&cluster, "kafka-client", "nc -w 5 kafka.kafka.svc 9092 </dev/null");
    let topic = kafka.create_topic("telemetry", 3);
    assert_eq!(kafka.read(&topic), []);

    // The image of the sidecar has all that the program needs.
    cluster.load_image(SIDECAR, &Image::of_program(&sidecar::binary()));
    cluster.apply(&pod("sidecar", SIDECAR, &["--help"]));
    let phase = cluster.wait_pod_end("iot", "sidecar");
    let text = cluster.kubectl(&["logs", "-n", "iot", "sidecar"]).expect_ok();
    assert_eq!(phase, "Succeeded", "{text}");
    assert!(text.contains("Usage: penstock-sidecar"), "{text}");

    // The namespace refuses a pod that is not restricted.
    let root = pod("root", BUSYBOX, &["id"]).replace("runAsNonRoot: true", "runAsUser: 0");
    let refused = cluster.kubectl_with(&["apply", "-f", "-"], &root);
    assert!(!refused.ok && refused.err.contains("PodSecurity"), "{}", refused.err);
}

#[test]
fn a_sidecar_in_a_pod_acknowledges_what_kafka_has() {
    let cluster = Cluster::start();
    cluster.load_image(SIDECAR, &Image::of_program(&sidecar::binary()));
    cluster.create_namespace("iot");
    let kafka = cluster.kafka(Kafka::single());
    let topic = kafka.create_topic("telemetry", 3);
    let pipeline = Pipeline::telemetry(&kafka, &topic)
        .set("/spec/endpoints/0/port", 1883)
        .set("/spec/endpoints/1/port", 8080);
    let configuration = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "edge", "namespace": "iot"},
        "data": {"pipeline.yaml": pipeline.to_string()},
    });
    cluster.apply(&configuration.to_string());
    let arguments = ["run", "-f", "/etc/edge/pipeline.yaml", "--admin", "0.0.0.0:9600"];
    let edge = pod("edge", SIDECAR, &arguments)
        .replace("  containers:\n", "  volumes: [{name: edge, configMap: {name: edge}}]\n  containers:\n")
        .replace(
            "      imagePullPolicy",
            "      volumeMounts: [{name: edge, mountPath: /etc/edge}]
      readinessProbe: {httpGet: {path: /readyz, port: 9600}, periodSeconds: 1}
      imagePullPolicy",
        );
    cluster.apply(&edge);
    for port in ["1883", "8080"] {
        let name = format!("--name=edge-{port}");
        cluster.kubectl(&["expose", "pod", "edge", "-n", "iot", "--port", port, &name]).expect_ok();
    }
    cluster.kubectl(&["wait", "-n", "iot", "--for=condition=Ready", "--timeout=60s", "pod/edge"]).expect_ok();

    // Services take a moment to reach an endpoint that is new; both generators reconnect.
    let mqtt = Plan::mqtt(cluster.service("iot", "edge-1883", 1883), Version::V5).within(cluster.place());
    let mqtt = mqtt.messages(50).start();
    let http = Plan::http(cluster.service("iot", "edge-8080", 8080)).within(cluster.place());
    let http = http.messages(50).start();
    let mut history = mqtt.complete(Duration::from_secs(60));
    history.merge(http.complete(Duration::from_secs(60)));
    let records = kafka.read(&topic);
    assert!(records.len() >= 400, "{}", records.len());
    check(&history, &records).assert_kept();
}

#[test]
fn an_image_holds_one_program_its_shared_objects_and_certificates_as_the_containerfiles_say() {
    let program = sidecar::binary();
    let image = Image::of_program(&program);
    let held: BTreeSet<_> = image.paths().map(str::to_owned).collect();
    let other = |path: &&String| !path.starts_with("/lib");
    let rest: Vec<_> = held.iter().filter(other).collect();
    assert_eq!(rest, ["/bin/penstock-sidecar", "/etc/ssl/certs/ca-certificates.crt"]);

    let folder = folder::fresh("layout-");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../images/layout.sh");
    run(Command::new(script).arg(&program).arg(folder.path()));
    let listed = run(Command::new("find").args([".", "-type", "f"]).current_dir(folder.path()));
    let laid_out: BTreeSet<_> = listed.lines().map(|path| path.trim_start_matches('.').to_owned()).collect();
    assert_eq!(held, laid_out);
}

#[test]
fn a_cluster_ends_with_the_process_that_holds_it() {
    let mut holder = Command::new(env!("CARGO_BIN_EXE_cluster")).stdout(Stdio::piped()).spawn().unwrap();
    let own = format!("/penstock-e2e/{}/", holder.id());
    let mut lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    let said = lines.next().unwrap().unwrap();
    assert!(said.contains("Ready"), "{said}");
    assert!(processes_of(&own) > 5, "the check below would see nothing");
    holder.kill().unwrap();
    holder.wait().unwrap();
    until("every process of the cluster is gone", SOON, || (processes_of(&own) == 0).then_some(()));
}

#[test]
fn two_clusters_do_not_meet_and_leave_nothing() {
    let (first, second) = (Cluster::start(), Cluster::start());
    let folders = [&first, &second].map(folder_of);
    let names = [&first, &second].map(|cluster| cluster.name().to_owned());
    assert!(names.iter().all(|name| cgroups().contains(name)), "the check below would see nothing");
    for (cluster, name) in [(&first, "one"), (&second, "two")] {
        cluster.load_image(BUSYBOX, &Image::busybox());
        cluster.create_namespace("iot");
        cluster.apply(&pod(name, BUSYBOX, &["sleep", "3600"]));
    }
    for (cluster, name) in [(&first, "one"), (&second, "two")] {
        let ready = ["wait", "-n", "iot", "--for=condition=Ready", "--timeout=60s", &format!("pod/{name}")];
        cluster.kubectl(&ready).expect_ok();
        let pods = cluster.kubectl(&["get", "pods", "-n", "iot", "-o", "name"]).expect_ok();
        assert_eq!(pods.trim(), format!("pod/{name}"));
    }
    assert!(folders.iter().all(|folder| processes_of(folder) > 5), "the check below would see nothing");
    drop(first);
    assert_eq!(processes_of(&folders[0]), 0);
    // The other one has lost neither its containers nor its node.
    let said = second.kubectl(&["exec", "-n", "iot", "two", "--", "echo", "alive"]).expect_ok();
    assert_eq!(said, "alive\n");
    drop(second);
    for folder in &folders {
        assert_eq!(processes_of(folder), 0);
        assert!(!Path::new(folder).exists());
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!folders.iter().any(|folder| mounts.contains(folder.as_str())), "{mounts}");
    let left: Vec<_> = cgroups().into_iter().filter(|group| names.contains(group)).collect();
    assert_eq!(left, [""; 0], "control groups are left");
}

#[test]
fn metrics_server_measures_pods_and_helm_talks_to_the_cluster() {
    let cluster = Cluster::start();
    cluster.metrics_server();
    let nodes = cluster.kubectl(&["top", "nodes", "--no-headers"]).expect_ok();
    assert!(nodes.contains("edge-1"), "{nodes}");
    let list = cluster.helm(&["list", "--all-namespaces"]).expect_ok();
    assert!(list.contains("NAMESPACE"), "{list}");
}

/// The folder of a cluster: every process of it has it on its command line or works in it.
fn folder_of(cluster: &Cluster) -> String {
    let folder = cluster.kubeconfig().ancestors().nth(2).unwrap_or(Path::new("/"));
    folder.display().to_string()
}

/// How many processes of this machine have a folder on their command line, or work in it.
fn processes_of(folder: &str) -> usize {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path());
    entries
        .filter(|process| {
            let line = std::fs::read(process.join("cmdline")).unwrap_or_default();
            let cwd = std::fs::read_link(process.join("cwd")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(folder) || cwd.to_string_lossy().contains(folder)
        })
        .count()
}

/// Names of control groups at the top of each hierarchy.
fn cgroups() -> Vec<String> {
    let names = |folder: &Path| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect::<Vec<_>>()
    };
    let root = Path::new("/sys/fs/cgroup");
    names(root).iter().flat_map(|name| names(&root.join(name))).chain(names(root)).collect()
}
