//! stub for compiling until the real one is merged
#![allow(missing_docs, unused, clippy::all, clippy::pedantic)]
use crate::{finding::Finding, reason::Reason};
use k8s_openapi::api::core::v1::Secret;
use penstock_crds::pipeline::*;
use std::collections::{BTreeMap, BTreeSet};
#[derive(Clone, Debug)]
pub struct Access;
impl Access {
    pub fn new(_: &str, _: &Kafka, _: &[Secret]) -> Result<Self, KafkaError> {
        Ok(Self)
    }
    pub fn key(&self) -> String {
        String::new()
    }
}
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("no")]
pub struct KafkaError;
impl KafkaError {
    pub fn reason(&self) -> Reason {
        Reason::KafkaUnreachable
    }
}
#[derive(Clone, Debug, Default)]
pub struct AllowedServers;
impl AllowedServers {
    pub fn new(_: Vec<ServerPattern>) -> Self {
        Self
    }
}
#[derive(Clone, Debug)]
pub struct ServerPattern;
impl std::str::FromStr for ServerPattern {
    type Err = String;
    fn from_str(_: &str) -> Result<Self, String> {
        Ok(Self)
    }
}
#[derive(Clone)]
pub struct Clusters;
impl Clusters {
    pub fn new(_: AllowedServers) -> Self {
        Self
    }
    pub async fn look(&self, _: &Access, _: &BTreeSet<String>) -> Result<Seen, KafkaError> {
        Ok(Seen { cluster_id: "c".into() })
    }
    pub async fn finish(&self, _: &Access, _: &Wanted<'_>, d: &Decision) -> Result<Decision, KafkaError> {
        Ok(d.clone())
    }
}
pub struct Seen {
    pub cluster_id: String,
}
pub struct Wanted<'a> {
    pub topics: &'a [TopicSpec],
    pub recorded: &'a [TopicStatus],
    pub adopt: bool,
    pub lost: &'a BTreeSet<String>,
}
pub type Failures = BTreeMap<String, KafkaError>;
pub fn names(_: &Wanted) -> BTreeSet<String> {
    BTreeSet::new()
}
pub fn decide(_: &Wanted, _: &Seen, _: &Failures) -> Decision {
    Decision {
        steps: vec![],
        topics: vec![],
        ready: Finding::holds(Reason::AsDeclared, "ok"),
        durable: Finding::holds(Reason::Replicated, "ok"),
    }
}
#[derive(Clone)]
pub struct Step;
#[derive(Clone)]
pub struct Decision {
    pub steps: Vec<Step>,
    pub topics: Vec<TopicStatus>,
    pub ready: Finding,
    pub durable: Finding,
}
#[derive(Clone)]
pub struct Contender;
impl Contender {
    pub fn of(_: &IngestPipeline) -> Option<Self> {
        None
    }
}
#[derive(Default)]
pub struct Claims;
impl Claims {
    pub fn observed(&mut self, _: &Contender, _: &str) -> bool {
        false
    }
    pub fn lost(&self, _: &Contender, _: &[Contender]) -> BTreeSet<String> {
        BTreeSet::new()
    }
    pub fn rivals(&self, _: &Contender, _: &[Contender]) -> Vec<(String, String)> {
        vec![]
    }
    pub fn forget(&mut self, _: &str) {}
}
