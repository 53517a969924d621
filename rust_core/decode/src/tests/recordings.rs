//! Uploads of session replay (`posthog-protocol.md` §3.9): rules that hold on their endpoint alone.

use penstock_model::{Batch, Code, Endpoint, Event, Outcome, RequestContext};

use super::{NOW, context, decode, decode_with};

const MINUTE_US: i64 = 60_000_000;

fn upload_context() -> RequestContext {
    RequestContext {
        endpoint: Endpoint::Recordings,
        ..context()
    }
}

fn upload(body: impl Into<Vec<u8>>) -> Batch {
    decode_with(body, &upload_context()).unwrap()
}

/// A snapshot as SDKs send it, with these properties besides its token.
fn snapshot(properties: &str) -> String {
    format!(
        r#"{{"event":"$snapshot","distinct_id":"d","properties":{{"token":"phc_a",{properties}}}}}"#
    )
}

const WHOLE: &str = r#""$session_id":"s-1","$snapshot_data":[{"type":4}]"#;

fn one(body: impl Into<Vec<u8>>) -> (Batch, Event) {
    let batch = upload(body);
    assert_eq!(batch.events.len(), 1);
    let event = batch.events[0].clone();
    (batch, event)
}

#[test]
fn a_snapshot_keeps_its_properties_and_says_what_it_is_of() {
    let properties = r#""$session_id":"s-1","$window_id":"w-1","$snapshot_source":"mobile","$lib":"posthog-ios","$snapshot_data":[{"data":"\u001f\u008b\u0000"}]"#;
    let body = format!("[{}]", snapshot(properties));
    let (batch, event) = one(body);
    let view = batch.view();
    assert_eq!(event.outcome, Outcome::Accepted);
    assert_eq!(batch.token(), "phc_a");
    assert_eq!(view.get(event.event), "$snapshot");
    assert_eq!(view.get(event.session_id.unwrap()), "s-1");
    assert_eq!(view.get(event.window_id.unwrap()), "w-1");
    assert_eq!(view.get(event.snapshot_source.unwrap()), "mobile");
    assert_eq!(view.get(event.lib.unwrap()), "posthog-ios");
    assert_eq!(
        view.get(event.properties),
        format!(r#"{{"token":"phc_a",{properties}}}"#)
    );
}

#[test]
fn a_snapshot_without_a_library_is_of_that_which_uploads_it() {
    let context = RequestContext {
        sdk_info: Some("posthog-ios/3.69.3".to_owned()),
        ..upload_context()
    };
    let lib = |properties: &str, context: &RequestContext| {
        let batch = decode_with(snapshot(properties), context).unwrap();
        let event = &batch.events[0];
        let get = |text: Option<_>| text.map(|text| batch.view().get(text).to_owned());
        (get(event.lib), get(event.lib_version))
    };
    let own = format!(r#"{WHOLE},"$lib":"web""#);
    let version = format!(r#"{WHOLE},"$lib":null,"$lib_version":"1""#);
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(lib(WHOLE, &context), (some("posthog-ios"), some("3.69.3")));
    assert_eq!(lib(&version, &context), (some("posthog-ios"), some("1")));
    assert_eq!(lib(&own, &context), (some("web"), None));
    assert_eq!(lib(WHOLE, &upload_context()), (None, None));
    // What is refused has no such column.
    assert_eq!(lib(r#""$session_id":"s""#, &context), (None, None));
}

#[test]
fn one_snapshot_an_array_and_an_envelope_are_read_alike() {
    let inside = r#"{"distinct_id":"d","properties":{"$session_id":"s","$snapshot_data":{}}}"#;
    let named = r#"{"api_key":"phc_a","distinct_id":"d","properties":{"$session_id":"s","$snapshot_data":{}}}"#;
    for body in [
        snapshot(WHOLE),
        format!("[{}]", snapshot(WHOLE)),
        format!("[{named}]"),
        named.to_owned(),
        format!(r#"{{"api_key":"phc_a","batch":[{inside}]}}"#),
    ] {
        let (batch, event) = one(body.as_str());
        assert_eq!(event.outcome, Outcome::Accepted, "{body}");
        assert_eq!(batch.token(), "phc_a");
        // The name says nothing that the endpoint does not.
        assert_eq!(batch.view().get(event.event), "$snapshot");
    }
}

#[test]
fn what_makes_no_snapshot_is_refused_alone() {
    let long = "x".repeat(70);
    let too_long = "x".repeat(71);
    let data = r#""$snapshot_data":[]"#;
    for (properties, code) in [
        (
            r#""$session_id":"s""#.to_owned(),
            Some(Code::MissingSnapshotData),
        ),
        (
            r#""$session_id":"s","$snapshot_data":null"#.to_owned(),
            Some(Code::MissingSnapshotData),
        ),
        (
            r#""$session_id":"s","$snapshot_data":"text""#.to_owned(),
            Some(Code::MissingSnapshotData),
        ),
        (
            r#""$session_id":"s","$snapshot_items":[1]"#.to_owned(),
            None,
        ),
        (data.to_owned(), Some(Code::MissingSessionId)),
        (
            format!(r#""$session_id":null,{data}"#),
            Some(Code::MissingSessionId),
        ),
        (
            format!(r#""$session_id":7,{data}"#),
            Some(Code::InvalidSessionId),
        ),
        (
            format!(r#""$session_id":"",{data}"#),
            Some(Code::InvalidSessionId),
        ),
        (format!(r#""$session_id":"{long}",{data}"#), None),
        (
            format!(r#""$session_id":"{too_long}",{data}"#),
            Some(Code::InvalidSessionId),
        ),
        (
            format!(r#""$session_id":"a_b",{data}"#),
            Some(Code::InvalidSessionId),
        ),
        (
            format!(r#""$session_id":"é",{data}"#),
            Some(Code::InvalidSessionId),
        ),
        (format!(r#""$session_id":"\u0061-9Z",{data}"#), None),
    ] {
        let body = format!("[{},{}]", snapshot(&properties), snapshot(WHOLE));
        let outcomes: Vec<Outcome> = upload(body)
            .events
            .iter()
            .map(|event| event.outcome)
            .collect();
        let expected = code.map_or(Outcome::Accepted, Outcome::Rejected);
        assert_eq!(outcomes, [expected, Outcome::Accepted], "{properties}");
    }
    let anonymous = r#"[{"properties":{"token":"phc_a","$session_id":"s","$snapshot_data":[]}}]"#;
    let (_, event) = one(anonymous);
    assert_eq!(event.outcome, Outcome::Rejected(Code::MissingDistinctId));
}

/// As in PostHog's service: what makes a snapshot is the endpoint that it comes by.
#[test]
fn on_other_endpoints_a_snapshot_is_an_event_like_any_other() {
    for properties in [WHOLE, r#""a":1"#, r#""$session_id":"not valid""#] {
        let batch = decode(format!("[{}]", snapshot(properties))).unwrap();
        assert_eq!(batch.events[0].outcome, Outcome::Accepted);
    }
}

/// There is no column for a chain of elements in the place of them.
#[test]
fn elements_stay_in_the_properties_of_a_snapshot() {
    let properties = format!(r#"{WHOLE},"$elements":[{{"tag_name":"a"}}]"#);
    let (batch, event) = one(snapshot(&properties));
    assert!(
        batch
            .view()
            .get(event.properties)
            .contains(r#""$elements":[{"tag_name":"a"}]"#)
    );
    assert!(event.elements_chain.is_none());
}

#[test]
fn the_clock_of_an_upload_is_its_first_snapshots_before_that_of_the_query() {
    let sent = |minutes: i64, sent_at: &str| {
        format!(
            r#"{{"timestamp":"2026-01-01T00:0{minutes}:00Z",{sent_at}"distinct_id":"d","properties":{{"token":"phc_a",{WHOLE}}}}}"#
        )
    };
    // The client's clock is five minutes ahead.
    let first = sent(4, r#""sent_at":"2026-01-01T00:05:00Z","#);
    let second = sent(3, r#""sent_at":"2026-01-01T00:09:00Z","#);
    let silent = sent(4, "");
    let query = RequestContext {
        sent_at_us: Some(NOW + 6 * MINUTE_US),
        ..upload_context()
    };
    for (body, minutes_ago) in [
        (format!("[{first},{second}]"), 1),
        (first.clone(), 1),
        (format!("[{silent},{second}]"), 2),
        (
            format!(r#"{{"sent_at":"2026-01-01T00:07:00Z","batch":[{silent},{second}]}}"#),
            3,
        ),
        // The envelope's own wins, also where it has none.
        (format!(r#"{{"batch":[{first}]}}"#), 2),
    ] {
        let batch = decode_with(body.as_str(), &query).unwrap();
        let expected = NOW - minutes_ago * MINUTE_US;
        assert_eq!(batch.events[0].timestamp_us, expected, "{body}");
    }
    // An event's own is no clock of its request.
    let batch = decode(format!(
        r#"[{{"event":"e",{}]"#,
        first.strip_prefix('{').unwrap()
    ));
    let batch = batch.unwrap();
    assert_eq!(batch.sent_at_us, None);
    assert_eq!(batch.events[0].timestamp_us, NOW + 4 * MINUTE_US);
}
