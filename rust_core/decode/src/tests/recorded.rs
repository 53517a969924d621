//! What real SDKs put on the wire, against what `serde_json` finds in it.
//!
//! `tests/vectors/sdk` of the repository holds whole recordings with their documents decoded by the
//! recorder; `tests/bodies` of this crate holds one body of each SDK, endpoint, shape and coding,
//! named so. A `bare` one came compressed without a word about it.

use std::io::Read as _;

use penstock_model::ClientIp;
use serde_json::{Map, Value};

use super::*;

macro_rules! recordings {
    ($($name:literal)*) => {
        [$(include_str!(concat!("../../../../tests/vectors/sdk/", $name, ".jsonl"))),*]
    };
}

pub(super) const RECORDINGS: [&str; 14] = recordings!(
    "android-core" "curl" "go" "java-server" "node" "php" "python" "react-native" "react" "web"
    "derived/posthog-dotnet" "derived/posthog-ios" "derived/posthog-java-legacy"
    "derived/posthog-rs"
);

macro_rules! bodies {
    ($($name:literal)*) => {
        [$(($name, include_bytes!(concat!("../../tests/bodies/", $name)).as_slice())),*]
    };
}

const BODIES: [(&str, &[u8]); 30] = bodies!(
    "android-core-batch-batch.gz" "curl-batch-batch.json" "curl-batch-one.gz"
    "curl-batch-one.json" "curl-capture-one.json" "curl-e-list.json" "curl-e-one-bare.gz"
    "curl-e-one.json" "curl-engage-one.json" "curl-i_v0_e-one.json" "curl-track-one.json"
    "dotnet-batch-batch.gz" "dotnet-capture-one.json" "go-batch-batch.gz" "go-batch-batch.json"
    "ios-batch-batch.gz" "java-legacy-batch-batch.json" "java-server-batch-batch.gz"
    "node-batch-batch.gz" "node-batch-batch.json" "php-batch-batch.gz" "php-batch-batch.json"
    "python-batch-batch.gz" "python-batch-batch.json" "react-i_v0_e-batch-bare.gz"
    "react-native-batch-batch.gz" "rs-batch-batch.gz" "rs-batch-batch.json"
    "web-e-batch-bare.gz" "web-e-batch.json"
);

pub(super) fn from_base64(text: &str) -> Vec<u8> {
    let sextet = |letter: u8| match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => panic!("no base64: {letter:#x}"),
    };
    let mut out = Vec::new();
    let (mut bits, mut count) = (0_u32, 0);
    for letter in text.trim_end_matches('=').bytes() {
        bits = bits << 6 | u32::from(sextet(letter));
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push(u8::try_from(bits >> count & 0xff).unwrap());
        }
    }
    out
}

/// Of 2030, when none of what was recorded is ahead any more.
pub(super) const LATER: i64 = 1_893_456_000_000_000;

/// The events of a document, in order.
pub(super) fn items(document: &Value) -> Vec<&Value> {
    match document {
        Value::Array(items) => items.iter().collect(),
        _ => match document.get("batch") {
            Some(batch) => batch.as_array().unwrap().iter().collect(),
            None => vec![document],
        },
    }
}

/// `properties` with the one rewrite that good clients meet: objects at the root are merged in.
fn expected_properties(item: &Value) -> Value {
    let empty = Map::new();
    let own = item
        .get("properties")
        .and_then(Value::as_object)
        .unwrap_or(&empty);
    let mut properties = own.clone();
    properties.remove("$elements");
    for key in ["$set", "$set_once", "$groups"] {
        let root = item.get(key).and_then(Value::as_object).unwrap_or(&empty);
        if root.is_empty() {
            continue;
        }
        let inside = properties
            .entry(key)
            .or_insert_with(|| Value::Object(Map::new()));
        let inside = inside.as_object_mut().unwrap();
        inside.extend(root.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
    Value::Object(properties)
}

fn id_text(item: &Value) -> String {
    let inside = item
        .get("properties")
        .and_then(|properties| properties.get("distinct_id"));
    let places = [item.get("distinct_id"), item.get("$distinct_id"), inside];
    match places
        .into_iter()
        .flatten()
        .find(|id| !id.is_null())
        .unwrap()
    {
        Value::String(id) => id.clone(),
        id => id.to_string(),
    }
}

/// Decodes a recorded body and finds in it every event of `document`, in order. Gives their number.
fn check(body: &[u8], context: &RequestContext, document: &Value, name: &str) -> usize {
    let context = RequestContext {
        received_at_us: LATER,
        ..context.clone()
    };
    let batch = decode_with(body, &context).unwrap();
    let view = batch.view();
    let items = items(document);
    assert_eq!(view.get(batch.token), "phc_sdktest", "{name}");
    assert_eq!(batch.events.len(), items.len(), "{name}");
    let historical = document.get("historical_migration") == Some(&Value::Bool(true));
    assert_eq!(batch.historical, historical, "{name}");
    let sent_at = if context.endpoint.takes_recordings() {
        items[0].get("sent_at")
    } else {
        document.get("batch").and(document.get("sent_at"))
    };
    assert_eq!(
        batch.sent_at_us.is_some(),
        sent_at.is_some_and(|at| !at.is_null()),
        "{name}"
    );
    for (index, (event, item)) in batch.events.iter().zip(&items).enumerate() {
        let name = format!("{name}, event {index}");
        assert_eq!(event.outcome, Outcome::Accepted, "{name}");
        assert_eq!(warnings(event), [], "{name}");
        assert_eq!(
            Some(view.get(event.event)),
            item["event"].as_str(),
            "{name}"
        );
        assert_eq!(view.get(event.distinct_id), id_text(item), "{name}");
        let uuid = event.uuid_given.then(|| event.uuid.to_string());
        let sent = item
            .get("uuid")
            .and_then(Value::as_str)
            .map(str::to_lowercase);
        assert_eq!(uuid, sent, "{name}");
        let timestamp = event.client_timestamp.map(|text| view.get(text));
        assert_eq!(
            timestamp,
            item.get("timestamp").and_then(Value::as_str),
            "{name}"
        );
        let properties: Value = serde_json::from_str(view.get(event.properties)).unwrap();
        assert_eq!(properties, expected_properties(item), "{name}");
        for (key, text) in [
            ("$session_id", event.session_id),
            ("$window_id", event.window_id),
            ("$snapshot_source", event.snapshot_source),
            ("$lib", event.lib),
            ("$lib_version", event.lib_version),
            ("$elements_chain", event.elements_chain),
            (
                "$ip",
                match event.ip {
                    ClientIp::Given(ip) => Some(ip),
                    ClientIp::Unsaid | ClientIp::Withheld => None,
                },
            ),
        ] {
            let text = text.map(|text| view.get(text));
            assert_eq!(
                text,
                properties.get(key).and_then(Value::as_str),
                "{name}: {key}"
            );
        }
        let personless = properties.get("$process_person_profile") == Some(&Value::Bool(false));
        assert_eq!(event.propertyless, personless, "{name}");
        let raw: Value = serde_json::from_str(view.get(event.raw)).unwrap();
        assert_eq!(&raw, *item, "{name}");
    }
    items.len()
}

/// The endpoint of a path that carries events of the first protocol.
fn endpoint_of(path: &str) -> Option<Endpoint> {
    Some(match path.trim_matches('/') {
        "batch" => Endpoint::Batch,
        "i/v0/ai/batch" => Endpoint::AiBatch,
        "e" => Endpoint::E,
        "i/v0/e" => Endpoint::IV0E,
        "capture" => Endpoint::Capture,
        "track" => Endpoint::Track,
        "engage" => Endpoint::Engage,
        "s" => Endpoint::Recordings,
        _ => return None,
    })
}

#[test]
fn every_recorded_request_gives_the_events_that_were_sent() {
    let (mut requests, mut events) = (0, 0);
    for line in RECORDINGS.iter().flat_map(|recording| recording.lines()) {
        let request: Value = serde_json::from_str(line).unwrap();
        let Some(endpoint) = request["path"].as_str().and_then(endpoint_of) else {
            continue;
        };
        let Some(how) = request["decoded"]["how"].as_array() else {
            // A preflight.
            continue;
        };
        let coding = match how.as_slice() {
            [how] if *how == "plain" || *how == "gzip-by-magic" => Coding::Unspecified,
            [how] if *how == "content-encoding:gzip" || *how == "gzip-by-query" => Coding::Gzip,
            // Forms and queries, whatever their data is.
            [how, ..] if *how == "form:data" || *how == "query:data" => Coding::Unspecified,
            _ => continue,
        };
        let context = RequestContext {
            endpoint,
            coding,
            ..context()
        };
        let mut body = from_base64(request["body_b64"].as_str().unwrap());
        assert_eq!(request["body_bytes"], body.len());
        if request["method"] == "GET" {
            // What the front makes of a query.
            let (_, query) = request["target"].as_str().unwrap().split_once('?').unwrap();
            body = query.as_bytes().to_vec();
        }
        let name = format!("{} of {}", request["seq"], request["label"]);
        events += check(&body, &context, &request["decoded"]["json"], &name);
        requests += 1;
    }
    assert_eq!((requests, events), (246, 2_379));
}

#[test]
fn a_body_of_every_sdk_gives_the_events_that_were_sent() {
    for (name, body) in BODIES {
        let packed = name.strip_suffix(".gz").is_some();
        let mut text = Vec::new();
        if packed {
            flate2::read::GzDecoder::new(body)
                .read_to_end(&mut text)
                .unwrap();
        } else {
            text.extend_from_slice(body);
        }
        let document: Value = serde_json::from_slice(&text).unwrap();
        let endpoint = if name.contains("-engage-") {
            Endpoint::Engage
        } else {
            Endpoint::E
        };
        let hint = if packed && !name.contains("-bare") {
            Coding::Gzip
        } else {
            Coding::Unspecified
        };
        let context = RequestContext {
            endpoint,
            coding: hint,
            ..context()
        };
        assert!(check(body, &context, &document, name) > 0);
        // A proxy may have undone the coding and left the hint.
        check(&text, &context, &document, name);
    }
}

/// `properties` go from the body to the table without a copy where nothing has to be rewritten.
#[test]
fn the_properties_of_most_sdks_stay_where_they_are() {
    for (name, body) in BODIES {
        let batch = decode(body).unwrap();
        let view = batch.view();
        let merged = ["$set", "$set_once", "$groups"];
        for event in &batch.events {
            let raw: Value = serde_json::from_str(view.get(event.raw)).unwrap();
            let merges = merged.iter().any(|key| {
                raw.get(key)
                    .and_then(Value::as_object)
                    .is_some_and(|object| !object.is_empty())
            });
            let properties = view.get(event.properties);
            let inside = view.get(event.raw).as_bytes().as_ptr_range();
            let shared = inside.contains(&properties.as_ptr());
            assert_eq!(shared, !merges && raw.get("properties").is_some(), "{name}");
        }
    }
}
