//! When an event happened: each rule of `posthog-protocol.md` §3.6, through whole requests.

use super::*;

const SECOND: i64 = 1_000_000;
const HOUR: i64 = 3_600 * SECOND;

/// The events of a body that came with a time of sending in its query, or without.
fn decoded(body: &str, sent_at_us: Option<i64>, endpoint: Endpoint) -> Batch {
    let context = RequestContext {
        sent_at_us,
        endpoint,
        ..context()
    };
    decode_with(body, &context).unwrap()
}

fn only_time(body: &str, sent_at_us: Option<i64>, endpoint: Endpoint) -> (i64, Option<i64>) {
    let batch = decoded(body, sent_at_us, endpoint);
    (batch.events[0].timestamp_us, batch.sent_at_us)
}

#[test]
fn a_clock_is_corrected_in_both_directions_and_to_the_microsecond() {
    for (sent_at, timestamp, expected) in [
        // An hour ahead, an hour behind, years behind.
        (
            "2026-01-01T01:00:00Z",
            "2026-01-01T00:59:50Z",
            NOW - 10 * SECOND,
        ),
        (
            "2025-12-31T23:00:00Z",
            "2025-12-31T22:59:50Z",
            NOW - 10 * SECOND,
        ),
        (
            "1970-01-01T00:00:10Z",
            "1970-01-01T00:00:00Z",
            NOW - 10 * SECOND,
        ),
        (
            "2026-01-01T00:00:00.000001Z",
            "2026-01-01T00:00:00Z",
            NOW - 1,
        ),
        // Each in its own zone.
        (
            "2026-01-01T03:00:00+02:00",
            "2025-12-31T19:59:50-05:00",
            NOW - 10 * SECOND,
        ),
        // After it was sent, as a clock that was set meanwhile has it.
        ("2026-01-01T01:00:00Z", "2026-01-01T02:00:00Z", NOW + HOUR),
        // What was ahead is not, once it is corrected; and the other way round.
        ("2030-01-01T00:00:00Z", "2030-01-01T00:00:00Z", NOW),
        ("2025-12-01T00:00:00Z", "2025-12-31T23:00:00Z", NOW),
    ] {
        let body = format!(
            r#"{{"api_key":"phc_a","sent_at":"{sent_at}","batch":[{{"event":"e","distinct_id":"d","timestamp":"{timestamp}"}}]}}"#
        );
        let batch = decoded(&body, None, Endpoint::Batch);
        let event = &batch.events[0];
        assert_eq!(event.timestamp_us, expected, "{sent_at} {timestamp}");
        // What was sent is kept beside it, for whoever wants to correct it otherwise.
        let sent = event.client_timestamp.map(|text| batch.view().get(text));
        assert_eq!(sent, Some(timestamp));
        assert!(batch.sent_at_us.is_some());
        let is_ahead = sent_at.starts_with("2025-12-01");
        assert_eq!(
            event.warnings.contains(Warning::TimestampInFuture),
            is_ahead
        );
    }
}

#[test]
fn only_a_true_ignore_sent_at_turns_the_correction_off() {
    for (value, corrected) in [
        ("true", false),
        ("false", true),
        ("null", true),
        ("\"true\"", true),
        ("1", true),
    ] {
        let body = format!(
            r#"{{"api_key":"phc_a","sent_at":"2026-01-01T01:00:00Z","batch":[{{"event":"e","distinct_id":"d",
            "timestamp":"2026-01-01T01:00:00Z","properties":{{"$ignore_sent_at":{value}}}}}]}}"#
        );
        let expected = if corrected { NOW } else { NOW + HOUR };
        let (time, sent_at) = only_time(&body, None, Endpoint::Batch);
        assert_eq!((time, sent_at), (expected, Some(NOW + HOUR)), "{value}");
    }
}

/// The body of each shape, with a place for what stands beside its events and in them.
const SHAPES: [&str; 3] = [
    r#"{"api_key":"phc_a",BESIDE"batch":[{"event":"e","distinct_id":"d","timestamp":"2026-01-01T01:00:00Z"}]}"#,
    r#"{"api_key":"phc_a",BESIDE"event":"e","distinct_id":"d","timestamp":"2026-01-01T01:00:00Z"}"#,
    r#"[{"api_key":"phc_a",BESIDE"event":"e","distinct_id":"d","timestamp":"2026-01-01T01:00:00Z"}]"#,
];

#[test]
fn the_query_tells_when_any_shape_was_sent() {
    for shape in SHAPES {
        let body = shape.replace("BESIDE", "");
        for endpoint in [Endpoint::E, Endpoint::Batch, Endpoint::GrpcAppend] {
            assert_eq!(
                only_time(&body, Some(NOW + HOUR), endpoint),
                (NOW, Some(NOW + HOUR)),
                "{body}"
            );
            assert_eq!(only_time(&body, None, endpoint), (NOW + HOUR, None));
        }
    }
}

#[test]
fn a_batch_tells_it_itself_and_an_event_does_not() {
    for (shape, heeded) in SHAPES.into_iter().zip([true, false, false]) {
        let body = shape.replace("BESIDE", r#""sent_at":"2026-01-01T01:00:00Z","#);
        let expected = if heeded {
            (NOW, Some(NOW + HOUR))
        } else {
            (NOW + HOUR, None)
        };
        assert_eq!(only_time(&body, None, Endpoint::E), expected, "{body}");
        // And wins over the query.
        let expected = if heeded {
            (NOW, Some(NOW + HOUR))
        } else {
            (NOW + HOUR - 60 * SECOND, Some(NOW + 60 * SECOND))
        };
        let with_query = only_time(&body, Some(NOW + 60 * SECOND), Endpoint::E);
        assert_eq!(with_query, expected, "{body}");
    }
    // What can't be read tells nothing.
    for unread in ["\"soon\"", "\"\"", "null", "{}", "[1]", "true"] {
        let body = SHAPES[0].replace("BESIDE", &format!(r#""sent_at":{unread},"#));
        let expected = (NOW, Some(NOW + HOUR));
        let found = only_time(&body, Some(NOW + HOUR), Endpoint::Batch);
        assert_eq!(found, expected, "{unread}");
        assert_eq!(
            only_time(&body, None, Endpoint::Batch),
            (NOW + HOUR, None),
            "{unread}"
        );
    }
}

#[test]
fn an_offset_counts_from_the_receipt_whatever_the_clocks_say() {
    for (offset, expected) in [
        ("0", NOW),
        ("1", NOW - 1_000),
        ("3600000", NOW - HOUR),
        ("-3600000", NOW + HOUR),
        ("-82800000", NOW + 23 * HOUR),
        // More than 23 hours ahead.
        ("-82800001", NOW),
        // Before the year 1.
        ("99999999999999999", 0),
        ("1.9", NOW - 1_000),
        ("1e3", NOW - SECOND),
        // No number is no offset.
        ("\"5\"", NOW - 10 * SECOND),
        ("null", NOW - 10 * SECOND),
        ("[5]", NOW - 10 * SECOND),
    ] {
        let body = format!(
            r#"{{"api_key":"phc_a","sent_at":"2026-01-01T01:00:00Z","batch":[{{"event":"e","distinct_id":"d",
            "timestamp":"2026-01-01T00:59:50Z","offset":{offset}}}]}}"#
        );
        let (time, _) = only_time(&body, None, Endpoint::Batch);
        assert_eq!(time, expected, "{offset}");
    }
}

#[test]
fn old_times_are_kept_down_to_the_year_1_and_make_ids_of_the_epoch() {
    for (timestamp, expected) in [
        ("1969-12-31T23:59:59Z", -SECOND),
        ("1900-01-01T00:00:00Z", -2_208_988_800 * SECOND),
        ("0001-01-01T00:00:00Z", -62_135_596_800 * SECOND),
        ("0000-12-31T23:59:59Z", 0),
    ] {
        let (_, event) = one(&format!(
            r#"{{"event":"e","distinct_id":"d","timestamp":"{timestamp}"}}"#
        ));
        assert_eq!(event.timestamp_us, expected, "{timestamp}");
        // An id of version 7 has no room for a time before it.
        let made = u128::from_be_bytes(event.uuid.0);
        assert_eq!((made >> 80, made >> 76 & 0xf), (0, 7), "{timestamp}");
    }
}

/// A retry is received later: what counts from the receipt moves, and the id stays.
#[test]
fn a_retry_of_the_same_bytes_keeps_time_and_id_where_the_client_told_them() {
    let uuid = "01890a5d-ac96-774b-bcce-000000000001";
    let event = |time: &str| {
        format!(r#"{{"api_key":"phc_a","event":"e","distinct_id":"d","uuid":"{uuid}",{time}}}"#)
    };
    let at = |body: &str, received_at_us| {
        let context = RequestContext {
            received_at_us,
            ..context()
        };
        let batch = decode_with(body, &context).unwrap();
        (batch.events[0].uuid, batch.events[0].timestamp_us)
    };
    let told = event(r#""timestamp":"2025-12-31T23:00:00Z""#);
    assert_eq!(at(&told, NOW), at(&told, NOW + HOUR));
    let counted = event(r#""offset":1000"#);
    let (first, again) = (at(&counted, NOW), at(&counted, NOW + HOUR));
    assert_eq!((first.0, again.1 - first.1), (again.0, HOUR));
}
