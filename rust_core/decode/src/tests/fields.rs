//! What is read out of an event.

use penstock_model::{BatchText, ClientIp, Text, Uuid};

use super::*;

fn id_of(fields: &str) -> Option<String> {
    let (batch, event) = one(&format!(r#"{{"event":"e",{fields}}}"#));
    match event.outcome {
        Outcome::Accepted => Some(batch.view().get(event.distinct_id).to_owned()),
        outcome => {
            assert_eq!(outcome, Outcome::Rejected(Code::MissingDistinctId));
            None
        }
    }
}

#[test]
fn the_distinct_id_is_looked_up_in_order() {
    for (fields, expected) in [
        (
            r#""distinct_id":"a","$distinct_id":"b","properties":{"distinct_id":"c"}"#,
            Some("a"),
        ),
        (
            r#""distinct_id":null,"$distinct_id":"b","properties":{"distinct_id":"c"}"#,
            Some("b"),
        ),
        (
            r#""distinct_id":null,"properties":{"distinct_id":"c"}"#,
            Some("c"),
        ),
        (r#""properties":{"distinct_id":23}"#, Some("23")),
        (r#""distinct_id":23"#, Some("23")),
        (r#""distinct_id":[1, {"a": "b"}]"#, Some(r#"[1,{"a":"b"}]"#)),
        (r#""distinct_id":"  padded ""#, Some("  padded ")),
        (r#""distinct_id":"a\u0000b""#, Some("a\u{fffd}b")),
        // Blank is not missing: there is no second choice for it.
        (r#""distinct_id":"","properties":{"distinct_id":"c"}"#, None),
        (r#""distinct_id":null"#, None),
        (r#""properties":{"distinct_id":null}"#, None),
        (r#""x":1"#, None),
    ] {
        assert_eq!(id_of(fields).as_deref(), expected, "{fields}");
    }
}

#[test]
fn a_long_distinct_id_is_cut_with_a_warning() {
    let (batch, event) = one(&format!(
        r#"{{"event":"e","distinct_id":"{}"}}"#,
        "é".repeat(201)
    ));
    assert_eq!(batch.view().get(event.distinct_id), "é".repeat(200));
    assert_eq!(warnings(&event), [Warning::DistinctIdTruncated]);
}

#[test]
fn uuids_are_kept_or_made() {
    let expected = Uuid(0x0192_f3a4_b5c6_7d8e_9f00_1122_3344_55ff_u128.to_be_bytes());
    for uuid in [
        "0192f3a4-b5c6-7d8e-9f00-1122334455ff",
        "0192F3A4B5C67D8E9F001122334455FF",
        "{0192f3a4-b5c6-7d8e-9f00-1122334455ff}",
        r"\u0030192f3a4-b5c6-7d8e-9f00-1122334455ff",
    ] {
        let (_, event) = one(&format!(
            r#"{{"event":"e","distinct_id":"d","uuid":"{uuid}"}}"#
        ));
        assert_eq!((event.uuid, event.uuid_given), (expected, true), "{uuid}");
    }
    for uuid in [r#","uuid":"""#, r#","uuid":null"#, ""] {
        let (_, event) = one(&format!(
            r#"{{"event":"e","distinct_id":"d","timestamp":"2025-01-01"{uuid}}}"#
        ));
        assert!(!event.uuid_given);
        let value = u128::from_be_bytes(event.uuid.0);
        assert_eq!(
            i64::try_from(value >> 80).unwrap(),
            event.timestamp_us / 1_000
        );
        assert_eq!((value >> 76 & 0xf, value >> 62 & 3), (7, 2));
    }
}

#[test]
fn an_events_name_is_kept_whole_and_as_it_is() {
    let long = "x".repeat(10_000);
    for (name, expected) in [
        (long.as_str(), long.as_str()),
        (" ", " "),
        (" padded ", " padded "),
        (r"a\u0000b", "a\0b"),
        (r"\ud83e\udd94", "🦔"),
        ("$performance_event", "$performance_event"),
    ] {
        let (batch, event) = one(&format!(r#"{{"event":"{name}","distinct_id":"d"}}"#));
        assert_eq!(event.outcome, Outcome::Accepted);
        assert_eq!(batch.view().get(event.event), expected);
    }
}

#[test]
fn what_stands_beside_the_known_fields_is_dropped() {
    let (batch, event) = one(
        r#"{"type":"capture","library":"posthog-node","library_version":"5","context":{"ip":"1"},
        "messageId":"m","event":"e","distinct_id":"d","properties":null,"$lib":"root","$ip":"1.1.1.1"}"#,
    );
    assert_eq!(event.outcome, Outcome::Accepted);
    assert_eq!(batch.view().get(event.properties), "{}");
    assert_eq!((event.lib, event.ip), (None, ClientIp::Unsaid));
}

#[test]
fn fields_are_read_out_of_properties() {
    let (batch, event) = one(
        r#"{"event":"e","distinct_id":"d","properties":{"$session_id":"s","$window_id":"w\u0000",
        "$lib":"web","$lib_version":"1","$elements_chain":"a:b","$ip":"1.2.3.4","other":{"$lib":"x"},
        "$process_person_profile":false}}"#,
    );
    let view = batch.view();
    let get = |text: Option<Text>| text.map(|text| view.get(text));
    assert_eq!(get(event.session_id), Some("s"));
    assert_eq!(get(event.window_id), Some("w\u{fffd}"));
    assert_eq!(get(event.lib), Some("web"));
    assert_eq!(get(event.lib_version), Some("1"));
    assert_eq!(get(event.elements_chain), Some("a:b"));
    assert!(matches!(event.ip, ClientIp::Given(ip) if view.get(ip) == "1.2.3.4"));
    assert!(event.propertyless);
    assert_eq!(warnings(&event), [Warning::NulReplaced]);
}

#[test]
fn fields_of_another_type_read_as_absent() {
    let (_, event) = one(
        r#"{"event":"e","distinct_id":"d","properties":{"$session_id":1,"$window_id":null,
        "$lib":[],"$lib_version":{},"$elements_chain":true,"$ip":1.5,
        "$process_person_profile":"false"}}"#,
    );
    assert_eq!(event.outcome, Outcome::Accepted);
    let fields = [
        event.session_id,
        event.window_id,
        event.lib,
        event.lib_version,
    ];
    assert_eq!(fields, [None; 4]);
    assert_eq!(event.elements_chain, None);
    assert_eq!(event.ip, ClientIp::Withheld);
    assert!(!event.propertyless);
    assert_eq!(warnings(&event), [Warning::InvalidProcessPersonProfile]);
}

#[test]
fn only_an_absent_ip_leaves_the_requests_address_standing() {
    for (properties, expected) in [
        ("{}", ClientIp::Unsaid),
        (r#"{"$ip":null}"#, ClientIp::Withheld),
        (r#"{"$ip":false}"#, ClientIp::Withheld),
        (r#"{"$ip":"1.1.1.1","$ip":null}"#, ClientIp::Withheld),
    ] {
        let (_, event) = one(&format!(
            r#"{{"event":"e","distinct_id":"d","properties":{properties}}}"#
        ));
        assert_eq!(event.ip, expected, "{properties}");
    }
}

#[test]
fn what_a_service_of_its_own_captures_has_its_own_address() {
    for (properties, expected) in [
        (r#""capture_internal":true"#, Some("127.0.0.1")),
        // The key says it, whatever stands behind it.
        (r#""capture_internal":null"#, Some("127.0.0.1")),
        (r#""capture\u005finternal":0"#, Some("127.0.0.1")),
        // An address of its own is not that of the request.
        (r#""capture_internal":1,"$ip":"1.1.1.1""#, Some("1.1.1.1")),
        (r#""a":{"capture_internal":true}"#, None),
    ] {
        let (batch, event) = one(&format!(
            r#"{{"event":"e","distinct_id":"d","properties":{{{properties}}}}}"#
        ));
        let found = match event.ip {
            ClientIp::Given(ip) => Some(batch.view().get(ip)),
            ClientIp::Unsaid | ClientIp::Withheld => None,
        };
        assert_eq!(found, expected, "{properties}");
        assert_eq!(
            batch.view().get(event.properties),
            format!("{{{properties}}}")
        );
    }
    let (_, event) =
        one(r#"{"event":"e","distinct_id":"d","properties":{"capture_internal":true,"$ip":null}}"#);
    assert_eq!(event.ip, ClientIp::Withheld);
    let (_, event) =
        one(r#"{"event":"e","distinct_id":"d","capture_internal":true,"properties":{}}"#);
    assert_eq!(event.ip, ClientIp::Unsaid);
}

/// The column and the properties of an event with these.
fn chain_of(properties: &str) -> (Option<String>, String, Vec<Warning>) {
    let (batch, event) = one(&format!(
        r#"{{"event":"e","distinct_id":"d","properties":{properties}}}"#
    ));
    assert_eq!(event.outcome, Outcome::Accepted);
    let view = batch.view();
    (
        event.elements_chain.map(|chain| view.get(chain).to_owned()),
        view.get(event.properties).to_owned(),
        warnings(&event),
    )
}

#[test]
fn elements_become_a_chain_and_leave_the_properties() {
    let a = r#"a:nth-child="1"nth-of-type="2""#;
    let element = r#"{"tag_name":"a","nth_child":1,"nth_of_type":2}"#;
    for (properties, chain, stored) in [
        (
            format!(r#"{{"x": 1, "$elements":[{element}],"y":2}}"#),
            Some(a),
            r#"{"x":1,"y":2}"#,
        ),
        // The client's own chain wins and stays; an empty one is none.
        (
            format!(r#"{{"$elements":[{element}],"$elements_chain":"b:"}}"#),
            Some("b:"),
            r#"{"$elements_chain":"b:"}"#,
        ),
        (
            format!(r#"{{"$elements":[{element}],"$elements_chain":""}}"#),
            Some(a),
            r#"{"$elements_chain":""}"#,
        ),
        ("{\"$elements\":[]}".to_owned(), None, "{}"),
        // What is no list of elements is a property like any other.
        (
            r#"{"$elements": "a"}"#.to_owned(),
            None,
            r#"{"$elements": "a"}"#,
        ),
        (
            r#"{"$elements": [1]}"#.to_owned(),
            None,
            r#"{"$elements": [1]}"#,
        ),
        (
            r#"{"$set":{"$elements":[{}]}}"#.to_owned(),
            None,
            r#"{"$set":{"$elements":[{}]}}"#,
        ),
    ] {
        let expected = (chain.map(str::to_owned), stored.to_owned(), Vec::new());
        assert_eq!(chain_of(&properties), expected, "{properties}");
    }
    let properties = r#"{"a":"b","$elements":[{"tag_name":"\ud800"}]}"#;
    let (chain, stored, warned) = chain_of(properties);
    assert!(chain.is_some_and(|chain| chain.starts_with('\u{fffd}')));
    assert_eq!(
        (stored.as_str(), warned),
        (r#"{"a":"b"}"#, vec![Warning::LoneSurrogate])
    );
}

#[test]
fn the_last_of_duplicate_keys_wins() {
    let (batch, event) = one(
        r#"{"event":"x","event":"e","distinct_id":"x","distinct_id":"d",
        "properties":{"$lib":"x","$session_id":"x"},"properties":{"$lib":"x","$lib":"web"}}"#,
    );
    let view = batch.view();
    assert_eq!(
        (view.get(event.event), view.get(event.distinct_id)),
        ("e", "d")
    );
    assert_eq!(event.lib.map(|lib| view.get(lib)), Some("web"));
    assert_eq!(event.session_id, None);
    assert_eq!(view.get(event.properties), r#"{"$lib":"x","$lib":"web"}"#);
}

#[test]
fn escaped_keys_and_values_mean_the_same() {
    let (batch, event) = one(
        r#"{"\u0065vent":"caf\u00e9 \/","d\u0069stinct_id":"\ud83e\udd94",
        "pr\u006fperties":{"\u0024lib":"w\u0065b"}}"#,
    );
    let view = batch.view();
    assert_eq!(
        (view.get(event.event), view.get(event.distinct_id)),
        ("café /", "🦔")
    );
    assert_eq!(event.lib.map(|lib| view.get(lib)), Some("web"));
    assert_eq!(view.get(event.properties), r#"{"\u0024lib":"w\u0065b"}"#);
    assert_eq!(warnings(&event), []);
}

#[test]
fn lone_surrogates_are_replaced_in_the_event_that_has_them() {
    let events = r#"{"event":"a\ud800","distinct_id":"d","properties":{"x":"\udc00"}},
        {"event":"b","distinct_id":"d","properties":{"x":"\ud83e\udd94"}}"#;
    let batch = decode(batch_of(events)).unwrap();
    let view = batch.view();
    assert_eq!(view.get(batch.events[0].event), "a\u{fffd}");
    assert_eq!(view.get(batch.events[0].properties), r#"{"x":"\ufffd"}"#);
    assert_eq!(warnings(&batch.events[0]), [Warning::LoneSurrogate]);
    assert_eq!(
        view.get(batch.events[1].properties),
        r#"{"x":"\ud83e\udd94"}"#
    );
    assert_eq!(warnings(&batch.events[1]), []);
}

#[test]
fn invalid_utf8_is_replaced_and_all_events_say_so() {
    let mut body = batch_of(r#"{"event":"a?","distinct_id":"d"},{"event":"b","distinct_id":"d"}"#)
        .into_bytes();
    let place = body.iter().position(|byte| *byte == b'?').unwrap();
    body[place] = 0xff;
    let batch = decode(body).unwrap();
    assert_eq!(batch.view().get(batch.events[0].event), "a\u{fffd}");
    for event in &batch.events {
        assert_eq!(warnings(event), [Warning::InvalidUtf8]);
    }
}

#[test]
fn unread_values_of_any_size_keep_their_text() {
    let properties = r#"{"a":1e400,"b":18446744073709551616,"c":-0.0,"d":"\u0000"}"#;
    let (batch, event) = one(&format!(
        r#"{{"event":"e","distinct_id":"d","properties":{properties}}}"#
    ));
    assert_eq!(batch.view().get(event.properties), properties);
}

#[test]
fn a_plain_body_is_shared_and_not_copied() {
    let (batch, event) = one(r#"{"event":"e","distinct_id":"d","properties":{"a":1}}"#);
    assert!(matches!(batch.text, BatchText::Received(_)));
    assert_eq!(batch.view().get(event.properties), r#"{"a":1}"#);
    // Only the token and nothing of the events had to be written.
    assert_eq!(batch.side, "phc_a");
}

fn time_of(envelope: &str, fields: &str) -> (i64, Option<String>, Vec<Warning>) {
    let body = format!(
        r#"{{"api_key":"phc_a",{envelope}"batch":[{{"event":"e","distinct_id":"d"{fields}}}]}}"#
    );
    let batch = decode(body).unwrap();
    let event = &batch.events[0];
    assert_eq!(event.outcome, Outcome::Accepted, "{fields}");
    let sent = event
        .client_timestamp
        .map(|text| batch.view().get(text).to_owned());
    (event.timestamp_us, sent, warnings(event))
}

#[test]
fn timestamps_are_computed_by_the_protocol() {
    const HOUR: i64 = 3_600_000_000;
    let ahead = r#""sent_at":"2026-01-01T01:00:00Z","#;
    let unreadable = vec![Warning::InvalidTimestamp];
    let future = vec![Warning::TimestampInFuture];
    let none = Vec::new;
    for (envelope, fields, time, sent, expected) in [
        ("", "", NOW, None, none()),
        ("", r#","timestamp":null"#, NOW, None, none()),
        (
            "",
            r#","timestamp":"2025-12-31T23:00:00Z""#,
            NOW - HOUR,
            Some("2025-12-31T23:00:00Z"),
            none(),
        ),
        (
            "",
            r#","timestamp":"2025-12-31T23:00:00\u005a""#,
            NOW - HOUR,
            Some("2025-12-31T23:00:00Z"),
            none(),
        ),
        (
            "",
            r#","timestamp":1767222000"#,
            NOW - HOUR,
            Some("1767222000"),
            none(),
        ),
        (
            "",
            r#","timestamp":1767222000000"#,
            NOW - HOUR,
            Some("1767222000000"),
            none(),
        ),
        (
            "",
            r#","timestamp":"1767222000""#,
            NOW - HOUR,
            Some("1767222000"),
            none(),
        ),
        (
            "",
            r#","timestamp":"soon""#,
            NOW,
            Some("soon"),
            unreadable.clone(),
        ),
        ("", r#","timestamp":"""#, NOW, Some(""), unreadable.clone()),
        ("", r#","timestamp":{"a":1}"#, NOW, None, unreadable.clone()),
        // The client's clock is an hour ahead.
        (
            ahead,
            r#","timestamp":"2026-01-01T01:00:00Z""#,
            NOW,
            Some("2026-01-01T01:00:00Z"),
            none(),
        ),
        (
            r#""sent_at":1767229200,"#,
            r#","timestamp":1767229200"#,
            NOW,
            Some("1767229200"),
            none(),
        ),
        (
            r#""sent_at":"junk","#,
            r#","timestamp":1767229200"#,
            NOW + HOUR,
            Some("1767229200"),
            none(),
        ),
        (
            ahead,
            r#","timestamp":"2026-01-01T01:00:00Z","properties":{"$ignore_sent_at":true}"#,
            NOW + HOUR,
            Some("2026-01-01T01:00:00Z"),
            none(),
        ),
        // The offset wins over everything.
        (
            ahead,
            r#","offset":1500,"timestamp":"2020-01-01""#,
            NOW - 1_500_000,
            Some("2020-01-01"),
            none(),
        ),
        ("", r#","offset":1500.7"#, NOW - 1_500_000, None, none()),
        ("", r#","offset":"1500""#, NOW, None, none()),
        // At the edges.
        (
            "",
            r#","timestamp":"2026-01-01T23:00:00Z""#,
            NOW + 23 * HOUR,
            Some("2026-01-01T23:00:00Z"),
            none(),
        ),
        (
            "",
            r#","timestamp":"2026-01-01T23:00:00.000001Z""#,
            NOW,
            Some("2026-01-01T23:00:00.000001Z"),
            future.clone(),
        ),
        (
            "",
            r#","timestamp":"9999-12-31""#,
            NOW,
            Some("9999-12-31"),
            future.clone(),
        ),
        ("", r#","timestamp":1e300"#, NOW, Some("1e300"), future),
        (
            "",
            r#","timestamp":"0000-12-31""#,
            0,
            Some("0000-12-31"),
            vec![Warning::TimestampOutOfRange],
        ),
        (
            "",
            r#","timestamp":-99999999999999999999"#,
            0,
            Some("-99999999999999999999"),
            vec![Warning::TimestampOutOfRange],
        ),
    ] {
        let found = time_of(envelope, fields);
        assert_eq!(
            found,
            (time, sent.map(str::to_owned), expected),
            "{envelope} {fields}"
        );
    }
}

#[test]
fn the_bodys_own_time_of_sending_wins_over_the_requests() {
    let context = RequestContext {
        sent_at_us: Some(NOW + 60_000_000),
        ..context()
    };
    let event = r#"{"event":"e","distinct_id":"d","timestamp":"2026-01-01T00:01:00Z"}"#;
    let batch = decode_with(batch_of(event), &context).unwrap();
    assert_eq!(batch.sent_at_us, Some(NOW + 60_000_000));
    assert_eq!(batch.events[0].timestamp_us, NOW);
    let body = batch_of(event).replace("\"batch\"", r#""sent_at":"2026-01-01","batch""#);
    let batch = decode_with(body, &context).unwrap();
    assert_eq!(batch.sent_at_us, Some(NOW));
    assert_eq!(batch.events[0].timestamp_us, NOW + 60_000_000);
}

#[test]
fn an_events_own_sent_at_is_no_clock_of_its_request() {
    let body = r#"{"api_key":"T","event":"e","distinct_id":"d",
        "timestamp":"2025-12-31T23:00:00Z","sent_at":"2026-01-01T01:00:00Z"}"#;
    let batch = decode(body).unwrap();
    assert_eq!(batch.sent_at_us, None);
    assert_eq!(batch.events[0].timestamp_us, NOW - 3_600_000_000);
}
