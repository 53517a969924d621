//! Capture v1 (`posthog-protocol.md` §4.4), rule by rule.

mod head;
mod hostile;
mod injected;
mod recorded;
mod time;

use super::*;
use crate::v1::write_results;

const UUID: &str = "01890a5d-ac96-774b-bcce-000000000001";

fn v1_context() -> RequestContext {
    RequestContext {
        endpoint: Endpoint::V1Analytics,
        token: Some("phc_a".to_owned()),
        sent_at_us: Some(NOW),
        ..context()
    }
}

fn decode_v1(body: impl Into<Vec<u8>>) -> Result<Batch, Refusal> {
    decode_with(body, &v1_context())
}

/// Wraps events into the envelope of the protocol.
fn v1_batch(events: &str) -> String {
    format!(r#"{{"created_at":"2026-01-01T00:00:00Z","batch":[{events}]}}"#)
}

/// An event with all that it must have, and `more` behind it: later members win.
fn event_with(more: &str) -> String {
    let comma = if more.is_empty() { "" } else { "," };
    format!(
        r#"{{"event":"e","uuid":"{UUID}","distinct_id":"d","timestamp":"2026-01-01T00:00:00Z"{comma}{more}}}"#
    )
}

/// Decodes one such event.
fn one_with(more: &str) -> (Batch, Event) {
    let batch = decode_v1(v1_batch(&event_with(more))).unwrap();
    let event = batch.events[0].clone();
    (batch, event)
}

fn refused_v1(body: &str) -> (Code, String) {
    let refusal = decode_v1(body).unwrap_err();
    (refusal.code, refusal.detail)
}

#[test]
fn only_an_object_with_a_time_and_a_batch_is_a_request() {
    let event = event_with("");
    for (body, code) in [
        ("", Code::MissingPayload),
        (" \n", Code::MissingPayload),
        ("not json", Code::InvalidJson),
        ("{", Code::InvalidJson),
        ("7", Code::UnsupportedShape),
        (&format!("[{event}]"), Code::UnsupportedShape),
        (&event, Code::UnsupportedShape),
        ("{}", Code::UnsupportedShape),
        (r#"{"batch":{}}"#, Code::UnsupportedShape),
        (
            r#"{"created_at":"2026-01-01T00:00:00Z"}"#,
            Code::UnsupportedShape,
        ),
        (&v1_batch(""), Code::NoEvents),
        (&format!(r#"{{"batch":[{event}]}}"#), Code::InvalidBatch),
        (
            &format!(r#"{{"created_at":"soon","batch":[{event}]}}"#),
            Code::InvalidBatch,
        ),
        (
            &format!(r#"{{"created_at":1767225600,"batch":[{event}]}}"#),
            Code::InvalidBatch,
        ),
        (
            &format!(r#"{{"created_at":null,"batch":[{event}]}}"#),
            Code::InvalidBatch,
        ),
    ] {
        assert_eq!(refused_v1(body).0, code, "{body}");
    }
}

#[test]
fn what_the_protocol_has_no_place_for_is_ignored() {
    let event = event_with(r#""api_key":"phc_other","token":"x","offset":5000,"type":"capture""#);
    let body = format!(
        r#"{{"api_key":"phc_other","sent_at":"2020-01-01T00:00:00Z","created_at":"2026-01-01T00:00:00.123456+00:00","new":{{}},"batch":[{event}]}}"#
    );
    let batch = decode_v1(body).unwrap();
    assert_eq!(batch.view().get(batch.token), "phc_a");
    assert_eq!(batch.sent_at_us, Some(NOW));
    assert_eq!(batch.events[0].outcome, Outcome::Accepted);
    assert_eq!(batch.events[0].timestamp_us, NOW);
}

#[test]
fn an_import_says_so() {
    for (flag, expected) in [("true", true), ("false", false), ("\"true\"", false)] {
        let event = event_with("");
        let body = format!(
            r#"{{"created_at":"2026-01-01T00:00:00Z","historical_migration":{flag},"batch":[{event}]}}"#
        );
        assert_eq!(decode_v1(body).unwrap().historical, expected, "{flag}");
    }
}

#[test]
fn an_event_without_an_id_of_its_own_refuses_all_since_no_answer_could_name_it() {
    let good = event_with("");
    for (bad, code) in [
        (r#"{"event":"e"}"#, Code::MissingEventUuid),
        (r#"{"uuid":null}"#, Code::MissingEventUuid),
        (r#"{"uuid":""}"#, Code::MissingEventUuid),
        (r#"{"uuid":" "}"#, Code::MissingEventUuid),
        (r#"{"uuid":7}"#, Code::MissingEventUuid),
        ("null", Code::MissingEventUuid),
        (r#""text""#, Code::MissingEventUuid),
        (r#"{"uuid":"not-a-uuid"}"#, Code::InvalidEventUuid),
        (&good, Code::DuplicateEventUuid),
        (
            &event_with(r#""uuid":" 01890A5D-AC96-774B-BCCE-000000000001\n""#),
            Code::DuplicateEventUuid,
        ),
        (
            &event_with(r#""uuid":"01890a5dac96774bbcce000000000001""#),
            Code::DuplicateEventUuid,
        ),
    ] {
        let other = event_with(r#""uuid":"01890a5d-ac96-774b-bcce-000000000009""#);
        let body = v1_batch(&format!("{good},{other},{bad},{other}"));
        let found = refused_v1(&body);
        assert_eq!(found, (code, "event 2".to_owned()), "{bad}");
    }
}

#[test]
fn the_id_is_taken_in_any_spelling_and_told_in_the_usual_one() {
    for spelling in [
        "01890A5D-AC96-774B-BCCE-000000000001",
        "01890a5dac96774bbcce000000000001",
        r"  \u00301890a5d-ac96-774b-bcce-000000000001 ",
    ] {
        let (batch, event) = one_with(&format!(r#""uuid":"{spelling}""#));
        assert_eq!(event.uuid.to_string(), UUID);
        assert!(event.uuid_given);
        let answer = write_results(&batch, true);
        let expected = format!(r#"{{"results":{{"{UUID}":{{"result":"ok"}}}}}}"#);
        assert_eq!(String::from_utf8(answer).unwrap(), expected);
    }
}

#[test]
fn a_fault_of_one_event_is_its_own_and_has_the_protocols_name() {
    let long = "x".repeat(201);
    for (more, detail) in [
        (r#""event":null"#, Code::MissingEventName.as_str()),
        (r#""event":"""#, Code::MissingEventName.as_str()),
        (r#""event":7"#, Code::InvalidEventName.as_str()),
        (
            &format!(r#""event":"{long}""#),
            Code::EventNameTooLong.as_str(),
        ),
        (
            r#""event":"$performance_event""#,
            Code::DroppedPerformanceEvent.as_str(),
        ),
        (r#""distinct_id":null"#, Code::MissingDistinctId.as_str()),
        (r#""distinct_id":"""#, Code::MissingDistinctId.as_str()),
        (r#""distinct_id":" \t""#, Code::MissingDistinctId.as_str()),
        (
            &format!(r#""distinct_id":"{long}""#),
            Code::DistinctIdTooLarge.as_str(),
        ),
        (r#""timestamp":null"#, Code::InvalidEventTimestamp.as_str()),
        (r#""timestamp":"""#, Code::InvalidEventTimestamp.as_str()),
        (
            r#""timestamp":"yesterday""#,
            Code::InvalidEventTimestamp.as_str(),
        ),
        (r#""timestamp":{}"#, Code::InvalidEventTimestamp.as_str()),
        (r#""properties":[]"#, "malformed_event_properties"),
        (r#""properties":"{}""#, "malformed_event_properties"),
        (r#""options":[]"#, Code::InvalidOptions.as_str()),
        (
            r#""options":{"cookieless_mode":"maybe"}"#,
            Code::InvalidOptions.as_str(),
        ),
        // The first in the protocol's order is told.
        (
            r#""event":"","distinct_id":"","timestamp":"""#,
            Code::MissingEventName.as_str(),
        ),
        (
            r#""timestamp":"","properties":7"#,
            Code::InvalidEventTimestamp.as_str(),
        ),
        (
            r#""properties":7,"options":7"#,
            "malformed_event_properties",
        ),
    ] {
        let other = event_with(r#""uuid":"01890a5d-ac96-774b-bcce-000000000009""#);
        let body = v1_batch(&format!("{},{other}", event_with(more)));
        let batch = decode_v1(body).unwrap();
        let Outcome::Rejected(code) = batch.events[0].outcome else {
            panic!("{more} was taken")
        };
        assert_eq!(code.v1_detail(), detail, "{more}");
        assert_eq!(batch.events[1].outcome, Outcome::Accepted, "{more}");
        assert!(batch.events[0].properties.is_empty());
    }
    for absent in ["event", "distinct_id", "timestamp"] {
        let event = event_with("").replace(&format!("\"{absent}\""), "\"absent\"");
        let batch = decode_v1(v1_batch(&event)).unwrap();
        assert!(
            matches!(batch.events[0].outcome, Outcome::Rejected(_)),
            "{absent}"
        );
    }
}

#[test]
fn limits_of_the_server_are_faults_of_the_event() {
    let mut context = v1_context();
    context.limits.max_event_bytes = 200;
    context.limits.max_json_depth = 4;
    for (more, code, detail) in [
        (
            format!(r#""properties":{{"a":"{}"}}"#, "x".repeat(200)),
            Code::EventTooLarge,
            "event_too_big",
        ),
        (
            r#""properties":{"a":[]}"#.to_owned(),
            Code::EventTooDeep,
            Code::EventTooDeep.as_str(),
        ),
        (
            r#""options":{"a":[]}"#.to_owned(),
            Code::EventTooDeep,
            Code::EventTooDeep.as_str(),
        ),
    ] {
        let batch = decode_with(v1_batch(&event_with(&more)), &context).unwrap();
        assert_eq!(batch.events[0].outcome, Outcome::Rejected(code), "{more}");
        assert_eq!(code.v1_detail(), detail);
    }
    let batch = decode_with(v1_batch(&event_with(r#""properties":{}"#)), &context).unwrap();
    assert_eq!(batch.events[0].outcome, Outcome::Accepted);
}

#[test]
fn names_and_ids_of_two_hundred_bytes_pass_and_one_more_is_refused() {
    for (field, code) in [
        ("event", Code::EventNameTooLong),
        ("distinct_id", Code::DistinctIdTooLarge),
    ] {
        for (text, fits) in [
            ("x".repeat(200), true),
            ("x".repeat(201), false),
            ("é".repeat(100), true),
            (format!("{}x", "é".repeat(100)), false),
            (r"\u00e9".repeat(100), true),
            (r"\u00e9".repeat(101), false),
        ] {
            let (_, event) = one_with(&format!(r#""{field}":"{text}""#));
            let expected = if fits {
                Outcome::Accepted
            } else {
                Outcome::Rejected(code)
            };
            assert_eq!(event.outcome, expected, "{field} {text}");
        }
    }
    // White space around an id is no part of it.
    let padded = format!(
        r#""distinct_id":"{0}{1}{0}""#,
        " ".repeat(150),
        "x".repeat(200)
    );
    let (batch, event) = one_with(&padded);
    assert_eq!(event.outcome, Outcome::Accepted);
    assert_eq!(batch.view().get(event.distinct_id), "x".repeat(200));
}

#[test]
fn ids_of_persons_are_trimmed_and_numbers_become_text() {
    for (id, expected) in [
        (r#""  user-42 ""#, "user-42"),
        (r#""\tuser-42\n""#, "user-42"),
        ("42", "42"),
        (r#""a\u0000b""#, "a\u{fffd}b"),
    ] {
        let (batch, event) = one_with(&format!(r#""distinct_id":{id}"#));
        assert_eq!(event.outcome, Outcome::Accepted, "{id}");
        assert_eq!(batch.view().get(event.distinct_id), expected, "{id}");
    }
}

#[test]
fn ids_that_stand_for_nobody_are_stored_without_a_person_and_said() {
    for id in [
        "0",
        "00000000-0000-0000-0000-000000000000",
        "[object Object]",
        "anonymous",
        "Anonymous-User",
        "backend",
        "distinct_id",
        "distinctId",
        "EMAIL",
        "False",
        "guest",
        "id",
        "NaN",
        "None",
        "not_authenticated",
        "null",
        "SYSTEM",
        "true",
        " undefined ",
        "user",
    ] {
        let (batch, event) = one_with(&format!(
            r#""distinct_id":"{id}","options":{{"process_person_profile":true}}"#
        ));
        assert_eq!(event.outcome, Outcome::Accepted, "{id}");
        assert!(event.propertyless, "{id}");
        assert_eq!(
            warnings(&event),
            [Warning::PersonProcessingDisabled],
            "{id}"
        );
        let answer = String::from_utf8(write_results(&batch, true)).unwrap();
        let told = r#"{"result":"ok","details":"person_processing_disabled"}"#;
        assert!(answer.contains(told), "{answer}");
    }
    for id in ["1", "00", "users", "nobody", "undefined1", "userid"] {
        let (_, event) = one_with(&format!(r#""distinct_id":"{id}""#));
        assert!(!event.propertyless && warnings(&event).is_empty(), "{id}");
    }
}

#[test]
fn results_stand_in_the_order_of_the_request_and_say_what_is_to_be_sent_again() {
    let other = event_with(r#""uuid":"01890a5d-ac96-774b-bcce-000000000000","event":"""#);
    let nobody =
        event_with(r#""uuid":"ffffffff-ac96-774b-bcce-000000000002","distinct_id":"guest""#);
    let mut batch = decode_v1(v1_batch(&format!("{nobody},{other},{}", event_with("")))).unwrap();
    let stored = String::from_utf8(write_results(&batch, true)).unwrap();
    assert_eq!(
        stored,
        format!(
            "{{\"results\":{{\
             \"ffffffff-ac96-774b-bcce-000000000002\":\
             {{\"result\":\"ok\",\"details\":\"person_processing_disabled\"}},\
             \"01890a5d-ac96-774b-bcce-000000000000\":\
             {{\"result\":\"drop\",\"details\":\"missing_event_name\"}},\
             \"{UUID}\":{{\"result\":\"ok\"}}}}}}"
        )
    );
    let retry = r#"{"result":"retry","details":"not_persisted"}"#;
    assert_eq!(
        String::from_utf8(write_results(&batch, false)).unwrap(),
        format!(
            "{{\"results\":{{\
             \"ffffffff-ac96-774b-bcce-000000000002\":{retry},\
             \"01890a5d-ac96-774b-bcce-000000000000\":\
             {{\"result\":\"drop\",\"details\":\"missing_event_name\"}},\
             \"{UUID}\":{retry}}}}}"
        )
    );
    // What was stored before is stored.
    batch.events[2].outcome = Outcome::Duplicate;
    assert_eq!(
        String::from_utf8(write_results(&batch, true)).unwrap(),
        stored
    );
}

#[test]
fn the_route_for_ai_events_reads_all_events_alike() {
    let context = RequestContext {
        endpoint: Endpoint::V1Ai,
        ..v1_context()
    };
    let batch = decode_with(v1_batch(&event_with("")), &context).unwrap();
    assert_eq!(batch.events[0].outcome, Outcome::Accepted);
}
