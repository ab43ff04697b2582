//! Arbitrary and mutated streams, split at arbitrary places.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::super::codec::{Packet, Version, refusal_version};
use super::mutation::{Mutation, any_packet, connect};
use super::stream::{split, whole};

const VERSIONS: [Option<Version>; 3] = [None, Some(Version::V3), Some(Version::V5)];

/// A stream as a client sends it, in one of both versions.
fn good_stream() -> impl Strategy<Value = (bool, Vec<u8>)> {
    any::<bool>().prop_flat_map(|five| {
        (connect(five), prop::collection::vec(any_packet(five), 0..8))
            .prop_map(move |(connect, packets)| (five, [connect, packets.concat()].concat()))
    })
}

/// The same, with some bytes changed.
fn bad_stream() -> impl Strategy<Value = Vec<u8>> {
    (good_stream(), prop::collection::vec(Mutation::any(), 1..4)).prop_map(|((_, mut bytes), mutations)| {
        mutations.iter().for_each(|mutation| mutation.apply(&mut bytes));
        bytes
    })
}

fn pieces() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![3 => 1..40_usize, 1 => 1..20_000_usize], 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_good_stream_is_its_packets_however_it_is_split(
        (_, bytes) in good_stream(),
        pieces in pieces(),
        refuse_every in 0..4_usize,
    ) {
        let expected = whole(None, &bytes);
        prop_assert_eq!(expected.end, None, "{:?}", expected.packets);
        prop_assert_eq!(split(None, &bytes, &pieces, refuse_every), expected);
    }

    #[test]
    fn a_bad_stream_ends_in_the_same_way_however_it_is_split(
        bytes in bad_stream(),
        pieces in pieces(),
        refuse_every in 0..4_usize,
    ) {
        prop_assert_eq!(split(None, &bytes, &pieces, refuse_every), whole(None, &bytes));
    }

    #[test]
    fn any_bytes_end_in_the_same_way_however_they_are_split(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        pieces in pieces(),
        version in prop::sample::select(&VERSIONS[..]),
    ) {
        prop_assert_eq!(split(version, &bytes, &pieces, 0), whole(version, &bytes));
    }
}

proptest! {
    #[test]
    fn any_bytes_are_a_packet_or_not(bytes: Vec<u8>, version in prop::sample::select(&VERSIONS[..])) {
        let _ = Packet::decode(version, &bytes);
        let _ = refusal_version(&bytes);
    }
}

/// As long as it is told to, streams that nobody has seen: `PENSTOCK_FUZZ_SECONDS=600`. The seed is printed; a stream that
/// fails is printed and shrunk by `a_bad_stream_ends_in_the_same_way_however_it_is_split`, to which it belongs.
#[test]
fn new_streams_for_as_long_as_wanted() {
    let seconds = std::env::var("PENSTOCK_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut runner = TestRunner::default();
    let (streams, pieces) = (bad_stream(), pieces());
    let mut count = 0_u64;
    while Instant::now() < end {
        let mut stream = streams.new_tree(&mut runner).unwrap().current();
        for mutation in 0..4 {
            let seen = whole(None, &stream);
            let bytes = stream.len();
            let pieces = pieces.new_tree(&mut runner).unwrap().current();
            if mutation == 0 {
                assert_eq!(split(None, &stream, &pieces, 2), seen, "{stream:x?} in {pieces:?}");
            }
            assert!(seen.packets.len() <= bytes / 2, "{stream:x?}");
            Mutation::any().new_tree(&mut runner).unwrap().current().apply(&mut stream);
            count += 1;
        }
    }
    println!("{count} streams in {seconds} s");
    assert!(count > 0);
}
