//! A client on a raw socket that takes one step of a handshake at a time, and publishes to a topic of its own.

use std::net::SocketAddr;

use crate::checker::Receipt;
use crate::load::receipt;
use crate::load::wire::{self, Connect, Packet, Properties, Publish, Version};
use crate::raw::Raw;

/// A connected client.
pub struct Device {
    /// The socket.
    pub raw: Raw,
    /// Session Present.
    pub session_present: bool,
    /// Properties of CONNACK.
    pub connack: Properties,
    client_id: String,
    version: Version,
}

/// For how many seconds a session is kept where a test does not ask for another time.
pub const EXPIRY_SECONDS: u32 = 600;

impl Device {
    /// Goes on with its session, or begins one that is kept.
    #[track_caller]
    pub fn kept(address: SocketAddr, version: Version, client_id: &str) -> Self {
        Self::connect(address, &Connect::kept(version, client_id, EXPIRY_SECONDS))
    }

    /// Begins a session that ends with the connection.
    #[track_caller]
    pub fn clean(address: SocketAddr, version: Version, client_id: &str) -> Self {
        Self::connect(address, &Connect::new(version, client_id))
    }

    /// Any CONNECT.
    ///
    /// # Panics
    /// When it is not let in.
    #[track_caller]
    pub fn connect(address: SocketAddr, connect: &Connect) -> Self {
        let (raw, packet) = Raw::mqtt_with(address, connect);
        let Packet::ConnAck { code: 0, session_present, properties } = packet else { panic!("{packet:?}") };
        let Connect { client_id, version, .. } = connect.clone();
        Self { raw, session_present, connack: properties, client_id, version }
    }

    /// Sends a PUBLISH.
    #[track_caller]
    pub fn send(&mut self, qos: u8, id: u16, payload: &str) {
        self.put(qos, id, false, payload);
    }

    /// Sends a PUBLISH of QoS 2 with DUP.
    #[track_caller]
    pub fn send_again(&mut self, id: u16, payload: &str) {
        self.put(2, id, true, payload);
    }

    #[track_caller]
    fn put(&mut self, qos: u8, id: u16, dup: bool, payload: &str) {
        let topic = topic(&self.client_id);
        let publish = Publish { qos, dup, ..Publish::new(self.version, &topic, payload.as_bytes(), id) };
        self.raw.send(&publish.encode());
    }

    /// The PUBREC of a message that is stored, and in MQTT 5 its receipt.
    #[track_caller]
    pub fn pubrec(&mut self, id: u16) -> Option<Receipt> {
        let packet = self.raw.packet();
        let Packet::PubRec { id: found, reason: 0, properties } = &packet else { panic!("{packet:?}") };
        assert_eq!(*found, id, "{packet:?}");
        let receipt = receipt(properties);
        assert_eq!(receipt.is_some(), self.version == Version::V5, "{packet:?}");
        receipt
    }

    /// Publishes at QoS 2 up to PUBREC.
    #[track_caller]
    pub fn publish(&mut self, id: u16, payload: &str) -> Option<Receipt> {
        self.send(2, id, payload);
        self.pubrec(id)
    }

    /// The same with DUP.
    #[track_caller]
    pub fn publish_again(&mut self, id: u16, payload: &str) -> Option<Receipt> {
        self.send_again(id, payload);
        self.pubrec(id)
    }

    /// PUBREL; the reason code of its PUBCOMP, always 0 in 3.1.1.
    #[track_caller]
    pub fn release(&mut self, id: u16) -> u8 {
        self.raw.send(&wire::pubrel(id));
        let packet = self.raw.packet();
        let Packet::PubComp { id: found, reason, .. } = packet else { panic!("{packet:?}") };
        assert_eq!(found, id, "{packet:?}");
        reason
    }

    /// Demands that the connection is as good as ever, and that nothing has come which was not read.
    #[track_caller]
    pub fn assert_quiet(&mut self) {
        self.raw.send(&wire::PINGREQ);
        assert_eq!(self.raw.packet(), Packet::PingResp);
    }
}

/// Where a client publishes to; the record key is [`key`].
pub fn topic(client_id: &str) -> String {
    format!("v1/p/{client_id}/telemetry")
}

/// The key of a client's records.
pub fn key(client_id: &str) -> String {
    format!("p/{client_id}")
}

/// The reason code of a PUBCOMP for an identifier that is not known: 3.1.1 has none.
pub fn unknown(version: Version) -> u8 {
    if version == Version::V5 { 0x92 } else { 0 }
}
