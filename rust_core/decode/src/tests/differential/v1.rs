//! Capture v1 against the oracle: events, times, and the answer to the byte.

mod event;
mod options;
pub(super) mod oracle;
mod time;

use super::*;
use crate::v1::write_results;
use oracle::Refused;

/// What clients say of themselves: nothing, what can be used, and what can't.
const SDKS: [Option<&str>; 6] = [
    None,
    Some("posthog-go/1.23.1"),
    Some(r#" a"b / c\d/1 2 "#),
    Some("posthog-go"),
    Some("/1"),
    Some("posthog-gö/1"),
];

/// What goes into the properties.
const INJECTED: [&str; 8] = [
    "$session_id",
    "$window_id",
    "$cookieless_mode",
    "$ignore_sent_at",
    "$process_person_profile",
    "$product_tour_id",
    "$lib",
    "$lib_version",
];

const HOUR_US: i64 = 3_600_000_000;

/// Reads a body both ways and compares.
fn check(body: &[u8], random: &mut Random, seed: u64, seen: &mut Seen) {
    let context = RequestContext {
        limits: LIMITS,
        endpoint: Endpoint::V1Analytics,
        token: Some("phc_a".to_owned()),
        sdk_info: SDKS[random.below(SDKS.len())].map(str::to_owned),
        sent_at_us: Some(NOW + [0, HOUR_US, -HOUR_US][random.below(3)]),
        ..context()
    };
    let expected = oracle::read(body, &context);
    let shown = || format!("seed {seed:#x}, body b\"{}\"", body.escape_ascii());
    let decoded = decode_with(body, &context);
    let expected = match expected {
        Ok(expected) => expected,
        Err(Refused::UnknownTime) => {
            *seen.entry("unknown time").or_default() += 1;
            return;
        }
        Err(refused) => {
            let (code, detail) = match refused {
                Refused::ByEvent(code, index) => (code, Some(format!("event {index}"))),
                Refused::Whole(code) => (code, None),
                Refused::UnknownTime => unreachable!("it was skipped"),
            };
            let refusal = decoded.err();
            assert_eq!(
                refusal.as_ref().map(|refusal| refusal.code),
                Some(code),
                "{}",
                shown()
            );
            if detail.is_some() {
                assert_eq!(refusal.map(|refusal| refusal.detail), detail, "{}", shown());
            }
            *seen.entry(code.as_str()).or_default() += 1;
            return;
        }
    };
    let batch = decoded.unwrap_or_else(|refusal| panic!("{refusal:?}, {}", shown()));
    assert_eq!(
        batch.events.len(),
        expected.request.events.len(),
        "{}",
        shown()
    );
    let found = request_of(&batch, &expected.request.events);
    assert!(
        found == expected.request,
        "{}\nfound {found:#?}\nexpected {:#?}",
        shown(),
        expected.request
    );
    for (event, time) in batch.events.iter().zip(&expected.times) {
        let Some(time) = time else { continue };
        let warning = event
            .warnings
            .iter()
            .find(|warning| OF_TIMES.contains(warning));
        assert_eq!(
            (event.timestamp_us, warning),
            (time.at_us, time.warning),
            "{}",
            shown()
        );
        *seen
            .entry(time.warning.map_or("time", Warning::as_str))
            .or_default() += 1;
    }
    for (persisted, answer) in [true, false].into_iter().zip(&expected.answers) {
        let found = write_results(&batch, persisted);
        assert_eq!(String::from_utf8_lossy(&found), *answer, "{}", shown());
    }
    for event in &expected.request.events {
        let Properties::Merged { members, .. } = &event.properties else {
            continue;
        };
        let named = |name: &str| members.iter().any(|[found, ..]| found == name);
        for name in INJECTED.into_iter().filter(|name| named(name)) {
            *seen.entry(name).or_default() += 1;
        }
    }
    note(body, Ok(&expected.request), seen);
}

fn check_many(count: u64, salt: u64, is_damaged: bool) -> Seen {
    let mut seen = Seen::new();
    for index in 0..count {
        let seed = SEED ^ salt << 48 ^ index;
        let mut random = Random::new(seed);
        let mut body = generator::v1::request(&mut random);
        if is_damaged {
            generator::mutate(&mut random, &mut body);
        }
        check(&body, &mut random, seed, &mut seen);
    }
    seen
}

const OF_EVENTS: [Code; 12] = [
    Code::EventTooLarge,
    Code::EventTooDeep,
    Code::MissingEventName,
    Code::InvalidEventName,
    Code::EmptyEventName,
    Code::DroppedPerformanceEvent,
    Code::EventNameTooLong,
    Code::MissingDistinctId,
    Code::DistinctIdTooLarge,
    Code::InvalidEventTimestamp,
    Code::InvalidProperties,
    Code::InvalidOptions,
];

const OF_REQUESTS: [Code; 6] = [
    Code::UnsupportedShape,
    Code::NoEvents,
    Code::InvalidBatch,
    Code::MissingEventUuid,
    Code::InvalidEventUuid,
    Code::DuplicateEventUuid,
];

#[test]
fn v1_bodies_of_odd_clients_read_as_serde_json_reads_them() {
    let seen = check_many(30_000, 4, false);
    assert_seen(&seen, 5_000, &[], &["read", "accepted", "merged", "time"]);
    assert_seen(&seen, 100, &OF_EVENTS, &[]);
    assert_seen(&seen, 100, &OF_REQUESTS, &[]);
    let warnings = [
        Warning::LoneSurrogate,
        Warning::NulReplaced,
        Warning::InvalidTimestamp,
        Warning::TimestampInFuture,
        Warning::TimestampOutOfRange,
        Warning::InvalidProcessPersonProfile,
        Warning::PersonProcessingDisabled,
    ];
    assert_seen(&seen, 100, &[], &warnings.map(Warning::as_str));
    assert_seen(&seen, 500, &[], &INJECTED);
    assert!(seen["unknown time"] < 1_000, "{seen:#?}");
    // All of it is JSON, whatever else it is.
    assert_eq!(seen.get(Code::InvalidJson.as_str()), None);
}

#[test]
fn damaged_v1_bodies_read_as_serde_json_reads_them() {
    let seen = check_many(30_000, 5, true);
    assert_seen(&seen, 5_000, &[Code::InvalidJson], &[]);
    assert_seen(&seen, 1_000, &[], &["read", "accepted", "merged"]);
    assert_seen(&seen, 300, &[], &["repaired"]);
    assert!(seen["unknown time"] < 4_000, "{seen:#?}");
    assert_seen(&seen, 20, &OF_EVENTS, &[]);
    assert_seen(&seen, 20, &OF_REQUESTS, &[]);
}
