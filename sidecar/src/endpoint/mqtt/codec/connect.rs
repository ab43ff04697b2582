//! CONNECT (§3.1).

use super::properties::{Place, Properties, Property};
use super::reader::Reader;
use super::{Malformed, PacketType, Reason, Version};

/// A CONNECT.
pub struct Connect<'a> {
    /// Protocol level.
    pub version: Version,
    /// Clean Start, or `CleanSession` in 3.1.1.
    pub clean_start: bool,
    /// Seconds, 0 for none.
    pub keep_alive_seconds: u16,
    /// Session Expiry Interval in seconds; 3.1.1 has none.
    pub session_expiry_seconds: u32,
    /// How many answers the client takes at once; of no use to a server that sends no PUBLISH.
    pub maximum_packet_size: Option<u32>,
    /// Whether reason strings and user properties may be sent on answers other than CONNACK and DISCONNECT.
    pub request_problem_information: bool,
    /// Enhanced authentication is asked for.
    pub authentication_method: Option<&'a str>,
    /// May be empty.
    pub client_id: &'a str,
    /// Published if the connection ends without DISCONNECT.
    pub will: Option<Will<'a>>,
    /// Who the client says it is.
    pub user_name: Option<&'a str>,
    /// By what it proves that, or a token.
    pub password: Option<&'a [u8]>,
}

/// A Will Message.
#[derive(Clone, Copy, Debug)]
pub struct Will<'a> {
    /// 0 to 2.
    pub qos: u8,
    /// RETAIN.
    pub retain: bool,
    /// Topic name.
    pub topic: &'a str,
    /// MQTT 5 only.
    pub properties: Properties<'a>,
    /// Application message.
    pub payload: &'a [u8],
}

impl std::fmt::Debug for Connect<'_> {
    /// Neither name nor password: they belong into no log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connect")
            .field("version", &self.version)
            .field("clean_start", &self.clean_start)
            .field("keep_alive_seconds", &self.keep_alive_seconds)
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

impl<'a> Connect<'a> {
    pub(super) fn decode(mut reader: Reader<'a>) -> Result<Self, Malformed> {
        let version = match (reader.binary()?, reader.u8()?) {
            (b"MQTT", 4) => Version::V3,
            (b"MQTT", 5) => Version::V5,
            _ => return Err(UNSUPPORTED),
        };
        let flags = Flags(reader.u8()?);
        flags.check(version)?;
        let keep_alive_seconds = reader.u16()?;
        let properties = match version {
            Version::V5 => Properties::read(&mut reader, Place::Packet(PacketType::Connect))?,
            Version::V3 => Properties::default(),
        };
        let client_id = reader.text()?;
        let will = if flags.will() { Some(Will::decode(&mut reader, version, flags)?) } else { None };
        let user_name = if flags.user_name() { Some(reader.text()?) } else { None };
        let password = if flags.password() { Some(reader.binary()?) } else { None };
        reader.end("CONNECT is longer than its parts")?;
        let mut connect = Self {
            version,
            clean_start: flags.clean_start(),
            keep_alive_seconds,
            session_expiry_seconds: 0,
            maximum_packet_size: None,
            request_problem_information: true,
            authentication_method: None,
            client_id,
            will,
            user_name,
            password,
        };
        let mut authentication_data = false;
        for property in properties.iter() {
            match property {
                Property::AuthenticationData(_) => authentication_data = true,
                Property::SessionExpiryInterval(seconds) => connect.session_expiry_seconds = seconds,
                Property::MaximumPacketSize(bytes) => connect.maximum_packet_size = Some(bytes),
                Property::RequestProblemInformation(value) => {
                    connect.request_problem_information = value == 1
                }
                Property::AuthenticationMethod(method) => connect.authentication_method = Some(method),
                _ => {}
            }
        }
        if authentication_data && connect.authentication_method.is_none() {
            // §3.1.2.11.10
            return Err(Malformed::protocol("Authentication Data without an Authentication Method"));
        }
        Ok(connect)
    }

    /// What a session keeps of it, in bytes.
    #[must_use]
    pub fn kept_bytes(&self) -> usize {
        let will = self.will.map_or(0, |will| will.topic.len() + will.payload.len() + will.properties.len());
        self.client_id.len() + will
    }
}

const UNSUPPORTED: Malformed =
    Malformed { reason: Reason::UnsupportedProtocolVersion, what: "not MQTT 3.1.1 or 5" };

/// In which version to refuse what a client sent as its first packet: that of its CONNECT, or the next one that we know.
/// What is no CONNECT of any MQTT is not answered (`[MQTT-3.1.2-1]`).
#[must_use]
pub fn refusal_version(packet: &[u8]) -> Option<Version> {
    let Ok(super::Frame::Packet { header, .. }) = super::frame(packet) else { return None };
    if packet.first() != Some(&0x10) {
        return None;
    }
    let mut reader = Reader::new(packet.get(header..)?);
    match (reader.binary().ok()?, reader.u8().ok()?) {
        (b"MQIsdp", _) | (b"MQTT", ..=4) => Some(Version::V3),
        (b"MQTT", _) => Some(Version::V5),
        _ => None,
    }
}

impl<'a> Will<'a> {
    fn decode(reader: &mut Reader<'a>, version: Version, flags: Flags) -> Result<Self, Malformed> {
        let properties = match version {
            Version::V5 => Properties::read(reader, Place::Will)?,
            Version::V3 => Properties::default(),
        };
        let topic = reader.text()?;
        if topic.is_empty() || topic.contains(['+', '#']) {
            let reason = Reason::TopicNameInvalid;
            return Err(Malformed { reason, what: "the Will's topic is empty or contains a wildcard" });
        }
        let payload = reader.binary()?;
        let is_text = properties.iter().any(|property| property == Property::PayloadFormatIndicator(1));
        if is_text && std::str::from_utf8(payload).is_err() {
            let reason = Reason::PayloadFormatInvalid;
            return Err(Malformed { reason, what: "the Will's payload is not the UTF-8 that it says it is" });
        }
        Ok(Self { qos: flags.will_qos(), retain: flags.will_retain(), topic, properties, payload })
    }
}

/// Connect Flags (§3.1.2.3).
#[derive(Clone, Copy)]
struct Flags(u8);

impl Flags {
    fn check(self, version: Version) -> Result<(), Malformed> {
        if self.0 & 0x01 != 0 {
            return Err(Malformed::packet("the reserved connect flag is set"));
        }
        if self.will_qos() == 3 || (!self.will() && (self.will_qos() != 0 || self.will_retain())) {
            return Err(Malformed::packet("the Will flags contradict each other"));
        }
        if version == Version::V3 && self.password() && !self.user_name() {
            // [MQTT-3.1.2-22] of 3.1.1
            return Err(Malformed::packet("a password without a user name"));
        }
        Ok(())
    }

    fn clean_start(self) -> bool {
        self.0 & 0x02 != 0
    }

    fn will(self) -> bool {
        self.0 & 0x04 != 0
    }

    fn will_qos(self) -> u8 {
        self.0 >> 3 & 0x03
    }

    fn will_retain(self) -> bool {
        self.0 & 0x20 != 0
    }

    fn password(self) -> bool {
        self.0 & 0x40 != 0
    }

    fn user_name(self) -> bool {
        self.0 & 0x80 != 0
    }
}
