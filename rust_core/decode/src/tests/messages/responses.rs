//! `AppendResponse`, written.

use penstock_model::AckLevel;

use super::wire::{Bytes, Held, Number, message, take_all, text};
use super::*;
use crate::protobuf::{ExceptionRow, encode_append_response};

/// The bytes of a response by the definitions: zeros and empty texts are left out.
fn response(numbers: [u64; 4], rows: &[(u64, u64, [&str; 3])]) -> Vec<u8> {
    let is_set = |(_, held): &(u64, Held)| *held != Number(0) && *held != text("");
    let numbers = numbers.map(Number);
    let mut fields: Vec<_> = (1..).zip(numbers).filter(is_set).collect();
    for (index, outcome, texts) in rows {
        let held = [Number(*index), Number(*outcome)]
            .into_iter()
            .chain(texts.map(text));
        let row: Vec<_> = (1..).zip(held).filter(is_set).collect();
        fields.push((5, Bytes(message(&row))));
    }
    message(&fields)
}

#[test]
fn a_response_is_written_byte_for_byte() {
    assert_eq!(
        encode_append_response(1, AckLevel::Disk, 2, 0, &[]),
        b"\x08\x01\x10\x02\x18\x02"
    );
    let row = ExceptionRow {
        index: 300,
        outcome: Outcome::Rejected(Code::EventTooDeep),
        code: "c",
        detail: "",
        uuid: "u",
    };
    assert_eq!(
        encode_append_response(0, AckLevel::Memory, 0, 1, &[row]),
        b"\x10\x01\x20\x01\x2a\x0b\x08\xac\x02\x10\x03\x1a\x01c\x2a\x01u"
    );
    let most = encode_append_response(u64::MAX, AckLevel::Table, u32::MAX, u32::MAX, &[]);
    let most_of_u32 = u64::from(u32::MAX);
    assert_eq!(most, response([u64::MAX, 3, most_of_u32, most_of_u32], &[]));
}

#[test]
fn every_outcome_has_the_number_of_its_definition() {
    let outcomes = [(Outcome::Accepted, 1), (Outcome::Duplicate, 2)];
    let rejected = Code::ALL.iter().map(|code| (Outcome::Rejected(*code), 3));
    for (outcome, number) in outcomes.into_iter().chain(rejected) {
        let row = ExceptionRow {
            index: 0,
            outcome,
            code: "",
            detail: "",
            uuid: "",
        };
        let bytes = encode_append_response(0, AckLevel::Disk, 0, 0, &[row]);
        let expected = vec![(2, Number(2)), (5, Bytes(message(&[(2, Number(number))])))];
        assert_eq!(take_all(&bytes), expected, "{outcome:?}");
    }
}

#[test]
fn responses_of_any_size_read_back_as_they_were_meant() {
    // Around the sizes where a length takes one more byte.
    let details: Vec<_> = [0, 1, 100, 127, 128, 16_383, 16_384]
        .map(|len| "é".repeat(len))
        .into();
    for seed in 0..2_000 {
        let mut random = Random::new(seed);
        let numbers = [(); 4].map(|()| random.next() >> random.below(64));
        let [position, _, accepted, duplicates] = numbers.map(|number| number & 0xffff_ffff);
        let position = position << 20;
        let level = [AckLevel::Memory, AckLevel::Disk, AckLevel::Table][random.below(3)];
        let mut rows = Vec::new();
        let mut exceptions = Vec::new();
        for _ in 0..random.below(6) {
            let index = u32::try_from(random.next() >> 32 >> random.below(32)).unwrap();
            let detail = details[random.below(details.len())].as_str();
            let code = random.pick(&["", "a", "some_code"]);
            let uuid = random.pick(&["", "0192f3a4-b5c6-7d8e-9f00-1122334455ff"]);
            let is_duplicate = random.one_in(2);
            let outcome = if is_duplicate {
                Outcome::Duplicate
            } else {
                Outcome::Rejected(Code::NotAnObject)
            };
            exceptions.push(ExceptionRow {
                index,
                outcome,
                code,
                detail,
                uuid,
            });
            let number = if is_duplicate { 2 } else { 3 };
            rows.push((u64::from(index), number, [code, detail, uuid]));
        }
        let narrow = |number: u64| u32::try_from(number).unwrap();
        let bytes = encode_append_response(
            position,
            level,
            narrow(accepted),
            narrow(duplicates),
            &exceptions,
        );
        let numbers = [position, level as u64, accepted, duplicates];
        assert_eq!(bytes, response(numbers, &rows), "seed {seed}");
        // And the bytes say it to a reader too, whatever wrote them.
        let parts = take_all(&bytes);
        let found: Vec<_> = parts.iter().filter(|(number, _)| *number == 5).collect();
        assert_eq!(found.len(), rows.len());
        for ((_, held), (index, outcome, texts)) in found.into_iter().zip(rows) {
            let Bytes(row) = held else {
                panic!("a row is a message")
            };
            let of = |number| {
                take_all(row)
                    .into_iter()
                    .find(|(found, _)| *found == number)
            };
            assert_eq!(of(1).map_or(Number(0), |(_, held)| held), Number(index));
            assert_eq!(of(2).unwrap().1, Number(outcome));
            for (number, expected) in (3..).zip(texts) {
                let held = of(number).map_or(text(""), |(_, held)| held);
                assert_eq!(held, text(expected));
            }
        }
    }
}
