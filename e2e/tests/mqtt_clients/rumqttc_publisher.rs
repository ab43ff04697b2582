//! rumqttc as a publisher, in a thread of this process.

use std::collections::{HashMap, VecDeque};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use penstock_e2e::checker::{History, Receipt};
use penstock_e2e::load::wire::Version;
use penstock_e2e::publishers::Script;

/// A client at work.
pub(crate) struct Rumqttc {
    script: Script,
    answers: mpsc::Receiver<Answers>,
}

/// Numbers of acknowledged messages with their receipts, and how often the client was let in.
type Answers = (Vec<(u64, Option<Receipt>)>, u32);

/// How many messages are on the way at once.
const WINDOW: u16 = 50;
/// How many more the client is handed.
const QUEUE: usize = 50;
const RETRY: Duration = Duration::from_millis(100);
const KEEP_ALIVE: Duration = Duration::from_secs(30);

impl Rumqttc {
    pub(crate) fn start(script: Script) -> Self {
        let (sender, answers) = mpsc::channel();
        let own = script.clone();
        thread::spawn(move || {
            let _ = sender.send(match own.version {
                Version::V311 => three(&own),
                Version::V5 => five(&own),
            });
        });
        Self { script, answers }
    }

    #[track_caller]
    pub(crate) fn finish(self, restarts: u32, deadline: Duration) -> History {
        let (answers, connects) = self.answers.recv_timeout(deadline).expect("the client's answers in time");
        self.script.history(answers, connects.max(1 + restarts))
    }
}

/// What of the script is where.
struct Progress<'a> {
    script: &'a Script,
    waiting: VecDeque<u64>,
    /// Handed to the client, in order.
    handed: VecDeque<u64>,
    /// Sent under these packet identifiers.
    sent: HashMap<u16, u64>,
    answered: Vec<(u64, Option<Receipt>)>,
    connects: u32,
    is_connected: bool,
}

impl<'a> Progress<'a> {
    fn new(script: &'a Script) -> Self {
        let waiting = (0..script.count).collect();
        let (handed, sent, answered) = (VecDeque::new(), HashMap::new(), Vec::new());
        Self { script, waiting, handed, sent, answered, connects: 0, is_connected: false }
    }

    /// Hands the client what it takes.
    fn hand(&mut self, publish: impl Fn(String) -> bool) {
        while let Some(&number) = self.waiting.front().filter(|_| self.is_connected) {
            if self.handed.len() >= QUEUE || !publish(self.script.payload(number)) {
                return;
            }
            self.waiting.pop_front();
            self.handed.push_back(number);
        }
    }

    /// The client is let in. Without a session it has thrown away everything that it was handed, so its user has to
    /// send that again.
    fn connected(&mut self, session_present: bool) {
        self.connects += 1;
        self.is_connected = true;
        if !session_present {
            let mut again: Vec<u64> = self.sent.drain().map(|(_, number)| number).collect();
            again.extend(self.handed.drain(..));
            again.sort_unstable();
            for number in again.into_iter().rev() {
                self.waiting.push_front(number);
            }
        }
    }

    /// The connection is lost. What the client is handed now would outlive what it throws away.
    #[expect(clippy::disallowed_methods, reason = "a client that tries again does so now and then")]
    fn lost(&mut self) {
        self.is_connected = false;
        thread::sleep(RETRY);
    }

    /// The client has written a PUBLISH. One that it writes again has its identifier already.
    fn published(&mut self, id: u16) {
        if self.sent.contains_key(&id) {
            return;
        }
        let Some(number) = self.handed.pop_front() else { return };
        if id == 0 {
            self.answered.push((number, None));
        } else {
            self.sent.insert(id, number);
        }
    }

    fn answered(&mut self, id: u16, receipt: Option<Receipt>) {
        if let Some(number) = self.sent.remove(&id) {
            self.answered.push((number, receipt));
        }
    }

    fn is_done(&self) -> bool {
        self.answered.len() as u64 == self.script.count
    }
}

fn three(script: &Script) -> Answers {
    use rumqttc::{Client, Event, MqttOptions, Outgoing, Packet, QoS};
    let name = format!("rumqttc-{}", script.name);
    let mut options = MqttOptions::new(name, script.server.ip().to_string(), script.server.port());
    options.set_clean_session(false).set_inflight(WINDOW).set_keep_alive(KEEP_ALIVE);
    let (client, mut connection) = Client::new(options, QUEUE);
    let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::from(script.qos)];
    let mut progress = Progress::new(script);
    let mut leaving = false;
    loop {
        progress.hand(|payload| client.try_publish(&script.topic, qos, false, payload).is_ok());
        match connection.recv() {
            Ok(Ok(Event::Incoming(Packet::ConnAck(ack)))) => progress.connected(ack.session_present),
            Ok(Ok(Event::Outgoing(Outgoing::Publish(id)))) => progress.published(id),
            Ok(Ok(Event::Incoming(Packet::PubAck(ack)))) => progress.answered(ack.pkid, None),
            Ok(Ok(Event::Incoming(Packet::PubComp(ack)))) => progress.answered(ack.pkid, None),
            Ok(Ok(Event::Outgoing(Outgoing::Disconnect))) | Err(_) => break,
            Ok(Err(_)) if leaving => break,
            Ok(Err(_)) => progress.lost(),
            Ok(Ok(_)) => {}
        }
        if progress.is_done() && !leaving {
            leaving = client.try_disconnect().is_ok();
        }
    }
    (progress.answered, progress.connects)
}

fn five(script: &Script) -> Answers {
    use rumqttc::Outgoing;
    use rumqttc::v5::mqttbytes::QoS;
    use rumqttc::v5::mqttbytes::v5::Packet;
    use rumqttc::v5::{Client, Event, MqttOptions};
    let name = format!("rumqttc-{}", script.name);
    let mut options = MqttOptions::new(name, script.server.ip().to_string(), script.server.port());
    options.set_clean_start(false).set_session_expiry_interval(Some(3_600));
    options.set_outgoing_inflight_upper_limit(WINDOW).set_keep_alive(KEEP_ALIVE);
    let (client, mut connection) = Client::new(options, QUEUE);
    let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::from(script.qos)];
    let mut progress = Progress::new(script);
    let mut leaving = false;
    loop {
        progress.hand(|payload| client.try_publish(&script.topic, qos, false, payload).is_ok());
        match connection.recv() {
            Ok(Ok(Event::Incoming(Packet::ConnAck(ack)))) => progress.connected(ack.session_present),
            Ok(Ok(Event::Outgoing(Outgoing::Publish(id)))) => progress.published(id),
            Ok(Ok(Event::Incoming(Packet::PubAck(ack)))) => {
                let user = ack.properties.map(|properties| properties.user_properties).unwrap_or_default();
                progress.answered(ack.pkid, receipt(&user));
            }
            Ok(Ok(Event::Incoming(Packet::PubComp(ack)))) => progress.answered(ack.pkid, None),
            Ok(Ok(Event::Outgoing(Outgoing::Disconnect))) | Err(_) => break,
            Ok(Err(_)) if leaving => break,
            Ok(Err(_)) => progress.lost(),
            Ok(Ok(_)) => {}
        }
        if progress.is_done() && !leaving {
            leaving = client.try_disconnect().is_ok();
        }
    }
    (progress.answered, progress.connects)
}

fn receipt(user: &[(String, String)]) -> Option<Receipt> {
    let find = |name: &str| user.iter().find(|(found, _)| found == name).map(|(_, value)| value.clone());
    Some(Receipt {
        id: find("id")?,
        topic: find("topic")?,
        partition: find("partition")?.parse().ok()?,
        offset: find("offset").and_then(|offset| offset.parse().ok()),
    })
}
