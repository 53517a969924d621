//! Trace exports that no client means to send.

use super::export::{Any, Export, Span, message};
use super::otlp::{read, read_as};
use super::*;

fn nested(depth: usize, map: bool) -> Any {
    let mut value = Any::Text("inside");
    for _ in 0..depth {
        value = if map {
            Any::Map(vec![("k", value)])
        } else {
            Any::List(vec![value])
        };
    }
    value
}

fn with(key: &'static str, value: Any) -> Span {
    let mut span = Span::chat(1);
    span.attributes.push((key, value));
    span
}

fn outcomes_of(batch: &Batch) -> Vec<Outcome> {
    batch.events.iter().map(|event| event.outcome).collect()
}

#[test]
fn values_nested_too_deeply_cost_their_span_alone() {
    for map in [false, true] {
        for (depth, outcome) in [
            (48, Outcome::Accepted),
            (49, Outcome::Rejected(Code::EventTooDeep)),
            (300, Outcome::Rejected(Code::EventTooDeep)),
        ] {
            let batch = read(&Export::of(vec![
                with("deep", nested(depth, map)),
                Span::chat(2),
            ]));
            assert_eq!(outcomes_of(&batch), [outcome, Outcome::Accepted], "{depth}");
        }
    }
}

/// As deep as four mebibytes allow: no stack is used up, and it costs one pass.
#[test]
fn values_nested_a_hundred_thousand_times_are_refused_all_the_same() {
    // Built from inside by prepending heads: (length, tag).
    let mut reversed: Vec<u8> = Vec::new();
    let prepend = |bytes: &mut Vec<u8>, tag: u8| {
        let mut head = vec![tag];
        let mut len = bytes.len();
        while len >= 0x80 {
            head.push(u8::try_from(len & 0x7f).unwrap() | 0x80);
            len >>= 7;
        }
        head.push(u8::try_from(len).unwrap());
        bytes.extend(head.iter().rev());
    };
    for _ in 0..100_000 {
        // AnyValue.array_value of ArrayValue.values.
        prepend(&mut reversed, 1 << 3 | 2);
        prepend(&mut reversed, 5 << 3 | 2);
    }
    reversed.reverse();
    let mut pair = Vec::new();
    message(&mut pair, 1, b"gen_ai.x");
    message(&mut pair, 2, &reversed);
    let mut body = pair;
    for field in [9, 2, 2, 1] {
        let mut outer = Vec::new();
        message(&mut outer, field, &body);
        body = outer;
    }
    assert!(body.len() < 4 << 20);
    let batch = read_as(BodyForm::OtlpProtobuf, body).unwrap();
    assert_eq!(outcomes_of(&batch), [Outcome::Rejected(Code::EventTooDeep)]);

    let level = r#"{"arrayValue":{"values":["#;
    let value = format!("{}{}", level.repeat(40_000), "]}}".repeat(40_000));
    let body = format!(
        r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"attributes":[{{"key":"ai.x","value":{value}}}]}}]}}]}}]}}"#
    );
    let batch = read_as(BodyForm::OtlpJson, body.into()).unwrap();
    assert_eq!(outcomes_of(&batch), [Outcome::Rejected(Code::EventTooDeep)]);
}

/// Each level of JSON is gone over again: one that is both deep and large is cut off.
#[test]
fn nested_values_share_a_budget_of_bytes() {
    let large: &'static str = "x".repeat(1 << 20).leak();
    let levels = |depth: usize| {
        let mut value = Any::Text(large);
        for _ in 0..depth {
            value = Any::List(vec![value]);
        }
        with("deep", value)
    };
    let of = |spans| outcomes_of(&read(&Export::of(spans)));
    let refused = Outcome::Rejected(Code::EventTooDeep);
    assert_eq!(of(vec![levels(31)]), [Outcome::Accepted]);
    assert_eq!(of(vec![levels(32)]), [refused]);
    let three = vec![levels(15), levels(15), levels(15)];
    assert_eq!(of(three), [Outcome::Accepted, Outcome::Accepted, refused]);
}

/// Every prefix is refused or read, none panics; and none gives an event that the whole has not.
#[test]
fn an_export_cut_anywhere_gives_nothing_that_was_not_sent() {
    let export = Export {
        resource: vec![("service.name", Any::Text("shop"))],
        version: "1",
        spans: vec![with("m", nested(3, true)), Span::chat(2)],
    };
    let protobuf = export.protobuf();
    for len in 1..protobuf.len() {
        let refusal = read_as(BodyForm::OtlpProtobuf, protobuf[..len].to_vec()).unwrap_err();
        assert_eq!(refusal.code, Code::InvalidOtlp, "cut at {len}");
    }
    let json = export.json();
    for len in 1..json.len() {
        let refusal = read_as(BodyForm::OtlpJson, json[..len].to_vec()).unwrap_err();
        assert_eq!(refusal.code, Code::InvalidJson, "cut at {len}");
    }
}

#[test]
fn wrong_protobuf_is_refused() {
    let over = [0xff; 10];
    for body in [
        // A number of more than ten bytes, of more than 64 bits, without an end.
        &[&[0x0a], &over[..], &[1]].concat()[..],
        &[&[0x08], &over[..9], &[2]].concat(),
        &[0x0a, 0x80],
        // A length past the end, and past the address space.
        b"\x0a\x7f\x0a",
        &[&[0x0a], &over[..9], &[1]].concat(),
        // Field numbers and wire types that there are not.
        &[0x00, 0x00],
        &[0x0b],
        &[0x0e],
        &[0x0f],
        // `resource_spans` as a number; a number and eight bytes that are cut.
        &[0x08, 0x01],
        &[0x11, 1, 2, 3],
        &[0x15, 1, 2],
        b"{\"resourceSpans\":[]}",
    ] {
        let refusal = read_as(BodyForm::OtlpProtobuf, body.to_vec()).unwrap_err();
        assert_eq!(refusal.code, Code::InvalidOtlp, "{body:?}");
    }
    // Inside of a span that counts: start time as a varint, a value as a fixed number.
    for inside in [
        &b"\x38\x01"[..],
        b"\x4a\x03\x12\x01\x0b",
        b"\x4a\x05\x12\x03\x0d\x00\x00",
    ] {
        let mut span = b"\x4a\x0e\x0a\x08gen_ai.x\x12\x02\x10\x01".to_vec();
        span.extend_from_slice(inside);
        for field in [2, 2, 1] {
            let mut outer = Vec::new();
            message(&mut outer, field, &span);
            span = outer;
        }
        let refusal = read_as(BodyForm::OtlpProtobuf, span).unwrap_err();
        assert_eq!(refusal.code, Code::InvalidOtlp, "{inside:?}");
    }
    // Fields of newer versions are passed by.
    let unknown = b"\xf8\x07\x01\xf9\x07\0\0\0\0\0\0\0\0\xfa\x07\x01x\xfd\x07\0\0\0\0";
    assert!(
        read_as(BodyForm::OtlpProtobuf, unknown.to_vec())
            .unwrap()
            .events
            .is_empty()
    );
}

#[test]
fn json_that_is_no_export_is_refused() {
    for (body, code) in [
        ("[]", Code::InvalidOtlp),
        ("7", Code::InvalidOtlp),
        ("{", Code::InvalidJson),
        ("{}x", Code::InvalidJson),
        (r#"{"resourceSpans":{}}"#, Code::InvalidOtlp),
        (r#"{"resourceSpans":[7]}"#, Code::InvalidOtlp),
        (
            r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"xyz"}]}]}]}"#,
            Code::InvalidOtlp,
        ),
        (
            r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"abc"}]}]}]}"#,
            Code::InvalidOtlp,
        ),
        (
            r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"spanId":7}]}]}]}"#,
            Code::InvalidOtlp,
        ),
        (
            r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"startTimeUnixNano":"-1"}]}]}]}"#,
            Code::InvalidOtlp,
        ),
        (
            r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"startTimeUnixNano":1e99}]}]}]}"#,
            Code::InvalidOtlp,
        ),
        (
            r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"attributes":{}}]}]}]}"#,
            Code::InvalidOtlp,
        ),
        (
            r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"attributes":[{"key":"a","value":{"intValue":"x"}}]}]}]}]}"#,
            Code::InvalidOtlp,
        ),
        (
            r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"attributes":[{"key":"a","value":{"boolValue":"true"}}]}]}]}]}"#,
            Code::InvalidOtlp,
        ),
        (
            r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"attributes":[{"key":"a","value":{"bytesValue":"*"}}]}]}]}]}"#,
            Code::InvalidOtlp,
        ),
        (
            r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"attributes":[{"key":"a","value":{"arrayValue":{"values":1}}}]}]}]}]}"#,
            Code::InvalidOtlp,
        ),
    ] {
        let refusal = read_as(BodyForm::OtlpJson, body.into()).unwrap_err();
        assert_eq!(refusal.code, code, "{body}");
    }
}

/// What spans have in common is written to each: that must not let four mebibytes become hundreds.
#[test]
fn a_resource_can_not_be_multiplied_without_end() {
    let large: &'static str = "r".repeat(1 << 20).leak();
    let export = Export {
        resource: vec![("large", Any::Text(large))],
        ..Export::of(vec![Span::chat(1); 100])
    };
    let batch = read(&export);
    assert!(batch.held_bytes() < 22 << 20, "{}", batch.held_bytes());
    let outcomes = outcomes_of(&batch);
    let accepted = outcomes
        .iter()
        .take_while(|outcome| **outcome == Outcome::Accepted);
    assert_eq!(accepted.count(), 19);
    let rest = &outcomes[19..];
    assert!(
        rest.iter()
            .all(|outcome| *outcome == Outcome::Rejected(Code::EventTooLarge))
    );
    // What was refused still says what it was.
    let view = batch.view();
    assert_eq!(view.get(batch.events[99].event), "$ai_generation");
    assert!(view.get(batch.events[99].raw).contains("\"properties\":{}"));
}

#[test]
fn a_span_over_the_limit_of_an_event_is_refused_alone() {
    // Six bytes each as JSON.
    let controls: &'static str = "\u{1}".repeat(2 << 20).leak();
    let export = Export::of(vec![with("x", Any::Text(controls)), Span::chat(2)]);
    let batch = read_as(BodyForm::OtlpProtobuf, export.protobuf()).unwrap();
    let outcomes = outcomes_of(&batch);
    assert_eq!(
        outcomes,
        [Outcome::Rejected(Code::EventTooLarge), Outcome::Accepted]
    );
}

#[test]
fn attributes_are_counted() {
    let of = |count: usize| {
        let mut span = Span::chat(1);
        span.attributes.resize(count, ("a", Any::Bool(true)));
        read(&Export::of(vec![span, Span::chat(2)]))
    };
    assert_eq!(outcomes_of(&of(10_000)), [Outcome::Accepted; 2]);
    assert_eq!(
        outcomes_of(&of(10_001)),
        [Outcome::Rejected(Code::EventTooLarge), Outcome::Accepted]
    );
}

/// Two bytes each on the wire, and nothing is kept of them.
#[test]
fn millions_of_empty_messages_cost_one_pass() {
    for empty in [b"\x0a\x00", b"\x12\x00"] {
        assert!(
            read_as(BodyForm::OtlpProtobuf, empty.repeat(2 << 20))
                .unwrap()
                .events
                .is_empty()
        );
    }
    let mut spans = Vec::new();
    message(&mut spans, 2, &b"\x12\x00".repeat(1 << 20));
    let mut export = Vec::new();
    message(&mut export, 1, &spans);
    let refusal = read_as(BodyForm::OtlpProtobuf, export).unwrap_err();
    assert_eq!(refusal.code, Code::TooManySpans);
}

#[test]
fn text_that_is_no_utf_8_is_mended_and_said_so() {
    let good = Export::of(vec![with("x", Any::Text("ZZ"))]).protobuf();
    let at = good.windows(2).position(|pair| pair == b"ZZ").unwrap();
    let mut bad = good;
    bad[at] = 0xff;
    let batch = read_as(BodyForm::OtlpProtobuf, bad).unwrap();
    assert_eq!(properties(&batch, 0)["x"], "\u{fffd}Z");
    assert_eq!(warnings(&batch.events[0]), [Warning::InvalidUtf8]);
}

/// Whatever bytes there are, decoding ends, the same way each time, and what it takes is JSON.
#[test]
fn damaged_exports_end_the_same_way_each_time() {
    let export = Export {
        resource: vec![("service.name", Any::Text("shop"))],
        version: "1",
        spans: vec![with("m", nested(5, true)), with("l", nested(5, false))],
    };
    let mut random = super::super::random::Random::new(11);
    let forms = [
        (BodyForm::OtlpProtobuf, export.protobuf()),
        (BodyForm::OtlpJson, export.json()),
    ];
    for _ in 0..500 {
        for (form, good) in &forms {
            let mut body = good.clone();
            for _ in 0..=random.below(4) {
                let at = random.below(body.len());
                match random.below(3) {
                    0 => body[at] = u8::try_from(random.below(256)).unwrap(),
                    1 => drop(body.remove(at)),
                    _ => body.insert(at, u8::try_from(random.below(256)).unwrap()),
                }
            }
            let once = read_as(form.clone(), body.clone());
            let again = read_as(form.clone(), body);
            assert_eq!(format!("{once:?}"), format!("{again:?}"));
            if let Ok(batch) = once {
                let view = batch.view();
                for event in &batch.events {
                    serde_json::from_str::<serde_json::Value>(view.get(event.raw)).unwrap();
                }
            }
        }
    }
}
