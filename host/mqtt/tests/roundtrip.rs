//! `decode(encode(p)) == p` for generated packets, and a second reader's opinion on them.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "tests stop at the first surprise"
)]

use std::num::NonZeroU16;

use bytes::BytesMut;
use portreeve_mqtt::{
    Acknowledgement, AcknowledgementKind, Auth, Connack, Connect, Disconnect, EncodedPublish,
    Limits, Packet, Properties, PropertiesBuf, Property, ProtocolVersion, Publish, QoS, ReasonCode,
    RetainHandling, Suback, SubackKind, Subscribe, SubscribeEntriesBuf, SubscribeEntry,
    SubscriptionOptions, TopicFilter, TopicName, Unsubscribe, UnsubscribeFiltersBuf, Will, decode,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

fn text() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9é☃𝄞 _-]{0,24}"
}

fn topic() -> impl Strategy<Value = String> {
    "[a-z0-9é/$]{1,40}"
}

fn filter() -> impl Strategy<Value = String> {
    prop_oneof![
        topic(),
        vec(prop_oneof!["[a-z]{0,4}", Just("+".to_owned())], 1..5)
            .prop_map(|levels| levels.join("/"))
            .prop_filter("not empty", |filter| !filter.is_empty()),
        "[a-z]{1,5}/#",
        "\\$share/[a-z]{1,4}/[a-z]{1,4}/\\+",
    ]
}

fn packet_id() -> impl Strategy<Value = NonZeroU16> {
    (1..=u16::MAX).prop_map(|id| NonZeroU16::new(id).unwrap())
}

fn qos() -> impl Strategy<Value = QoS> {
    select(vec![QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce])
}

/// An owned property, so that a strategy can make it.
#[derive(Debug, Clone)]
enum Owned {
    Number(u8, u32),
    Text(u8, String),
    Binary(u8, Vec<u8>),
    Pair(String, String),
}

impl Owned {
    fn as_property(&self) -> Property<'_> {
        let truncated = |value: u32| u16::try_from(value % 65_535 + 1).unwrap();
        let flag = |value: u32| u8::try_from(value & 1).unwrap();
        match self {
            Self::Number(0x01, value) => Property::PayloadFormatIndicator(flag(*value)),
            Self::Number(0x02, value) => Property::MessageExpiryInterval(*value),
            Self::Number(0x0b, value) => Property::SubscriptionIdentifier(*value % 268_435_455 + 1),
            Self::Number(0x11, value) => Property::SessionExpiryInterval(*value),
            Self::Number(0x13, value) => Property::ServerKeepAlive(truncated(*value)),
            Self::Number(0x17, value) => Property::RequestProblemInformation(flag(*value)),
            Self::Number(0x18, value) => Property::WillDelayInterval(*value),
            Self::Number(0x19, value) => Property::RequestResponseInformation(flag(*value)),
            Self::Number(0x21, value) => Property::ReceiveMaximum(truncated(*value)),
            Self::Number(0x22, value) => Property::TopicAliasMaximum(truncated(*value)),
            Self::Number(0x23, value) => Property::TopicAlias(truncated(*value)),
            Self::Number(0x24, value) => Property::MaximumQoS(flag(*value)),
            Self::Number(0x25, value) => Property::RetainAvailable(flag(*value)),
            Self::Number(0x27, value) => Property::MaximumPacketSize((*value).max(1)),
            Self::Number(0x28, value) => Property::WildcardSubscriptionAvailable(flag(*value)),
            Self::Number(0x29, value) => Property::SubscriptionIdentifierAvailable(flag(*value)),
            Self::Number(0x2a, value) => Property::SharedSubscriptionAvailable(flag(*value)),
            Self::Text(0x03, value) => Property::ContentType(value),
            Self::Text(0x08, value) => Property::ResponseTopic(value),
            Self::Text(0x12, value) => Property::AssignedClientIdentifier(value),
            Self::Text(0x15, value) => Property::AuthenticationMethod(value),
            Self::Text(0x1a, value) => Property::ResponseInformation(value),
            Self::Text(0x1c, value) => Property::ServerReference(value),
            Self::Text(0x1f, value) => Property::ReasonString(value),
            Self::Binary(0x09, value) => Property::CorrelationData(value),
            Self::Binary(0x16, value) => Property::AuthenticationData(value),
            Self::Pair(name, value) => Property::UserProperty((name, value)),
            other => panic!("no such property: {other:?}"),
        }
    }
}

fn one_property(id: u8) -> BoxedStrategy<Owned> {
    match id {
        0x03 | 0x12 | 0x15 | 0x1a | 0x1c | 0x1f => {
            text().prop_map(move |value| Owned::Text(id, value)).boxed()
        }
        0x08 => topic().prop_map(move |value| Owned::Text(id, value)).boxed(),
        0x09 | 0x16 => {
            vec(any::<u8>(), 0..16).prop_map(move |value| Owned::Binary(id, value)).boxed()
        }
        0x26 => (text(), text()).prop_map(|(name, value)| Owned::Pair(name, value)).boxed(),
        _ => any::<u32>().prop_map(move |value| Owned::Number(id, value)).boxed(),
    }
}

/// Some of the properties `ids`, each at most once, and some user properties, in any order.
fn properties(ids: &'static [u8]) -> impl Strategy<Value = PropertiesBuf> {
    let some = proptest::sample::subsequence(ids, 0..=ids.len());
    (some, 0..4_usize)
        .prop_flat_map(|(some, user_properties)| {
            let mut each: Vec<_> = some.into_iter().map(one_property).collect();
            each.extend((0..user_properties).map(|_| one_property(0x26)));
            each
        })
        .prop_shuffle()
        .prop_map(|owned| owned.iter().map(Owned::as_property).collect())
}

const CONNECT: &[u8] = &[0x11, 0x15, 0x17, 0x19, 0x21, 0x22, 0x27];
const WILL: &[u8] = &[0x01, 0x02, 0x03, 0x08, 0x09, 0x18];
const CONNACK: &[u8] = &[
    0x11, 0x12, 0x13, 0x15, 0x16, 0x1a, 0x1c, 0x1f, 0x21, 0x22, 0x24, 0x25, 0x27, 0x28, 0x29, 0x2a,
];
const PUBLISH: &[u8] = &[0x01, 0x02, 0x03, 0x08, 0x09, 0x0b, 0x23];
const ANSWER: &[u8] = &[0x1f];
const DISCONNECT: &[u8] = &[0x11, 0x1c, 0x1f];

fn list(buf: &PropertiesBuf, version: ProtocolVersion) -> Properties<'_> {
    if version.is_v5() { buf.as_properties() } else { Properties::NONE }
}

const VERSIONS: [ProtocolVersion; 3] =
    [ProtocolVersion::V31, ProtocolVersion::V311, ProtocolVersion::V5];

fn encoded(packet: &Packet<'_>, version: ProtocolVersion) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.encode(version, &mut bytes).unwrap();
    bytes
}

fn assert_round_trip(packet: &Packet<'_>, version: ProtocolVersion) -> Vec<u8> {
    let bytes = encoded(packet, version);
    let (again, taken) = decode(&bytes, version, &Limits::STANDARD).unwrap().unwrap();
    assert_eq!(&again, packet);
    assert_eq!(taken, bytes.len());
    bytes
}

/// mqttbytes reads the same bytes and writes them again; they must not change. Only for packets
/// that it is known to read and write right.
fn assert_second_reader_agrees_v4(bytes: &[u8]) {
    use mqttbytes::v4;
    let mut stream = BytesMut::from(bytes);
    let packet = v4::read(&mut stream, usize::MAX).unwrap();
    assert!(stream.is_empty());
    let mut out = BytesMut::new();
    match packet {
        v4::Packet::Connect(packet) => packet.write(&mut out),
        v4::Packet::ConnAck(packet) => packet.write(&mut out),
        v4::Packet::Publish(packet) => packet.write(&mut out),
        v4::Packet::PubAck(packet) => packet.write(&mut out),
        v4::Packet::PubRec(packet) => packet.write(&mut out),
        v4::Packet::PubRel(packet) => packet.write(&mut out),
        v4::Packet::PubComp(packet) => packet.write(&mut out),
        v4::Packet::Subscribe(packet) => packet.write(&mut out),
        v4::Packet::SubAck(packet) => packet.write(&mut out),
        v4::Packet::Unsubscribe(packet) => packet.write(&mut out),
        v4::Packet::UnsubAck(packet) => packet.write(&mut out),
        v4::Packet::PingReq => v4::PingReq.write(&mut out),
        v4::Packet::PingResp => v4::PingResp.write(&mut out),
        v4::Packet::Disconnect => v4::Disconnect.write(&mut out),
    }
    .unwrap();
    assert_eq!(hex::encode(out), hex::encode(bytes));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn connect(
        connect_properties in properties(CONNECT),
        will_properties in properties(WILL),
        will in proptest::option::of((qos(), any::<bool>(), topic(), vec(any::<u8>(), 0..32))),
        client_id in text(),
        user_name in proptest::option::of(text()),
        password in proptest::option::of(vec(any::<u8>(), 0..32)),
        clean_start: bool,
        keep_alive: u16,
    ) {
        for version in VERSIONS {
            let packet = Packet::Connect(Connect {
                protocol_version: version,
                clean_start,
                keep_alive,
                properties: list(&connect_properties, version),
                client_id: &client_id,
                will: will.as_ref().map(|(qos, retain, topic, payload)| Will {
                    qos: *qos,
                    retain: *retain,
                    properties: list(&will_properties, version),
                    topic: TopicName::parse(topic).unwrap(),
                    payload,
                }),
                user_name: user_name.as_deref(),
                password: password.as_deref().filter(|_| version.is_v5() || user_name.is_some()),
            });
            assert_round_trip(&packet, version);
        }
    }

    #[test]
    fn publish(
        publish_properties in properties(PUBLISH),
        topic in topic(),
        id in packet_id(),
        qos in qos(),
        dup: bool,
        retain: bool,
        payload in vec(any::<u8>(), 0..200),
    ) {
        for version in VERSIONS {
            let publish = Publish {
                dup: dup && qos != QoS::AtMostOnce,
                qos,
                retain,
                topic: Some(TopicName::parse(&topic).unwrap()),
                packet_id: Some(id).filter(|_| qos != QoS::AtMostOnce),
                properties: list(&publish_properties, version),
                payload: &payload,
            };
            let bytes = assert_round_trip(&Packet::Publish(publish), version);
            // Encoded once and patched for a receiver, it is the same packet.
            let template = Publish { dup: false, retain: false, packet_id: None, ..publish };
            let once = EncodedPublish::new(&template, version).unwrap();
            let mut patched = Vec::new();
            once.append(&mut patched, publish.dup, qos, retain, Some(id));
            prop_assert_eq!(&patched, &bytes);
            prop_assert_eq!(once.packet_bytes(), bytes.len());
            if version == ProtocolVersion::V311 {
                assert_second_reader_agrees_v4(&bytes);
            }
        }
    }

    #[test]
    fn acknowledgement(
        answer_properties in properties(ANSWER),
        id in packet_id(),
        kind in select(vec![
            AcknowledgementKind::Puback, AcknowledgementKind::Pubrec,
            AcknowledgementKind::Pubrel, AcknowledgementKind::Pubcomp,
        ]),
        code in any::<u8>(),
    ) {
        for version in VERSIONS {
            let reason_code = ReasonCode::from_byte(code)
                .filter(|code| version.is_v5() && code.allowed_in(kind.packet_type()))
                .unwrap_or(ReasonCode::Success);
            let properties = list(&answer_properties, version);
            let packet =
                Packet::Acknowledgement(Acknowledgement { kind, packet_id: id, reason_code, properties });
            let bytes = assert_round_trip(&packet, version);
            if version == ProtocolVersion::V311 {
                assert_second_reader_agrees_v4(&bytes);
            }
        }
    }

    #[test]
    fn subscribe_and_unsubscribe(
        id in packet_id(),
        identifier in proptest::option::of(1..=268_435_455_u32),
        filters in vec((filter(), qos(), any::<bool>(), any::<bool>(), 0..3_u8), 1..8),
    ) {
        for version in VERSIONS {
            let mut entries = SubscribeEntriesBuf::new();
            let mut names = UnsubscribeFiltersBuf::new();
            for (text, qos, no_local, retain_as_published, handling) in &filters {
                let filter = TopicFilter::parse(text).unwrap();
                let options = if version.is_v5() {
                    SubscriptionOptions {
                        qos: *qos,
                        no_local: *no_local && filter.shared().is_none(),
                        retain_as_published: *retain_as_published,
                        retain_handling: [
                            RetainHandling::Send, RetainHandling::SendIfNew, RetainHandling::DoNotSend,
                        ][usize::from(*handling)],
                    }
                } else {
                    SubscriptionOptions::with_qos(*qos)
                };
                entries.push(SubscribeEntry { filter, options }).unwrap();
                names.push(filter).unwrap();
            }
            let properties: PropertiesBuf =
                identifier.map(Property::SubscriptionIdentifier).into_iter().collect();
            let subscribe = Packet::Subscribe(Subscribe {
                packet_id: id,
                properties: list(&properties, version),
                entries: entries.as_entries(),
            });
            let unsubscribe = Packet::Unsubscribe(Unsubscribe {
                packet_id: id,
                properties: Properties::NONE,
                filters: names.as_filters(),
            });
            for packet in [subscribe, unsubscribe] {
                let bytes = assert_round_trip(&packet, version);
                if version == ProtocolVersion::V311 {
                    assert_second_reader_agrees_v4(&bytes);
                }
            }
        }
    }

    #[test]
    fn answers(
        connack_properties in properties(CONNACK),
        answer_properties in properties(ANSWER),
        disconnect_properties in properties(DISCONNECT),
        session_present: bool,
        id in packet_id(),
        codes in vec(select(vec![0_u8, 1, 2, 0x80]), 1..8),
        method in text(),
    ) {
        for version in VERSIONS {
            let connack = Packet::Connack(Connack {
                session_present,
                reason_code: ReasonCode::Success,
                properties: list(&connack_properties, version),
            });
            let bytes = assert_round_trip(&connack, version);
            let suback = Packet::Suback(Suback {
                kind: SubackKind::Suback,
                packet_id: id,
                properties: list(&answer_properties, version),
                reason_codes: &codes,
            });
            let suback_bytes = assert_round_trip(&suback, version);
            if version == ProtocolVersion::V311 {
                assert_second_reader_agrees_v4(&bytes);
                assert_second_reader_agrees_v4(&suback_bytes);
            }
            let disconnect = Packet::Disconnect(Disconnect {
                reason_code: if version.is_v5() { ReasonCode::ServerMoved } else { ReasonCode::Success },
                properties: list(&disconnect_properties, version),
            });
            assert_round_trip(&disconnect, version);
        }
        let mut properties = PropertiesBuf::new();
        properties.push(Property::AuthenticationMethod(&method)).unwrap();
        let auth = Auth { reason_code: ReasonCode::ReAuthenticate, properties: properties.as_properties() };
        assert_round_trip(&Packet::Auth(auth), ProtocolVersion::V5);
    }

    /// A second reader of CONNECT: passwords as text, no wills with odd flags.
    #[test]
    fn a_second_reader_agrees_on_connect(
        client_id in "[a-z0-9]{1,20}",
        login in proptest::option::of(("[a-z]{1,10}", "[a-z0-9]{1,10}")),
        will in proptest::option::of((qos(), any::<bool>(), topic(), vec(any::<u8>(), 1..32))),
        keep_alive: u16,
    ) {
        let packet = Packet::Connect(Connect {
            protocol_version: ProtocolVersion::V311,
            clean_start: true,
            keep_alive,
            properties: Properties::NONE,
            client_id: &client_id,
            will: will.as_ref().map(|(qos, retain, topic, payload)| Will {
                qos: *qos,
                retain: *retain,
                properties: Properties::NONE,
                topic: TopicName::parse(topic).unwrap(),
                payload,
            }),
            user_name: login.as_ref().map(|(name, _)| name.as_str()),
            password: login.as_ref().map(|(_, password)| password.as_bytes()),
        });
        assert_second_reader_agrees_v4(&encoded(&packet, ProtocolVersion::V311));
    }
}

#[test]
fn a_second_reader_agrees_on_packets_without_content() {
    for packet in [Packet::Pingreq, Packet::Pingresp] {
        assert_second_reader_agrees_v4(&assert_round_trip(&packet, ProtocolVersion::V311));
    }
}

#[test]
fn a_field_that_is_too_long_is_an_error_and_writes_nothing() {
    let long = "x".repeat(65_536);
    let mut properties = PropertiesBuf::new();
    properties.push(Property::ReasonString("why")).unwrap();
    let before = properties.clone();
    assert!(properties.push(Property::UserProperty(("name", &long))).is_err());
    assert_eq!(properties, before);
    let mut out = vec![1, 2, 3];
    let connect = Connect {
        protocol_version: ProtocolVersion::V5,
        clean_start: true,
        keep_alive: 0,
        properties: Properties::NONE,
        client_id: &long,
        will: None,
        user_name: None,
        password: None,
    };
    assert!(Packet::Connect(connect).encode(ProtocolVersion::V5, &mut out).is_err());
    assert_eq!(out, [1, 2, 3]);
}
