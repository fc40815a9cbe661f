//! Frames and their bytes: round trips, strictness, tolerance for what is newer.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use proptest::prelude::*;
use wire::*;

fn encoded(frame: &ClientFrame<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes);
    bytes
}

/// A frame of one body; bodies here are shorter than 128 bytes.
fn envelope(number: u8, body: &[u8]) -> Vec<u8> {
    let length = u8::try_from(body.len()).unwrap();
    let tag = u16::from(number) << 3 | 2;
    let low = u8::try_from(tag & 0x7f).unwrap();
    match u8::try_from(tag >> 7).unwrap() {
        0 => [&[low, length], body].concat(),
        high => [&[low | 0x80, high, length], body].concat(),
    }
}

proptest! {
    #[test]
    fn client_frames_come_back_as_they_were(parts in support::parts()) {
        let frame = parts.client_frame();
        let mut bytes = vec![0xaa; 3];
        frame.encode(&mut bytes);
        prop_assert_eq!(&bytes[..3], &[0xaa; 3], "encode appends");
        prop_assert_eq!(frame.encoded_len(), bytes.len() - 3);
        prop_assert_eq!(ClientFrame::decode(&bytes[3..]), Ok(frame));
    }

    #[test]
    fn server_frames_come_back_as_they_were(parts in support::parts()) {
        let frame = parts.server_frame();
        let mut bytes = vec![0xaa; 3];
        frame.encode(&mut bytes);
        prop_assert_eq!(&bytes[..3], &[0xaa; 3], "encode appends");
        prop_assert_eq!(frame.encoded_len(), bytes.len() - 3);
        prop_assert_eq!(ServerFrame::decode(&bytes[3..]), Ok(frame));
    }

    #[test]
    fn a_frame_cut_short_is_refused(
        parts in support::parts(),
        cut in any::<prop::sample::Index>(),
    ) {
        let bytes = encoded(&parts.client_frame());
        let cut = cut.index(bytes.len());
        prop_assert!(ClientFrame::decode(&bytes[..cut]).is_err());
    }

    #[test]
    fn damaged_frames_never_panic(
        parts in support::parts(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = encoded(&parts.client_frame());
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = ClientFrame::decode(&bytes);
        let _ = ServerFrame::decode(&bytes);
        bytes.clear();
        parts.server_frame().encode(&mut bytes);
        let at = at.min(bytes.len() - 1);
        bytes[at] = byte;
        let _ = ServerFrame::decode(&bytes);
        let _ = ClientFrame::decode(&bytes);
    }

    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = ClientFrame::decode(&bytes);
        let _ = ServerFrame::decode(&bytes);
    }

    #[test]
    fn unknown_fields_are_skipped(
        parts in support::parts(),
        number in 20_u8..31,
        value in 0_u8..128,
    ) {
        let mut bytes = encoded(&parts.client_frame());
        // A varint field behind the body, and a length-delimited one before it.
        bytes.extend([0x80 | (number << 3 & 0x7f), number >> 4, value]);
        let before = [0x82 | (number << 3 & 0x7f), number >> 4, 1, value];
        let bytes = [&before[..], &bytes].concat();
        prop_assert_eq!(ClientFrame::decode(&bytes), Ok(parts.client_frame()));
    }
}

#[test]
fn unknown_fields_inside_bodies_are_skipped() {
    // Ack { up_to: 1, 15: varint 7, 14: bytes "x", 13: fixed32, 12: group { 1: 1 } }
    let body = [
        &[0x11, 1, 0, 0, 0, 0, 0, 0, 0][..],
        &[15 << 3, 7],
        &[14 << 3 | 2, 1, b'x'],
        &[13 << 3 | 5, 1, 2, 3, 4],
        &[12 << 3 | 3, 8, 1, 12 << 3 | 4],
    ]
    .concat();
    let ack = ClientFrame::Ack(Ack { stream: None, up_to: 1 });
    assert_eq!(ClientFrame::decode(&envelope(4, &body)), Ok(ack));
}

#[test]
fn exactly_one_known_body_is_accepted() {
    assert_eq!(ClientFrame::decode(&[]), Err(DecodeError::NoBody));
    assert_eq!(ClientFrame::decode(&envelope(13, &[])), Err(DecodeError::UnknownFrame));
    assert_eq!(ServerFrame::decode(&envelope(19, &[])), Err(DecodeError::UnknownFrame));
    let ping = envelope(6, &[]);
    assert_eq!(ClientFrame::decode(&ping), Ok(ClientFrame::Ping(Ping::default())));
    assert_eq!(ClientFrame::decode(&[&ping[..], &ping].concat()), Err(DecodeError::SecondBody));
}

#[test]
fn required_fields_are_required() {
    let missing = |number, body: &[u8]| match ClientFrame::decode(&envelope(number, body)) {
        Err(DecodeError::MissingField(name)) => name,
        other => panic!("{other:?}"),
    };
    assert_eq!(missing(1, &[]), "token");
    assert_eq!(missing(2, &[0x0a, 0]), "token");
    assert_eq!(missing(3, &[0x18, 1]), "client_id");
    assert_eq!(missing(3, &[0x08, 1]), "to");
    assert_eq!(missing(3, &[0x08, 1, 0x18, 0]), "to");
    assert_eq!(missing(3, &[0x08, 1, 0x20, 0]), "to");
    assert_eq!(missing(3, &[0x08, 1, 0x18, 2, 0x42, 0]), "relation.target");
    assert_eq!(missing(3, &[0x08, 1, 0x18, 2, 0x42, 4, 0x12, 2, 0x08, 1]), "relation.target");
    assert_eq!(missing(4, &[0x0a, 0]), "stream");
    assert_eq!(missing(4, &[0x0a, 2, 0x08, 0]), "stream");
    assert_eq!(missing(5, &[0x0a, 2, 0x10, 0]), "stream");
    assert_eq!(missing(7, &[]), "to");
    assert_eq!(missing(8, &[0x0a, 2, 1, 0]), "users");
    assert_eq!(missing(9, &[0x08, 0]), "peers");
    assert_eq!(missing(10, &[0x12, 2, 0x08, 1]), "request");
    assert_eq!(missing(10, &[0x08, 1]), "stream");
    assert_eq!(missing(11, &[]), "request");
    assert_eq!(missing(12, &[0x08, 1, 0x12, 2, 0x08, 1]), "retention");
    assert_eq!(missing(12, &[0x08, 1, 0x12, 2, 0x08, 1, 0x18, 2]), "keep_seconds");
    // Pong (7) and ReadSync (11) require nothing.
    for number in [1, 2, 3, 4, 5, 6, 8, 9, 10, 12, 13, 14, 15, 16, 17, 18] {
        let bytes = envelope(number, &[]);
        let decoded = ServerFrame::decode(&bytes);
        assert!(matches!(decoded, Err(DecodeError::MissingField(_))), "{number} {decoded:?}");
    }
}

#[test]
fn a_change_of_a_group_has_no_message_id_and_must_say_what() {
    let decoded = |body: &[u8]| {
        let bytes = envelope(4, body);
        match ServerFrame::decode(&bytes) {
            Ok(ServerFrame::Deliver(deliver)) => Ok((deliver.id.sender, deliver.change)),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error),
        }
    };
    // Deliver { id { sender: 5 } change { what: REMOVED user: 6 } }
    let change = GroupChange { what: Change::Removed, user: 6, role: Role::Member };
    assert_eq!(decoded(&[0x1a, 2, 8, 5, 0x52, 4, 8, 3, 0x10, 6]), Ok((5, Some(change))));
    // By the operator; and no change at all: then an id is required.
    assert_eq!(decoded(&[0x52, 4, 8, 3, 0x10, 6]), Ok((0, Some(change))));
    assert_eq!(decoded(&[0x1a, 2, 8, 5]), Err(DecodeError::MissingField("id")));
    assert_eq!(decoded(&[0x52, 2, 0x10, 6]), Err(DecodeError::MissingField("change.what")));
    assert_eq!(decoded(&[0x52, 2, 8, 8]), Err(DecodeError::OutOfRange("change.what")));
    assert_eq!(decoded(&[0x52, 4, 8, 6, 0x18, 3]), Err(DecodeError::OutOfRange("change.role")));
}

#[test]
fn numbers_beyond_their_type_are_out_of_range() {
    // Send { client_id: 1, user: 2, kind: 2^32 }
    let body = [0x08, 1, 0x18, 2, 0x38, 0x80, 0x80, 0x80, 0x80, 0x10];
    assert_eq!(ClientFrame::decode(&envelope(3, &body)), Err(DecodeError::OutOfRange("kind")));
    // SetRetention { request: 1, stream: user 1, retention: 4 }
    let body = [0x08, 1, 0x12, 2, 0x08, 1, 0x18, 4];
    assert_eq!(
        ClientFrame::decode(&envelope(12, &body)),
        Err(DecodeError::OutOfRange("retention"))
    );
    // Goodbye { reason: 22 }, Refused { client_id: 1, reason: 300 }
    assert_eq!(
        ServerFrame::decode(&envelope(8, &[0x08, 22])),
        Err(DecodeError::OutOfRange("reason"))
    );
    assert_eq!(
        ServerFrame::decode(&envelope(3, &[0x08, 1, 0x10, 0xac, 0x02])),
        Err(DecodeError::OutOfRange("reason"))
    );
}

#[test]
fn a_known_field_of_the_wrong_wire_type_is_malformed() {
    for body in [&[0x0a, 0][..], &[0x09, 0, 0, 0, 0, 0, 0, 0, 1]] {
        assert_eq!(ClientFrame::decode(&envelope(3, body)), Err(DecodeError::Malformed));
    }
    assert_eq!(ClientFrame::decode(&[0x18, 1]), Err(DecodeError::Malformed), "a body as varint");
    assert_eq!(ClientFrame::decode(&envelope(2, &[0x0a, 1, 0xff])), Err(DecodeError::Malformed));
}

#[test]
fn the_last_value_wins_and_sub_messages_merge() {
    // Send { client_id: 9, client_id: 1, confirmed { base: 5 }, user: 2, confirmed { map: 1 },
    //        group: 3 }
    let body = [
        &[0x08, 9, 0x08, 1, 0x12, 2, 0x08, 5, 0x18, 2][..],
        &[0x12, 9, 0x11, 1, 0, 0, 0, 0, 0, 0, 0, 0x20, 3],
    ]
    .concat();
    let bytes = envelope(3, &body);
    let Ok(ClientFrame::Send(send)) = ClientFrame::decode(&bytes) else { panic!() };
    assert_eq!(send.client_id, 1);
    assert_eq!(send.confirmed, Confirmed { base: 5, map: 1 });
    assert_eq!(send.to, Stream::Group(3));
}

#[test]
fn lists_come_packed_or_not_and_stay_bounded() {
    let ask = |peers| ClientFrame::AskReceipts(AskReceipts { peers, groups: false });
    let watch = |users: Vec<u64>| ClientFrame::WatchPresence(WatchPresence { users });
    let bytes = envelope(8, &[0x08, 1, 0x0a, 2, 2, 3, 0x08, 4]);
    assert_eq!(ClientFrame::decode(&bytes), Ok(watch(vec![1, 2, 3, 4])));
    let full = encoded(&watch(vec![7; WATCHED_USERS_MAX]));
    assert!(ClientFrame::decode(&full).is_ok());
    let over = encoded(&watch(vec![7; WATCHED_USERS_MAX + 1]));
    assert_eq!(ClientFrame::decode(&over), Err(DecodeError::TooManyItems));
    let over = encoded(&ask(vec![7; ASKED_PEERS_MAX + 1]));
    assert_eq!(ClientFrame::decode(&over), Err(DecodeError::TooManyItems));
}
