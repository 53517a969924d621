//! What real SDKs put on the wire of capture v1.

use serde_json::Value;

use super::*;
use crate::tests::recorded::{LATER, RECORDINGS, from_base64, items};
use crate::v1::{RawHead, read_head};

fn header<'a>(request: &'a Value, name: &str) -> Option<&'a [u8]> {
    let mut pairs = request["headers"].as_array().unwrap().iter();
    let pair = pairs.find(|pair| pair[0].as_str().unwrap().eq_ignore_ascii_case(name))?;
    Some(pair[1].as_str().unwrap().as_bytes())
}

fn context_of(request: &Value) -> RequestContext {
    let coding = match header(request, "content-encoding") {
        None => Coding::Unspecified,
        Some(b"gzip") => Coding::Gzip,
        Some(b"deflate") => Coding::Deflate,
        Some(b"br") => Coding::Brotli,
        Some(b"zstd") => Coding::Zstd,
        other => panic!("{other:?}"),
    };
    let head = read_head(&RawHead {
        authorization: header(request, "authorization"),
        sdk_info: header(request, "posthog-sdk-info"),
        attempt: header(request, "posthog-attempt"),
        request_id: header(request, "posthog-request-id"),
        request_timestamp: header(request, "posthog-request-timestamp"),
        content_type: header(request, "content-type"),
        user_agent: header(request, "user-agent"),
        coding: Some(coding),
    })
    .unwrap();
    RequestContext {
        endpoint: Endpoint::V1Analytics,
        coding: head.coding,
        received_at_us: LATER,
        sent_at_us: Some(head.sent_at_us),
        token: Some(head.token),
        sdk_info: head.sdk_info,
        ..context()
    }
}

/// The properties with what must have been put into them.
fn expected_properties(item: &Value, sdk_info: &str) -> Value {
    let mut properties = item["properties"].as_object().unwrap().clone();
    let (name, version) = sdk_info.split_once('/').unwrap();
    properties.insert("$lib".to_owned(), name.into());
    properties.insert("$lib_version".to_owned(), version.into());
    for (key, value) in [
        ("$session_id", item.get("session_id")),
        ("$window_id", item.get("window_id")),
        (
            "$process_person_profile",
            item["options"].get("process_person_profile"),
        ),
    ] {
        if let Some(value) = value {
            properties.insert(key.to_owned(), value.clone());
        }
    }
    Value::Object(properties)
}

#[test]
fn every_recorded_request_is_stored_with_all_its_events() {
    let (mut requests, mut events) = (0, 0);
    for line in RECORDINGS.iter().flat_map(|recording| recording.lines()) {
        let request: Value = serde_json::from_str(line).unwrap();
        if request["path"] != "/i/v1/analytics/events" {
            continue;
        }
        let name = format!("{} of {}", request["seq"], request["label"]);
        let context = context_of(&request);
        let sdk_info = context.sdk_info.clone().unwrap();
        let body = from_base64(request["body_b64"].as_str().unwrap());
        let batch = decode_with(body, &context).unwrap();
        let view = batch.view();
        assert_eq!(view.get(batch.token), "phc_sdktest", "{name}");
        let items = items(&request["decoded"]["json"]);
        assert_eq!(batch.events.len(), items.len(), "{name}");
        for (event, item) in batch.events.iter().zip(items) {
            assert_eq!(event.outcome, Outcome::Accepted, "{name}");
            assert_eq!(warnings(event), [], "{name}");
            assert_eq!(view.get(event.event), item["event"], "{name}");
            assert_eq!(view.get(event.distinct_id), item["distinct_id"], "{name}");
            assert_eq!(event.uuid.to_string(), item["uuid"].as_str().unwrap());
            let properties: Value = serde_json::from_str(view.get(event.properties)).unwrap();
            assert_eq!(properties, expected_properties(item, &sdk_info), "{name}");
            let answer = write_results(&batch, true);
            let answer: Value = serde_json::from_slice(&answer).unwrap();
            let uuid = item["uuid"].as_str().unwrap();
            assert_eq!(answer["results"][uuid]["result"], "ok", "{name}");
            events += 1;
        }
        requests += 1;
    }
    assert_eq!((requests, events), (13, 48));
}
