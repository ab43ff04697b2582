//! helm, with folders of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use penstock_e2e::{folder, parts};
use serde_json::Value;
use tempfile::TempDir;

/// The namespace of the operator in these tests.
pub(crate) const NAMESPACE: &str = "penstock-system";

/// The repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// The chart.
pub(crate) fn chart() -> PathBuf {
    root().join("charts/penstock")
}

/// helm, for an API server or for none.
pub(crate) struct Helm {
    folder: TempDir,
    kubeconfig: Option<PathBuf>,
}

impl Helm {
    pub(crate) fn new(kubeconfig: Option<PathBuf>) -> Self {
        Self { folder: folder::fresh("helm-"), kubeconfig }
    }

    /// A folder that goes with this helm.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let home = self.folder.path();
        let mut command = Command::new(parts::file("helm", "helm"));
        command.args(arguments).env("HOME", home);
        for folder in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            command.env(folder, home.join(folder));
        }
        // Without one, helm must not find another.
        command.env("KUBECONFIG", self.kubeconfig.as_deref().unwrap_or(Path::new("/nonexistent")));
        command.output().unwrap()
    }

    #[track_caller]
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "helm {arguments:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The text that the chart becomes with `values` (arguments such as `--set`), as release `penstock`.
    #[track_caller]
    pub(crate) fn template(&self, values: &[&str]) -> String {
        let chart = chart();
        let mut arguments = vec!["template", "penstock", chart.to_str().unwrap(), "--namespace", NAMESPACE];
        // Built from source, helm takes the oldest Kubernetes for granted when it has no server to ask.
        arguments.extend(["--kube-version", "1.30.0"]);
        arguments.extend(values);
        self.ok(&arguments)
    }
}

/// The objects of a text of YAML documents.
#[track_caller]
pub(crate) fn objects(yaml: &str) -> Vec<Value> {
    let documents = serde_yaml::Deserializer::from_str(yaml);
    let values = documents.map(|document| <Value as serde::Deserialize>::deserialize(document).unwrap());
    values.filter(|value| !value.is_null()).collect()
}

/// The objects that the chart becomes.
#[track_caller]
pub(crate) fn rendered(values: &[&str]) -> Vec<Value> {
    objects(&Helm::new(None).template(values))
}

/// `Kind/name` or `Kind/namespace/name` of an object.
pub(crate) fn title(object: &Value) -> String {
    let metadata = &object["metadata"];
    let parts = [&object["kind"], &metadata["namespace"], &metadata["name"]];
    parts.iter().filter_map(|part| part.as_str()).collect::<Vec<_>>().join("/")
}

/// The object of this title.
#[track_caller]
pub(crate) fn find<'o>(objects: &'o [Value], wanted: &str) -> &'o Value {
    objects.iter().find(|object| title(object) == wanted).unwrap_or_else(|| {
        panic!("{wanted} is not among {:#?}", objects.iter().map(title).collect::<Vec<_>>())
    })
}
