//! What an operator of a cluster does to it under load: moves leaders and replicas, sets quotas and rights.

use super::{Kafka, node};

impl Kafka {
    /// Has each partition led by another broker: `replicas` are the replicas of every partition, the leader that is
    /// preferred first.
    #[track_caller]
    pub fn place(&self, topic: &str, partitions: usize, replicas: &[usize]) {
        let list = replicas.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let moves: Vec<_> = (0..partitions)
            .map(|partition| format!(r#"{{"topic":"{topic}","partition":{partition},"replicas":[{list}]}}"#))
            .collect();
        let plan = self.folder.path().join("moves.json");
        std::fs::write(&plan, format!(r#"{{"version":1,"partitions":[{}]}}"#, moves.join(",")))
            .expect("a plan");
        let plan = plan.display().to_string();
        self.tool("reassign.ReassignPartitionsCommand", &["--execute", "--reassignment-json-file", &plan]);
    }

    /// Has every partition led by the first of its replicas.
    #[track_caller]
    pub fn elect_preferred_leaders(&self) {
        self.tool("LeaderElectionCommand", &["--election-type", "preferred", "--all-topic-partitions"]);
    }

    /// Lets each client write so many bytes a second to a broker (KIP-13); none is no limit.
    #[track_caller]
    pub fn limit_producers(&self, bytes_per_second: Option<u32>) {
        let limit = bytes_per_second.map(|bytes| format!("producer_byte_rate={bytes}"));
        let change = match &limit {
            Some(limit) => ["--add-config", limit],
            None => ["--delete-config", "producer_byte_rate"],
        };
        let entity = ["--alter", "--entity-type", "clients", "--entity-default"];
        let arguments: Vec<_> = entity.into_iter().chain(change).collect();
        node::tool(
            &self.site.place,
            "kafka.admin.ConfigCommand",
            self.folder.path(),
            &self.on_bootstrap(&arguments),
        );
    }

    /// Lets a user do `operations` (`Write`, `Describe`, …) on a topic.
    #[track_caller]
    pub fn allow(&self, user: &str, operations: &[&str], topic: &str) {
        let principal = format!("User:{user}");
        let mut arguments = vec!["--add", "--allow-principal", &principal, "--topic", topic];
        operations.iter().for_each(|&operation| arguments.extend(["--operation", operation]));
        self.tool("AclCommand", &arguments);
    }

    /// Forbids everybody to write to a topic, or no longer.
    #[track_caller]
    pub fn forbid_writing(&self, topic: &str, forbidden: bool) {
        let change: &[&str] = if forbidden { &["--add"] } else { &["--remove", "--force"] };
        let acl = ["--deny-principal", "User:*", "--operation", "Write", "--topic", topic];
        self.tool("AclCommand", &[change, &acl].concat());
    }

    #[track_caller]
    fn tool(&self, class: &str, arguments: &[&str]) {
        let class = format!("org.apache.kafka.tools.{class}");
        node::tool(&self.site.place, &class, self.folder.path(), &self.on_bootstrap(arguments));
    }

    fn on_bootstrap(&self, arguments: &[&str]) -> Vec<String> {
        let server = ["--bootstrap-server", self.admin.bootstrap()];
        server.iter().chain(arguments).map(|&argument| argument.to_owned()).collect()
    }
}
