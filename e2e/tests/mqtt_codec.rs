//! Our codec against one that nobody here wrote (rumqttc's): what either writes the other reads.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use bytes::{Bytes, BytesMut};
use penstock_sidecar::endpoint::mqtt::codec::{
    ConnAck, Encoder, Packet, Property, Reason, Version, refusal_version,
};
use proptest::prelude::*;
use rumqttc::mqttbytes::v4;
use rumqttc::v5::mqttbytes::{QoS as QoS5, v5};

fn topic() -> impl Strategy<Value = String> {
    "[^\u{0}+#]{1,30}"
}

fn text() -> impl Strategy<Value = String> {
    "[^\u{0}]{0,20}"
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..300)
}

fn qos5(qos: u8) -> QoS5 {
    [QoS5::AtMostOnce, QoS5::AtLeastOnce, QoS5::ExactlyOnce][usize::from(qos)]
}

fn qos4(qos: u8) -> rumqttc::mqttbytes::QoS {
    use rumqttc::mqttbytes::QoS;
    [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::from(qos)]
}

prop_compose! {
    fn properties()(
        payload_format_indicator in prop::option::of(0..2_u8),
        message_expiry_interval in prop::option::of(any::<u32>()),
        topic_alias in prop::option::of(1..=u16::MAX),
        response_topic in prop::option::of(topic()),
        correlation_data in prop::option::of(bytes()),
        user_properties in prop::collection::vec((text(), text()), 0..4),
        content_type in prop::option::of(text()),
    ) -> v5::PublishProperties {
        v5::PublishProperties {
            payload_format_indicator,
            message_expiry_interval,
            topic_alias,
            response_topic,
            correlation_data: correlation_data.map(Bytes::from),
            user_properties,
            subscription_identifiers: Vec::new(),
            content_type,
        }
    }
}

/// What we read, in the form in which the other codec holds it.
fn as_theirs<'a>(properties: impl Iterator<Item = Property<'a>>) -> v5::PublishProperties {
    let mut theirs = v5::PublishProperties::default();
    for property in properties {
        match property {
            Property::PayloadFormatIndicator(value) => theirs.payload_format_indicator = Some(value),
            Property::MessageExpiryInterval(value) => theirs.message_expiry_interval = Some(value),
            Property::TopicAlias(value) => theirs.topic_alias = Some(value),
            Property::ResponseTopic(value) => theirs.response_topic = Some(value.to_owned()),
            Property::CorrelationData(value) => theirs.correlation_data = Some(Bytes::copy_from_slice(value)),
            Property::User(name, value) => theirs.user_properties.push((name.to_owned(), value.to_owned())),
            Property::ContentType(value) => theirs.content_type = Some(value.to_owned()),
            other => panic!("{other:?}"),
        }
    }
    theirs
}

proptest! {
    #[test]
    fn a_publish_of_5_is_read_as_it_was_written(
        (dup, retain, qos, id) in (any::<bool>(), any::<bool>(), 0..3_u8, 1..=u16::MAX),
        topic in topic(),
        payload in bytes(),
        properties in properties(),
    ) {
        let dup = dup && qos > 0;
        let publish = v5::Publish {
            dup,
            qos: qos5(qos),
            retain,
            topic: Bytes::from(topic.clone()),
            pkid: if qos > 0 { id } else { 0 },
            payload: Bytes::from(payload.clone()),
            properties: Some(properties.clone()),
        };
        let mut wire = BytesMut::new();
        publish.write(&mut wire).unwrap();
        let Ok(Packet::Publish(ours)) = Packet::decode(Some(Version::V5), &wire) else {
            panic!("{:?}", Packet::decode(Some(Version::V5), &wire))
        };
        prop_assert_eq!((ours.dup, ours.retain, ours.qos), (dup, retain, qos));
        prop_assert_eq!(ours.packet_id.map(std::num::NonZero::get), (qos > 0).then_some(id));
        prop_assert_eq!((ours.topic, ours.payload), (&topic[..], &payload[..]));
        prop_assert_eq!(as_theirs(ours.properties.iter()), properties);
    }

    #[test]
    fn a_publish_of_3_is_read_as_it_was_written(
        (dup, retain, qos, id) in (any::<bool>(), any::<bool>(), 0..3_u8, 1..=u16::MAX),
        topic in topic(),
        payload in bytes(),
    ) {
        let mut publish = v4::Publish::new(topic.clone(), qos4(qos), payload.clone());
        let dup = dup && qos > 0;
        (publish.dup, publish.retain, publish.pkid) = (dup, retain, if qos > 0 { id } else { 0 });
        let mut wire = BytesMut::new();
        publish.write(&mut wire).unwrap();
        let Ok(Packet::Publish(ours)) = Packet::decode(Some(Version::V3), &wire) else {
            panic!("{:?}", Packet::decode(Some(Version::V3), &wire))
        };
        prop_assert_eq!((ours.dup, ours.retain, ours.qos), (dup, retain, qos));
        prop_assert_eq!(ours.packet_id.map(std::num::NonZero::get), (qos > 0).then_some(id));
        prop_assert_eq!((ours.topic, ours.payload), (&topic[..], &payload[..]));
    }

    #[test]
    fn a_connect_of_5_is_read_as_it_was_written(
        (client_id, keep_alive, clean_start) in (text(), any::<u16>(), any::<bool>()),
        expiry in prop::option::of(any::<u32>()),
        largest in prop::option::of(1..=u32::MAX),
        problem in prop::option::of(0..2_u8),
        will in prop::option::of((topic(), bytes(), 0..3_u8, any::<bool>())),
    ) {
        let connect = v5::Connect {
            keep_alive,
            client_id: client_id.clone(),
            clean_start,
            properties: Some(v5::ConnectProperties {
                session_expiry_interval: expiry,
                max_packet_size: largest,
                request_problem_info: problem,
                ..v5::ConnectProperties::new()
            }),
        };
        let last_will = will
            .clone()
            .map(|(topic, payload, qos, retain)| v5::LastWill::new(topic, payload, qos5(qos), retain, None));
        let login = Some(v5::Login::new("user", "secret"));
        let mut wire = BytesMut::new();
        connect.write(&last_will, &login, &mut wire).unwrap();
        prop_assert_eq!(refusal_version(&wire), Some(Version::V5));
        let Ok(Packet::Connect(ours)) = Packet::decode(None, &wire) else {
            panic!("{:?}", Packet::decode(None, &wire))
        };
        prop_assert_eq!((ours.version, ours.client_id), (Version::V5, &client_id[..]));
        prop_assert_eq!((ours.keep_alive_seconds, ours.clean_start), (keep_alive, clean_start));
        prop_assert_eq!(ours.session_expiry_seconds, expiry.unwrap_or(0));
        prop_assert_eq!((ours.maximum_packet_size, ours.request_problem_information), (largest, problem != Some(0)));
        let found = ours.will.map(|will| (will.topic.to_owned(), will.payload.to_vec(), will.qos, will.retain));
        prop_assert_eq!(found, will);
    }

    #[test]
    fn a_connack_of_5_says_what_it_was_told(
        (maximum_qos, receive_maximum, maximum_packet_size, topic_alias_maximum) in
            (0..3_u8, 1..=u16::MAX, 1..=u32::MAX, any::<u16>()),
        assigned in prop::option::of("[a-z]{1,40}"),
        (present, expiry, keep_alive) in
            (any::<bool>(), prop::option::of(any::<u32>()), prop::option::of(any::<u16>())),
        room in 0..120_usize,
    ) {
        let mut wire = Vec::new();
        let connack = ConnAck {
            maximum_qos,
            receive_maximum,
            maximum_packet_size,
            topic_alias_maximum,
            session_present: present,
            session_expiry_seconds: expiry,
            server_keep_alive_seconds: keep_alive,
            assigned_client_id: assigned.as_deref(),
            room,
        };
        let fits = Encoder::new(Version::V5, &mut wire).connack(&connack);
        prop_assert_eq!(fits, !wire.is_empty());
        prop_assert!(wire.len() <= room);
        if fits {
            let Ok(v5::Packet::ConnAck(theirs)) = v5::Packet::read(&mut BytesMut::from(&wire[..]), None) else {
                panic!("{wire:x?}")
            };
            let properties = theirs.properties.unwrap();
            prop_assert_eq!(properties.max_qos, (maximum_qos < 2).then_some(maximum_qos));
            prop_assert_eq!(properties.receive_max, Some(receive_maximum));
            prop_assert_eq!(properties.max_packet_size, Some(maximum_packet_size));
            prop_assert_eq!((theirs.session_present, properties.session_expiry_interval), (present, expiry));
            prop_assert_eq!(properties.server_keep_alive, keep_alive);
            prop_assert_eq!(properties.assigned_client_identifier, assigned);
            let alias = properties.topic_alias_max;
            prop_assert!(alias.is_none_or(|alias| alias == topic_alias_maximum));
        }
    }
}

/// Reads one packet that we wrote, and nothing is left.
fn theirs(wire: &[u8]) -> v5::Packet {
    let mut stream = BytesMut::from(wire);
    let packet = v5::Packet::read(&mut stream, None).unwrap_or_else(|error| panic!("{error:?}: {wire:x?}"));
    assert!(stream.is_empty(), "{wire:x?}");
    packet
}

#[test]
fn what_ends_a_connection_is_read_as_it_was_meant() {
    for (reason, expected) in [
        (Reason::MalformedPacket, v5::DisconnectReasonCode::MalformedPacket),
        (Reason::ProtocolError, v5::DisconnectReasonCode::ProtocolError),
        (Reason::ServerBusy, v5::DisconnectReasonCode::ServerBusy),
        (Reason::ServerShuttingDown, v5::DisconnectReasonCode::ServerShuttingDown),
        (Reason::KeepAliveTimeout, v5::DisconnectReasonCode::KeepAliveTimeout),
        (Reason::SessionTakenOver, v5::DisconnectReasonCode::SessionTakenOver),
        (Reason::TopicNameInvalid, v5::DisconnectReasonCode::TopicNameInvalid),
        (Reason::ReceiveMaximumExceeded, v5::DisconnectReasonCode::ReceiveMaximumExceeded),
        (Reason::TopicAliasInvalid, v5::DisconnectReasonCode::TopicAliasInvalid),
        (Reason::PacketTooLarge, v5::DisconnectReasonCode::PacketTooLarge),
        (Reason::QosNotSupported, v5::DisconnectReasonCode::QoSNotSupported),
    ] {
        let mut wire = Vec::new();
        Encoder::new(Version::V5, &mut wire).disconnect(reason);
        let v5::Packet::Disconnect(disconnect) = theirs(&wire) else { panic!("{wire:x?}") };
        assert_eq!(disconnect.reason_code, expected);
    }
    let mut wire = Vec::new();
    Encoder::new(Version::V5, &mut wire).connack_refused(Reason::BadAuthenticationMethod);
    let v5::Packet::ConnAck(connack) = theirs(&wire) else { panic!("{wire:x?}") };
    assert_eq!(
        (connack.session_present, connack.code),
        (false, v5::ConnectReturnCode::BadAuthenticationMethod)
    );
}
