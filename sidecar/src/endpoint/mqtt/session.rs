//! What a client agreed on at CONNECT.

use std::time::Duration;

use penstock_crds::edge::MqttConfig;
use uuid::Uuid;

use super::codec::{Connect, Malformed, Reason, Version};
use super::end::End;
use super::will::StoredWill;

/// A connected client.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) version: Version,
    pub(super) client_id: Box<str>,
    /// 1.5 times the Keep Alive; none if there is none.
    pub(super) silence: Option<Duration>,
    /// Largest packet that the client takes, in bytes.
    pub(super) largest_packet: usize,
    /// Clean Start: what was kept before is forgotten.
    pub(super) clean_start: bool,
    /// CONNECT said that the session ends with the connection.
    pub(super) expires_at_once: bool,
    /// For how many seconds the session is kept when its connection has ended.
    pub(super) expiry_seconds: u32,
    /// Largest PUBACK that may carry a receipt, in bytes; 0 for none.
    pub(super) receipt_room: usize,
    pub(super) will: Option<Box<StoredWill>>,
    aliases: Vec<Box<str>>,
}

/// How a CONNECT is answered.
#[derive(Debug)]
pub(super) struct Welcome {
    pub(super) session: Session,
    pub(super) terms: Terms,
}

/// Where a session is not what the client asked for. CONNACK of MQTT 5 says so.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// The identifier is ours: the client brought none.
    pub(super) assigned_client_id: bool,
    /// For how many seconds the session is kept.
    pub(super) session_expiry_seconds: Option<u32>,
    /// The Keep Alive that holds, in seconds.
    pub(super) keep_alive_seconds: Option<u16>,
}

impl Session {
    /// Takes a CONNECT, or says with which reason it is refused.
    pub(super) fn open(connect: &Connect<'_>, config: &MqttConfig) -> Result<Welcome, Reason> {
        if connect.authentication_method.is_some() {
            return Err(Reason::BadAuthenticationMethod);
        }
        // A 3.1.1 client without identifier must be content with a clean session ([MQTT-3.1.3-8] of 3.1.1).
        let assigned_client_id = connect.client_id.is_empty();
        if assigned_client_id && connect.version == Version::V3 && !connect.clean_start {
            return Err(Reason::ClientIdentifierNotValid);
        }
        if connect.will.is_some_and(|will| will.qos > config.maximum_qos) {
            return Err(Reason::QosNotSupported);
        }
        let keep_alive_seconds = server_keep_alive(connect, config.maximum_keep_alive_seconds)?;
        let client_id = if assigned_client_id {
            format!("penstock-{}", Uuid::now_v7().simple())
        } else {
            connect.client_id.to_owned()
        };
        let keep_alive = u64::from(keep_alive_seconds.unwrap_or(connect.keep_alive_seconds));
        let largest = connect.maximum_packet_size.map_or(usize::MAX, |bytes| bytes as usize);
        // CleanSession 0 has no interval of its own, so the longest is meant (§3.1.2.11.2 of MQTT 5).
        let asked_expiry_seconds = match connect.version {
            Version::V5 => connect.session_expiry_seconds,
            Version::V3 if connect.clean_start => 0,
            Version::V3 => u32::MAX,
        };
        let expiry_seconds = asked_expiry_seconds.min(config.session_expiry_seconds);
        Ok(Welcome {
            session: Self {
                version: connect.version,
                client_id: client_id.into(),
                silence: (keep_alive > 0).then(|| Duration::from_millis(keep_alive * 1_500)),
                largest_packet: largest,
                clean_start: connect.clean_start,
                expires_at_once: asked_expiry_seconds == 0,
                expiry_seconds,
                receipt_room: if connect.request_problem_information { largest } else { 0 },
                will: connect.will.map(|will| Box::new(StoredWill::new(&will))),
                aliases: Vec::new(),
            },
            terms: Terms {
                assigned_client_id,
                session_expiry_seconds: (expiry_seconds != asked_expiry_seconds).then_some(expiry_seconds),
                keep_alive_seconds,
            },
        })
    }

    /// The topic name of a PUBLISH, its own or the one that its alias stands for (MQTT 5 §3.3.2.3.4), and the client
    /// identifier. Aliases go up to `maximum`; `keep` makes room for a new one.
    pub(super) fn topic<'a>(
        &'a mut self,
        topic: &'a str,
        alias: Option<u16>,
        maximum: u16,
        keep: impl FnOnce(usize) -> Result<(), End>,
    ) -> Result<(&'a str, &'a str), End> {
        let Some(alias) = alias else {
            return match topic {
                "" => Err(Malformed::protocol("PUBLISH has neither topic name nor alias").into()),
                topic => Ok((topic, &self.client_id)),
            };
        };
        if alias == 0 || alias > maximum {
            return Err(End::told(Reason::TopicAliasInvalid, "a topic alias out of range"));
        }
        let index = usize::from(alias) - 1;
        if topic.is_empty() {
            return match self.aliases.get(index) {
                Some(known) if !known.is_empty() => Ok((known, &self.client_id)),
                _ => Err(Malformed::protocol("a topic alias that was never set").into()),
            };
        }
        if self.aliases.len() <= index {
            self.aliases.resize_with(index + 1, Box::default);
        }
        if let Some(place) = self.aliases.get_mut(index)
            && **place != *topic
        {
            keep(topic.len().saturating_sub(place.len()))?;
            *place = topic.into();
        }
        Ok((topic, &self.client_id))
    }
}

/// The Keep Alive that is put in the place of what the client asked for, if that is longer than `maximum`. A client of
/// 3.1.1 cannot be told, and would be cut off while it believes that all is well: it is refused as mosquitto does.
fn server_keep_alive(connect: &Connect<'_>, maximum: Option<u16>) -> Result<Option<u16>, Reason> {
    let asked = connect.keep_alive_seconds;
    match maximum.filter(|&maximum| asked == 0 || asked > maximum) {
        Some(_) if connect.version == Version::V3 => Err(Reason::ClientIdentifierNotValid),
        shorter => Ok(shorter),
    }
}
