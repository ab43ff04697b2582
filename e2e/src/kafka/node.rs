//! One Kafka process: its properties, its start, and the ways to hurt it.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::process::Signal;

use super::{Site, TlsFiles, User};
use crate::credentials::Issuer;
use crate::disk::SmallDisk;
use crate::place::Place;
use crate::process::{Owner, run};
use crate::until::START;
use crate::{Balancer, Process, parts};

/// Any valid cluster id will do: clusters of different tests share nothing.
const CLUSTER_ID: &str = "cGVuc3RvY2stZTJlLXRlcw";

/// Brokers and tools of tests are short-lived: the quick compiler and the simple collector start fastest.
const QUICK_JVM: [&str; 3] = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx512m"];
/// A broker that is measured runs as it would in production, with the full compiler.
const STEADY_JVM: [&str; 3] = ["-XX:+UseG1GC", "-Xms1g", "-Xmx1g"];

/// What a node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Combined,
    Controller,
    Broker,
}

/// A broker's file with the keys of [`NodePlan::jwks`].
const JWKS: &str = "jwks.json";
/// Kafka's classes for OAUTHBEARER.
const OAUTH: &str = "org.apache.kafka.common.security.oauthbearer";

/// Everything that goes into a node's properties.
#[derive(Clone)]
pub(super) struct NodePlan {
    pub(super) id: i32,
    pub(super) role: Role,
    pub(super) controller: (i32, u16),
    pub(super) brokers: usize,
    pub(super) min_isr: usize,
    pub(super) auto_create: bool,
    pub(super) steady: bool,
    pub(super) users: Vec<User>,
    pub(super) tls: Option<TlsFiles>,
    /// The keys of an issuer whose tokens are taken.
    pub(super) jwks: Option<String>,
    pub(super) settings: Vec<(String, String)>,
    /// How clients under test reach it, if not at its own address.
    pub(super) road: Option<Arc<Balancer>>,
    pub(super) disk_bytes: Option<u64>,
    pub(super) site: Site,
}

/// A node that can be killed, stopped, continued and started again; ports and data stay.
pub struct Broker {
    name: String,
    folder: PathBuf,
    port: u16,
    sasl_port: u16,
    tls_port: u16,
    steady: bool,
    place: Place,
    process: Mutex<Process>,
    disk: Option<SmallDisk>,
}

impl Broker {
    /// Formats and starts nodes side by side, and waits until each says that it serves.
    #[track_caller]
    pub(super) fn start_all(folder: &Path, plans: Vec<NodePlan>) -> Vec<Broker> {
        let owner = Owner::here();
        let nodes: Vec<_> = plans
            .into_iter()
            .map(|plan| {
                let nth = u16::try_from(plan.id).expect("a small id");
                let (port, sasl_port) = (plan.site.port(9092 + nth), plan.site.port(9192 + nth));
                let tls_port = plan.site.port(9292 + nth);
                let name = format!("kafka-{}", plan.id);
                let home = folder.join(&name);
                let data = home.join("data");
                std::fs::create_dir_all(&data).expect("a folder for the node");
                let disk = plan.disk_bytes.map(|bytes| SmallDisk::mount(&data, bytes));
                let ports =
                    Ports { plain: port, sasl: sasl_port, tls: tls_port, road: plan.site.port(9392 + nth) };
                if let Some(road) = &plan.road {
                    road.serve(vec![SocketAddr::from(([127, 0, 0, 1], ports.road))]);
                }
                let text = properties(&plan, &home, &ports);
                std::fs::write(home.join("server.properties"), text).expect("a properties file");
                if let Some(jwks) = &plan.jwks {
                    std::fs::write(home.join(JWKS), jwks).expect("a key set");
                }
                std::thread::spawn(move || {
                    format(&home, &plan.users);
                    let place = plan.site.place;
                    let process = owner.runs(|| start(&place, &name, &home, plan.steady));
                    Broker {
                        name,
                        folder: home,
                        port,
                        sasl_port,
                        tls_port,
                        steady: plan.steady,
                        place,
                        process: Mutex::new(process),
                        disk,
                    }
                })
            })
            .collect();
        let brokers: Vec<_> = nodes.into_iter().map(|node| node.join().expect("a formatted node")).collect();
        for broker in &brokers {
            broker.wait_until_started(0);
        }
        brokers
    }

    /// Port of the plain listener.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Port of the listener that asks for SASL, if the cluster has users.
    pub(super) fn sasl_port(&self) -> u16 {
        self.sasl_port
    }

    /// Port of the listener that asks for a certificate, if the cluster has TLS.
    pub(super) fn tls_port(&self) -> u16 {
        self.tls_port
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.process.lock().pid()
    }

    /// Its disk, of a cluster with small ones.
    ///
    /// # Panics
    /// When it has none of its own.
    #[track_caller]
    pub fn disk(&self) -> &SmallDisk {
        self.disk.as_ref().expect("a disk of its own")
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub fn wait_ended(&self) {
        self.process.lock().wait_exit_code(START);
    }

    /// SIGKILL.
    pub fn kill(&self) {
        self.process.lock().kill();
    }

    /// SIGSTOP: connections stay up, nothing answers.
    pub fn stop(&self) {
        self.process.lock().stop();
    }

    /// SIGCONT.
    pub fn cont(&self) {
        self.process.lock().signal(Signal::CONT);
    }

    /// Starts it again after [`Broker::kill`], and waits until it serves.
    #[track_caller]
    pub fn restart(&self) {
        let before = {
            let mut process = self.process.lock();
            process.kill();
            let before = process.log().len();
            *process = start(&self.place, &self.name, &self.folder, self.steady);
            before
        };
        self.wait_until_started(before);
    }

    #[track_caller]
    fn wait_until_started(&self, log_before: usize) {
        let mut process = self.process.lock();
        let log = self.folder.join(format!("{}.log", self.name));
        process.until("says that it has started", START, || {
            let text = std::fs::read_to_string(&log).ok()?;
            text.get(log_before..)?.contains("Kafka Server started").then_some(())
        });
    }
}

fn start(place: &Place, name: &str, home: &Path, steady: bool) -> Process {
    let mut arguments = java_arguments(if steady { &STEADY_JVM } else { &QUICK_JVM }, home);
    arguments.extend(["kafka.Kafka".to_owned(), "server.properties".to_owned()]);
    Process::start_in(place, name, home, parts::program("java"), arguments, &[])
}

fn java_arguments(jvm: &[&str], home: &Path) -> Vec<String> {
    let logging = home.join("../log4j2.properties");
    let mut arguments: Vec<String> = jvm.iter().map(|&flag| flag.to_owned()).collect();
    arguments.push(format!("-Dlog4j2.configurationFile={}", logging.display()));
    // Kafka reads keys from nowhere else (KIP-1139).
    let keys = home.join(JWKS);
    arguments.push(format!("-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls=file:{}", keys.display()));
    arguments.push("-cp".to_owned());
    arguments.push(format!("{}/*", parts::file("kafka", "libs").display()));
    arguments
}

/// Runs a command-line class of Kafka's to its end.
#[track_caller]
pub(super) fn tool(place: &Place, class: &str, folder: &Path, arguments: &[String]) -> String {
    let home = folder.join("tools");
    std::fs::create_dir_all(&home).expect("a folder for tools");
    run(place
        .command(parts::program("java"))
        .args(java_arguments(&QUICK_JVM, &home))
        .arg(class)
        .args(arguments))
}

fn format(home: &Path, users: &[User]) {
    let mut command = Command::new(parts::program("java"));
    command.args(java_arguments(&QUICK_JVM, home)).args([
        "kafka.tools.StorageTool",
        "format",
        "-t",
        CLUSTER_ID,
        "-c",
    ]);
    command.arg(home.join("server.properties"));
    for user in users {
        for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
            command.arg("--add-scram");
            command.arg(format!("{mechanism}=[name={},password={}]", user.name, user.password));
        }
    }
    run(&mut command);
}

pub(super) fn write_logging(folder: &Path) {
    let text = "status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{HH:mm:ss.SSS} %p %c{1} %m%n
rootLogger.level = info
rootLogger.appenderRef.out.ref = out
";
    std::fs::write(folder.join("log4j2.properties"), text).expect("a logging configuration");
}

/// The ports of a node's listeners.
struct Ports {
    plain: u16,
    sasl: u16,
    tls: u16,
    road: u16,
}

fn properties(plan: &NodePlan, home: &Path, ports: &Ports) -> String {
    let (controller, controller_port) = plan.controller;
    let address = &plan.site.address;
    let secured = !plan.users.is_empty();
    let mut listeners = Vec::new();
    if plan.role != Role::Controller {
        listeners.push(format!("PLAIN://{address}:{}", ports.plain));
        if secured {
            listeners.push(format!("CLIENTS://{address}:{}", ports.sasl));
        }
        if plan.tls.is_some() {
            listeners.push(format!("MUTUAL://{address}:{}", ports.tls));
        }
        if plan.road.is_some() {
            listeners.push(format!("ROAD://{address}:{}", ports.road));
        }
    }
    if plan.role != Role::Broker {
        listeners.push(format!("CONTROLLER://127.0.0.1:{controller_port}"));
    }
    let roles = match plan.role {
        Role::Combined => "broker,controller",
        Role::Controller => "controller",
        Role::Broker => "broker",
    };
    let replicas = plan.brokers.min(3);
    let mut text = String::new();
    let mut set =
        |key: &str, value: &dyn std::fmt::Display| writeln!(text, "{key}={value}").expect("a string");
    set("process.roles", &roles);
    set("node.id", &plan.id);
    set("controller.quorum.voters", &format!("{controller}@127.0.0.1:{controller_port}"));
    set("listeners", &listeners.join(","));
    if let Some(road) = &plan.road {
        let own = format!("ROAD://{address}:{}", ports.road);
        let advertised = listeners.iter().filter(|listener| !listener.starts_with("CONTROLLER"));
        let advertised: Vec<_> = advertised
            .map(
                |listener| {
                    if *listener == own { format!("ROAD://{}", road.address()) } else { listener.clone() }
                },
            )
            .collect();
        set("advertised.listeners", &advertised.join(","));
    }
    set("controller.listener.names", &"CONTROLLER");
    let sasl = if plan.tls.is_some() { "SASL_SSL" } else { "SASL_PLAINTEXT" };
    set(
        "listener.security.protocol.map",
        &format!("PLAIN:PLAINTEXT,CLIENTS:{sasl},MUTUAL:SSL,ROAD:PLAINTEXT,CONTROLLER:PLAINTEXT"),
    );
    if let Some(TlsFiles { own, ca }) = plan.tls.as_ref().filter(|_| plan.role != Role::Controller) {
        for listener in ["clients", "mutual"] {
            for (kind, file) in [("keystore", own), ("truststore", ca)] {
                set(&format!("listener.name.{listener}.ssl.{kind}.type"), &"PEM");
                set(&format!("listener.name.{listener}.ssl.{kind}.location"), &file.display());
            }
        }
        set("listener.name.mutual.ssl.client.auth", &"required");
    }
    if plan.role != Role::Controller {
        set("inter.broker.listener.name", &"PLAIN");
    }
    set("log.dirs", &home.join("data").display());
    set("num.partitions", &3);
    set("auto.create.topics.enable", &plan.auto_create);
    set("default.replication.factor", &plan.brokers);
    set("min.insync.replicas", &plan.min_isr);
    set("offsets.topic.replication.factor", &replicas);
    set("transaction.state.log.replication.factor", &replicas);
    set("transaction.state.log.min.isr", &replicas.min(2));
    set("group.initial.rebalance.delay.ms", &0);
    // Fail-over in seconds rather than in tens of them.
    set("broker.session.timeout.ms", &3000);
    set("broker.heartbeat.interval.ms", &500);
    set("controller.quorum.election.timeout.ms", &500);
    set("controller.quorum.fetch.timeout.ms", &1000);
    set("replica.lag.time.max.ms", &3000);
    if secured {
        set("authorizer.class.name", &"org.apache.kafka.metadata.authorizer.StandardAuthorizer");
        // The brokers themselves and the harness come by the plain listener.
        set("super.users", &"User:ANONYMOUS");
        if plan.role != Role::Controller {
            let tokens = if plan.jwks.is_some() { ",OAUTHBEARER" } else { "" };
            let mechanisms = format!("PLAIN,SCRAM-SHA-256,SCRAM-SHA-512{tokens}");
            set("listener.name.clients.sasl.enabled.mechanisms", &mechanisms);
            if plan.jwks.is_some() {
                let keys = format!("file:{}", home.join(JWKS).display());
                for (key, value) in [
                    ("sasl.jaas.config", &*format!("{OAUTH}.OAuthBearerLoginModule required;")),
                    (
                        "sasl.server.callback.handler.class",
                        &*format!("{OAUTH}.OAuthBearerValidatorCallbackHandler"),
                    ),
                    ("sasl.oauthbearer.jwks.endpoint.url", &*keys),
                    ("sasl.oauthbearer.expected.audience", Issuer::AUDIENCE),
                    ("sasl.oauthbearer.expected.issuer", Issuer::NAME),
                    // A connection ends with its token, if the client has not shown the next one (KIP-368).
                    ("connections.max.reauth.ms", "3600000"),
                ] {
                    set(&format!("listener.name.clients.oauthbearer.{key}"), &value);
                }
            }
            let users: Vec<_> =
                plan.users.iter().map(|user| format!("user_{}=\"{}\"", user.name, user.password)).collect();
            set(
                "listener.name.clients.plain.sasl.jaas.config",
                &format!(
                    "org.apache.kafka.common.security.plain.PlainLoginModule required {};",
                    users.join(" ")
                ),
            );
            for mechanism in ["scram-sha-256", "scram-sha-512"] {
                set(
                    &format!("listener.name.clients.{mechanism}.sasl.jaas.config"),
                    &"org.apache.kafka.common.security.scram.ScramLoginModule required;",
                );
            }
        }
    }
    for (key, value) in &plan.settings {
        set(key, value);
    }
    text
}
