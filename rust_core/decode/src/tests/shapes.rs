//! Envelopes: which documents hold events, and that one bad event harms only itself.

use super::*;

const EVENT: &str = r#"{"event":"e","distinct_id":"d"}"#;

#[test]
fn the_three_shapes_give_the_same_events() {
    for (body, count) in [
        (
            r#"{"api_key":"phc_a","event":"e","distinct_id":"d"}"#.to_owned(),
            1,
        ),
        (
            r#"[{"api_key":"phc_a","event":"e","distinct_id":"d"}]"#.to_owned(),
            1,
        ),
        (batch_of(EVENT), 1),
        (batch_of(&format!("{EVENT}, {EVENT} ,{EVENT}")), 3),
        (format!("\u{feff} \n {} \r\n", batch_of(EVENT)), 1),
        (
            r#"{"batch":[{"event":"e","distinct_id":"d"}],"token":"phc_a"}"#.to_owned(),
            1,
        ),
    ] {
        let batch = decode(body.clone()).unwrap();
        let view = batch.view();
        assert_eq!(batch.events.len(), count, "{body}");
        assert_eq!(view.get(batch.token), "phc_a");
        for event in &batch.events {
            assert_eq!(event.outcome, Outcome::Accepted, "{body}");
            assert_eq!(view.get(event.event), "e");
            assert_eq!(view.get(event.distinct_id), "d");
            assert_eq!(view.get(event.properties), "{}");
            assert_eq!(warnings(event), []);
        }
    }
}

#[test]
fn an_event_knows_its_own_text() {
    let batch = decode(batch_of(&format!(" {EVENT} , 17"))).unwrap();
    assert_eq!(batch.view().get(batch.events[0].raw), EVENT);
    assert_eq!(batch.view().get(batch.events[1].raw), "17");
}

#[test]
fn fields_of_the_envelope_are_read_wherever_they_stand() {
    let body = r#"{"sent_at":"2026-01-01T00:00:01Z","batch":[],"historical_migration":true,
        "batch":[{"event":"e","distinct_id":"d"}],"api_key":"phc_a","library":{"x":[1]}}"#;
    let batch = decode(body).unwrap();
    assert!(batch.historical);
    assert_eq!(batch.sent_at_us, Some(NOW + 1_000_000));
    assert_eq!(batch.events.len(), 1);
    for other in ["false", "null", "\"true\"", "1"] {
        let body = body.replace("true", other);
        assert!(!decode(body).unwrap().historical, "{other}");
    }
}

#[test]
fn engage_names_its_events_and_other_paths_do_not() {
    let body = r#"{"$token":"phc_a","$distinct_id":"d","$set":{"a":1}}"#;
    let engage = RequestContext {
        endpoint: Endpoint::Engage,
        ..context()
    };
    let batch = decode_with(body, &engage).unwrap();
    assert_eq!(batch.events[0].outcome, Outcome::Accepted);
    assert_eq!(batch.view().get(batch.events[0].event), "$identify");
    assert_eq!(
        batch.view().get(batch.events[0].properties),
        r#"{"$set":{"a":1}}"#
    );
    let batch = decode_with(format!("[{body},{body}]"), &engage).unwrap();
    assert_eq!(batch.view().get(batch.events[1].event), "$identify");
    assert_eq!(outcomes(body), [Outcome::Rejected(Code::MissingEventName)]);
}

#[test]
fn documents_without_events_are_refused_by_name() {
    for (body, code) in [
        ("", Code::MissingPayload),
        (" \r\n\t", Code::MissingPayload),
        ("\u{feff}", Code::MissingPayload),
        ("[]", Code::NoEvents),
        (r#"{"api_key":"phc_a","batch":[]}"#, Code::NoEvents),
        (r#"{"api_key":"phc_a","batch":{}}"#, Code::UnsupportedShape),
        (
            r#"{"api_key":"phc_a","batch":null}"#,
            Code::UnsupportedShape,
        ),
        ("{}", Code::UnsupportedShape),
        (r#"{"status":"Ok"}"#, Code::UnsupportedShape),
        ("[1,2]", Code::UnsupportedShape),
        ("null", Code::UnsupportedShape),
        ("17", Code::UnsupportedShape),
        (r#""text""#, Code::UnsupportedShape),
    ] {
        assert_eq!(refused(body), code, "{body}");
    }
}

#[test]
fn an_event_may_have_a_member_named_batch() {
    let body = r#"{"api_key":"phc_a","event":"e","distinct_id":"d","batch":7}"#;
    assert_eq!(outcomes(body), [Outcome::Accepted]);
}

#[test]
fn one_bad_event_harms_only_itself() {
    for (bad, code) in [
        ("null", Code::NotAnObject),
        ("[]", Code::NotAnObject),
        (r#"{"distinct_id":"d"}"#, Code::MissingEventName),
        (
            r#"{"event":null,"distinct_id":"d"}"#,
            Code::MissingEventName,
        ),
        (r#"{"event":7,"distinct_id":"d"}"#, Code::InvalidEventName),
        (r#"{"event":"","distinct_id":"d"}"#, Code::EmptyEventName),
        (r#"{"event":"e"}"#, Code::MissingDistinctId),
        (
            r#"{"event":"e","distinct_id":" "}"#,
            Code::MissingDistinctId,
        ),
        (
            r#"{"event":"e","distinct_id":"d","uuid":"x"}"#,
            Code::InvalidUuid,
        ),
        (
            r#"{"event":"e","distinct_id":"d","uuid":5}"#,
            Code::InvalidUuid,
        ),
        (
            r#"{"event":"e","distinct_id":"d","properties":[]}"#,
            Code::InvalidProperties,
        ),
        (
            r#"{"event":"e","distinct_id":"d","properties":"x"}"#,
            Code::InvalidProperties,
        ),
        (
            r#"{"event":"e","distinct_id":"d","properties":{"$cookieless_mode":"yes"}}"#,
            Code::InvalidCookielessMode,
        ),
        (
            r#"{"event":"e","distinct_id":"d","token":"phc_b"}"#,
            Code::TokenMismatch,
        ),
    ] {
        let body = batch_of(&format!("{EVENT},{bad},{EVENT}"));
        let expected = [
            Outcome::Accepted,
            Outcome::Rejected(code),
            Outcome::Accepted,
        ];
        assert_eq!(outcomes(body), expected, "{bad}");
    }
}

#[test]
fn a_rejected_event_keeps_what_could_be_read() {
    let (batch, event) = one(r#"{"event":"e","distinct_id":"d","uuid":"x","properties":{"a":1}}"#);
    let view = batch.view();
    assert_eq!(event.outcome, Outcome::Rejected(Code::InvalidUuid));
    assert_eq!(
        (view.get(event.event), view.get(event.distinct_id)),
        ("e", "d")
    );
    assert!(!event.uuid_given);
}

#[test]
fn the_limit_of_events_is_exact() {
    let mut context = context();
    context.limits.max_events_per_request = 3;
    let body = |count| batch_of(&vec![EVENT; count].join(","));
    assert_eq!(decode_with(body(3), &context).unwrap().events.len(), 3);
    assert_eq!(
        decode_with(body(4), &context).unwrap_err().code,
        Code::TooManyEvents
    );
}

#[test]
fn the_limit_of_an_events_size_is_exact_and_harms_only_it() {
    let mut context = context();
    context.limits.max_event_bytes = 50;
    let sized = |bytes: usize| {
        let frame = r#"{"event":"e","distinct_id":"d","x":""}"#;
        frame.replace("\"\"", &format!("\"{}\"", "y".repeat(bytes - frame.len())))
    };
    let body = batch_of(&format!("{},{},{}", sized(50), sized(51), sized(50)));
    let batch = decode_with(body, &context).unwrap();
    let found: Vec<_> = batch.events.iter().map(|event| event.outcome).collect();
    let too_large = Outcome::Rejected(Code::EventTooLarge);
    assert_eq!(found, [Outcome::Accepted, too_large, Outcome::Accepted]);
    // It is still known whose it was.
    assert_eq!(batch.view().get(batch.events[1].distinct_id), "d");
}
