//! The two messages of gRPC, against a reader and a writer of protobuf that share no code with ours.

mod responses;
mod wire;

use std::collections::BTreeSet;

use penstock_model::AckLevel;

use super::random::Random;
use super::*;
use crate::protobuf::{AppendMessage, decode_append_request};
use wire::{Bytes, Fixed32, Fixed64, Held, Number, field, message, take_field, text, varint};

/// What a request reads as, with the body's own bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Read {
    token: Option<String>,
    coding: Coding,
    body: Vec<u8>,
    sent_at_us: Option<i64>,
    ack: Option<AckLevel>,
}

fn expected(mut rest: &[u8]) -> Result<Read, Code> {
    let mut read = Read::default();
    while !rest.is_empty() {
        match take_field(&mut rest).ok_or(Code::InvalidMessage)? {
            (1, Bytes(token)) => {
                let token = String::from_utf8(token).map_err(|_| Code::InvalidMessage)?;
                read.token = Some(token).filter(|token| !token.is_empty());
            }
            (2, Number(coding)) => {
                let codings = [
                    Coding::Unspecified,
                    Coding::Identity,
                    Coding::Gzip,
                    Coding::Zstd,
                ];
                let named = codings.into_iter().find(|known| *known as u64 == coding);
                read.coding = named.ok_or(Code::UnsupportedCoding)?;
            }
            (3, Bytes(body)) => read.body = body,
            (4, Number(milliseconds)) => {
                let milliseconds = i128::from(milliseconds.cast_signed());
                let limits = i128::from(i64::MIN)..=i128::from(i64::MAX);
                let us = (milliseconds * 1_000).clamp(*limits.start(), *limits.end());
                read.sent_at_us = Some(i64::try_from(us).unwrap());
            }
            (5, Number(0)) => read.ack = None,
            (5, Number(level)) => {
                let levels = [AckLevel::Memory, AckLevel::Disk, AckLevel::Table];
                let named = levels.into_iter().find(|known| *known as u64 == level);
                read.ack = Some(named.ok_or(Code::InvalidMessage)?);
            }
            (1..=5, _) => return Err(Code::InvalidMessage),
            _ => {}
        }
    }
    Ok(read)
}

fn found(message: &[u8]) -> Result<Read, Code> {
    let AppendMessage {
        token,
        coding,
        body,
        sent_at_us,
        ack,
    } = decode_append_request(message).map_err(|refusal| refusal.code)?;
    Ok(Read {
        token,
        coding,
        body: message[body].to_vec(),
        sent_at_us,
        ack,
    })
}

/// All fields, with unknown ones of each wire type before, between and behind.
fn full() -> Vec<(u64, Held)> {
    vec![
        (6, text("typed events of a later version")),
        (1, text("phc_a")),
        (15, Number(u64::MAX)),
        (2, Number(2)),
        (16, Fixed32(*b"four")),
        (3, text(r#"{"batch":[]}"#)),
        ((1 << 29) - 1, Fixed64(*b"eight by")),
        (4, Number(1_767_225_600_123)),
        (5, Number(3)),
        (100, text("")),
    ]
}

/// All of these tests go by numbers; these are the ones that clients are built from.
#[test]
fn the_numbers_here_are_those_of_the_definitions() {
    let definitions = include_str!("../../../../proto/penstock/v1/ingest.proto");
    for line in [
        "string token = 1;",
        "ContentCoding coding = 2;",
        "bytes body = 3;",
        "optional int64 sent_at_unix_ms = 4;",
        "AckLevel ack = 5;",
        "uint64 log_position = 1;",
        "AckLevel reached = 2;",
        "uint32 accepted = 3;",
        "uint32 duplicates = 4;",
        "repeated EventOutcome exceptions = 5;",
        "uint32 index = 1;",
        "Outcome outcome = 2;",
        "string code = 3;",
        "string detail = 4;",
        "string uuid = 5;",
        "CONTENT_CODING_IDENTITY = 1;",
        "CONTENT_CODING_GZIP = 2;",
        "CONTENT_CODING_ZSTD = 3;",
        "ACK_LEVEL_MEMORY = 1;",
        "ACK_LEVEL_DISK = 2;",
        "ACK_LEVEL_TABLE = 3;",
        "OUTCOME_ACCEPTED = 1;",
        "OUTCOME_DUPLICATE = 2;",
        "OUTCOME_REJECTED = 3;",
    ] {
        assert!(
            definitions.lines().any(|defined| defined.trim() == line),
            "{line}"
        );
    }
}

#[test]
fn every_field_is_read_and_unknown_ones_are_skipped() {
    let read = Read {
        token: Some("phc_a".to_owned()),
        coding: Coding::Gzip,
        body: br#"{"batch":[]}"#.to_vec(),
        sent_at_us: Some(1_767_225_600_123_000),
        ack: Some(AckLevel::Table),
    };
    assert_eq!(found(&message(&full())), Ok(read.clone()));
    let known: Vec<_> = full()
        .into_iter()
        .filter(|(number, _)| *number <= 5)
        .collect();
    assert_eq!(found(&message(&known)), Ok(read.clone()));
    // The order means nothing.
    let reversed: Vec<_> = full().into_iter().rev().collect();
    assert_eq!(found(&message(&reversed)), Ok(read.clone()));
    // As the definitions say, byte for byte: nothing here was written by our own test.
    let bytes =
        b"\x0a\x05phc_a\x10\x02\x1a\x02{}\x20\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x28\x02";
    let read = Read {
        body: b"{}".to_vec(),
        sent_at_us: Some(-1_000),
        ack: Some(AckLevel::Disk),
        ..read
    };
    assert_eq!(found(bytes), Ok(read));
}

#[test]
fn absent_and_empty_fields_read_alike() {
    assert_eq!(found(b""), Ok(Read::default()));
    let empty = [(1, text("")), (2, Number(0)), (3, text("")), (5, Number(0))];
    assert_eq!(found(&message(&empty)), Ok(Read::default()));
    // But a time of zero was told.
    assert_eq!(
        found(&message(&[(4, Number(0))])).unwrap().sent_at_us,
        Some(0)
    );
}

#[test]
fn the_last_of_repeated_fields_wins() {
    let mut fields = full();
    fields.extend([(1, text("phc_b")), (2, Number(1)), (3, text("[]"))]);
    fields.extend([(4, Number(7)), (5, Number(1))]);
    let read = found(&message(&fields)).unwrap();
    let expected = Read {
        token: Some("phc_b".to_owned()),
        coding: Coding::Identity,
        body: b"[]".to_vec(),
        sent_at_us: Some(7_000),
        ack: Some(AckLevel::Memory),
    };
    assert_eq!(read, expected);
    fields.extend([(1, text("")), (2, Number(0)), (3, text("")), (5, Number(0))]);
    let read = found(&message(&fields)).unwrap();
    assert_eq!(
        read,
        Read {
            sent_at_us: Some(7_000),
            ..Read::default()
        }
    );
}

#[test]
fn a_message_cut_inside_of_a_field_is_refused() {
    let whole = message(&full());
    let mut borders = BTreeSet::from([0]);
    for (number, held) in full() {
        borders.insert(borders.last().unwrap() + field(number, &held).len());
    }
    for end in 0..=whole.len() {
        let read = found(&whole[..end]);
        assert_eq!(read, expected(&whole[..end]));
        assert_eq!(read.is_ok(), borders.contains(&end), "cut at {end}");
    }
}

#[test]
fn numbers_of_more_than_64_bits_are_refused() {
    let tag = varint(4 << 3);
    let number = |bytes: &[u8]| found(&[&tag, bytes].concat()).map(|read| read.sent_at_us);
    let nines = [0xff; 9];
    assert_eq!(number(&[&nines[..], b"\x01"].concat()), Ok(Some(-1_000)));
    assert_eq!(
        number(&[&nines[..], b"\x02"].concat()),
        Err(Code::InvalidMessage)
    );
    assert_eq!(
        number(&[&nines[..], b"\x7f"].concat()),
        Err(Code::InvalidMessage)
    );
    assert_eq!(
        number(&[&nines[..], b"\x81\x00"].concat()),
        Err(Code::InvalidMessage)
    );
    assert_eq!(number(&[0x80; 30]), Err(Code::InvalidMessage));
    // Longer than needed is no overflow.
    assert_eq!(
        number(b"\x81\x80\x80\x80\x80\x80\x80\x80\x80\x00"),
        Ok(Some(1_000))
    );
    assert_eq!(
        number(b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00"),
        Err(Code::InvalidMessage)
    );
    // What is skipped is read as strictly.
    let skipped = [varint(9 << 3), nines.to_vec(), b"\x02".to_vec()].concat();
    assert_eq!(found(&skipped), Err(Code::InvalidMessage));
}

#[test]
fn lengths_beyond_the_message_are_refused() {
    for number in [1, 3, 9] {
        let with_len = |len| [varint(number << 3 | 2), varint(len), b"abc".to_vec()].concat();
        assert!(found(&with_len(3)).is_ok());
        for len in [4, 5, 1 << 31, 1 << 32, u64::MAX - 3, u64::MAX] {
            assert_eq!(
                found(&with_len(len)),
                Err(Code::InvalidMessage),
                "{len} of {number}"
            );
        }
    }
}

#[test]
fn fields_of_no_number_or_another_type_are_refused() {
    for number in [0, 1 << 29, 1 << 32, u64::MAX >> 3] {
        assert_eq!(
            found(&field(number, &Number(1))),
            Err(Code::InvalidMessage),
            "{number}"
        );
    }
    // Groups and what never was.
    for number in [1, 5, 6, 1_000] {
        for wire_type in [3, 4, 6, 7] {
            let message = [varint(number << 3 | wire_type), vec![0; 16]].concat();
            assert_eq!(
                found(&message),
                Err(Code::InvalidMessage),
                "{wire_type} of {number}"
            );
        }
    }
    let held = [Number(1), Fixed64([1; 8]), text("\x01"), Fixed32([1; 4])];
    for (number, right) in [(1, 2), (2, 0), (3, 2), (4, 0), (5, 0)] {
        for (place, held) in held.iter().enumerate() {
            let is_right = place == right;
            assert_eq!(
                found(&field(number, held)).is_ok(),
                is_right,
                "{held:?} of {number}"
            );
        }
    }
}

#[test]
fn enum_values_that_nobody_defined_are_refused() {
    // 258 would be 2 if the upper bits were lost.
    for value in [4, 255, 256, 258, 1 << 32 | 2, i32::MAX as u64, u64::MAX] {
        assert_eq!(
            found(&field(2, &Number(value))),
            Err(Code::UnsupportedCoding),
            "{value}"
        );
        assert_eq!(
            found(&field(5, &Number(value))),
            Err(Code::InvalidMessage),
            "{value}"
        );
    }
    for value in 0..4 {
        assert_eq!(
            found(&field(2, &Number(value))).unwrap().coding as u64,
            value
        );
        let level = found(&field(5, &Number(value))).unwrap().ack;
        assert_eq!(level.map_or(0, |level| level as u64), value);
    }
}

#[test]
fn times_beyond_the_range_of_microseconds_saturate() {
    for (milliseconds, us) in [
        (-1, -1_000),
        (i64::MAX / 1_000, i64::MAX / 1_000 * 1_000),
        (i64::MAX / 1_000 + 1, i64::MAX),
        (i64::MAX, i64::MAX),
        (i64::MIN, i64::MIN),
    ] {
        let message = field(4, &Number(milliseconds.cast_unsigned()));
        assert_eq!(
            found(&message).unwrap().sent_at_us,
            Some(us),
            "{milliseconds}"
        );
    }
}

#[test]
fn a_token_is_any_utf8_and_nothing_else() {
    for token in [" phc_a ", "é", "\0", "🦔"] {
        assert_eq!(
            found(&field(1, &text(token))).unwrap().token.as_deref(),
            Some(token)
        );
    }
    for token in [&b"\xff"[..], b"phc_\xc3", b"\xed\xa0\x80"] {
        assert_eq!(
            found(&field(1, &Bytes(token.to_vec()))),
            Err(Code::InvalidMessage)
        );
    }
    // A body is bytes.
    assert_eq!(
        found(&field(3, &Bytes(b"\xff\0".to_vec()))).unwrap().body,
        b"\xff\0"
    );
}

#[test]
fn the_body_is_decoded_where_it_lies_in_the_message() {
    let body = batch_of(r#"{"event":"e","distinct_id":"d"}"#);
    for bytes in [body.clone().into_bytes(), gzip(body.as_bytes())] {
        let whole = message(&[(2, Number(0)), (3, Bytes(bytes)), (9, text("more"))]);
        let range = decode_append_request(&whole).unwrap().body;
        let payload = Payload::new(whole).slice(range);
        let context = RequestContext {
            endpoint: Endpoint::GrpcAppend,
            ..context()
        };
        let batch = decode_request(&payload, &context, &mut Workspace::default()).unwrap();
        assert_eq!(batch.view().get(batch.events[0].event), "e");
    }
}

fn random_held(random: &mut Random, number: u64) -> Held {
    let small = random.next() % 5;
    let any = random.next() >> random.below(64);
    let len = random.below(20);
    match number {
        2 | 5 if !random.one_in(4) => Number(small),
        1 | 3 if !random.one_in(8) => text(random.pick(&["", "phc_a", "{\"batch\":[]}", "é"])),
        4 if !random.one_in(8) => Number(any),
        _ => match random.below(4) {
            0 => Number(any),
            1 => Fixed64(any.to_le_bytes()),
            2 => Bytes(vec![0xc3; len]),
            _ => Fixed32([0xff; 4]),
        },
    }
}

#[test]
fn random_and_damaged_messages_read_as_the_definitions_say() {
    let (mut read, mut refused) = (0, 0);
    for seed in 0..40_000 {
        let mut random = Random::new(seed);
        let mut fields = Vec::new();
        for _ in 0..random.below(8) {
            let number = [1, 2, 3, 4, 5, 6, 15, 16, 4_000][random.below(9)];
            fields.push((number, random_held(&mut random, number)));
        }
        let mut message = message(&fields);
        if random.one_in(2) && !message.is_empty() {
            let at = random.below(message.len());
            match random.below(3) {
                0 => message.truncate(at),
                1 => message[at] ^= 1 << random.below(8),
                _ => message.insert(at, [0, 0x7f, 0x80, 0xff][random.below(4)]),
            }
        }
        let expected = expected(&message);
        assert_eq!(
            found(&message),
            expected,
            "seed {seed}: b\"{}\"",
            message.escape_ascii()
        );
        *(if expected.is_ok() {
            &mut read
        } else {
            &mut refused
        }) += 1;
    }
    assert!(
        read > 5_000 && refused > 5_000,
        "{read} read, {refused} refused"
    );
}
