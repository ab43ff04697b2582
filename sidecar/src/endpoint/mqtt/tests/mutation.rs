//! Valid packets, and what becomes of them when bytes change.

use proptest::prelude::*;

/// Any string that a packet may carry.
fn text() -> impl Strategy<Value = Vec<u8>> {
    "[^\u{0}]{0,12}".prop_map(|text: String| field(text.as_bytes()))
}

/// A topic name without wildcards.
fn topic() -> impl Strategy<Value = Vec<u8>> {
    "[^\u{0}+#]{1,20}".prop_map(|text: String| field(text.as_bytes()))
}

fn field(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap();
    [&length.to_be_bytes()[..], bytes].concat()
}

/// A packet with its Remaining Length.
pub(super) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    let mut length = body.len();
    loop {
        let digit = (length % 128) as u8;
        length /= 128;
        out.push(if length > 0 { digit | 0x80 } else { digit });
        if length == 0 {
            break;
        }
    }
    out.extend_from_slice(body);
    out
}

/// The properties of a PUBLISH, each at most once but for user properties, with their length.
fn properties() -> impl Strategy<Value = Vec<u8>> {
    let optional = |strategy: BoxedStrategy<Vec<u8>>| prop_oneof![2 => Just(Vec::new()), 1 => strategy];
    let with = |id: u8, strategy: BoxedStrategy<Vec<u8>>| {
        strategy.prop_map(move |value| [&[id][..], &value].concat()).boxed()
    };
    let parts = (
        optional(with(0x01, (0..2_u8).prop_map(|value| vec![value]).boxed())),
        optional(with(0x02, any::<[u8; 4]>().prop_map(|value| value.to_vec()).boxed())),
        optional(with(0x03, text().boxed())),
        optional(with(0x08, topic().boxed())),
        optional(with(0x09, prop::collection::vec(any::<u8>(), 0..20).prop_map(|data| field(&data)).boxed())),
        optional(with(0x23, (1..=32_u8).prop_map(|alias| vec![0, alias]).boxed())),
        prop::collection::vec(
            (text(), text()).prop_map(|(name, value)| [&[0x26][..], &name, &value].concat()),
            0..3,
        ),
    );
    parts.prop_map(|(a, b, c, d, e, f, users)| {
        let all = [a, b, c, d, e, f, users.concat()].concat();
        // With the length in front, which `packet` writes after its first byte.
        packet(0, &all).split_off(1)
    })
}

fn publish(five: bool) -> impl Strategy<Value = Vec<u8>> {
    let payload = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..64),
        1 => (0..18_000_usize).prop_map(|length| vec![b'x'; length]),
    ];
    (0..3_u8, 1..=u16::MAX, any::<bool>(), topic(), properties(), payload).prop_map(
        move |(qos, id, retain, topic, properties, payload)| {
            let mut body = topic;
            if qos > 0 {
                body.extend(id.to_be_bytes());
            }
            if five {
                body.extend(properties);
            }
            body.extend(payload);
            packet(0x30 | qos << 1 | u8::from(retain), &body)
        },
    )
}

fn subscribe(five: bool) -> impl Strategy<Value = Vec<u8>> {
    let filters = prop::collection::vec(("[a-z/+#$]{1,10}", 0..3_u8), 1..4);
    (any::<bool>(), 1..=u16::MAX, filters).prop_map(move |(subscribe, id, filters)| {
        let mut body = id.to_be_bytes().to_vec();
        if five {
            body.push(0);
        }
        for (filter, options) in filters {
            body.extend(field(filter.as_bytes()));
            if subscribe {
                body.push(options);
            }
        }
        packet(if subscribe { 0x82 } else { 0xA2 }, &body)
    })
}

/// A CONNECT of either version.
pub(super) fn connect(five: bool) -> impl Strategy<Value = Vec<u8>> {
    (text(), any::<u16>(), any::<bool>()).prop_map(move |(client_id, keep_alive, clean)| {
        let mut body = b"\x00\x04MQTT".to_vec();
        body.extend([if five { 5 } else { 4 }, if clean { 2 } else { 0 }]);
        body.extend(keep_alive.to_be_bytes());
        if five {
            body.extend([5, 0x11, 0, 0, 0, 9]);
        }
        body.extend(client_id);
        packet(0x10, &body)
    })
}

/// Any packet that a client may send after CONNECT.
pub(super) fn any_packet(five: bool) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => publish(five),
        2 => subscribe(five),
        1 => (1..=u16::MAX).prop_map(|id| packet(0x62, &id.to_be_bytes())),
        1 => Just(vec![0xC0, 0]),
    ]
}

/// A change of a stream's bytes.
#[derive(Clone, Debug)]
pub(super) enum Mutation {
    Flip(prop::sample::Index, u8),
    Remove(prop::sample::Index),
    Insert(prop::sample::Index, u8),
    Cut(prop::sample::Index),
}

impl Mutation {
    pub(super) fn any() -> impl Strategy<Value = Self> {
        prop_oneof![
            4 => (any::<prop::sample::Index>(), 1..=u8::MAX).prop_map(|(place, bits)| Self::Flip(place, bits)),
            1 => any::<prop::sample::Index>().prop_map(Self::Remove),
            1 => (any::<prop::sample::Index>(), any::<u8>()).prop_map(|(place, byte)| Self::Insert(place, byte)),
            1 => any::<prop::sample::Index>().prop_map(Self::Cut),
        ]
    }

    pub(super) fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let place = |index: &prop::sample::Index| index.index(bytes.len());
        match self {
            Self::Flip(index, bits) => {
                let place = place(index);
                bytes[place] ^= bits;
            }
            Self::Remove(index) => {
                let place = place(index);
                bytes.remove(place);
            }
            Self::Insert(index, byte) => {
                let place = place(index);
                bytes.insert(place, *byte);
            }
            Self::Cut(index) => {
                let place = place(index);
                bytes.truncate(place);
            }
        }
    }
}
