//! Our one-pass reader against `serde_json`, on more bodies than anybody would write.
//!
//! `oracle` reads each body a second time, and everything that a batch says must be the same: what
//! is refused and with which code, the events, and the text of every field. Where the two differ
//! on purpose, `oracle` says so at the one place where they do. `v1` does the same for capture v1,
//! and `cookieless` for the text that takes the place of a body with visitors in it.

mod cookieless;
mod event;
mod generator;
mod oracle;
mod raw;
mod v1;
mod vocabulary;

use std::collections::BTreeMap;

use penstock_model::{BatchView, ClientIp, Text};

use super::random::Random;
use super::*;
use oracle::{Fields, Properties, Request};

/// Changed only to look further; a body that failed once becomes a test by name.
const SEED: u64 = 0x7065_6e73_746f_636b;

/// Limits that a body of some hundred bytes can reach.
const LIMITS: DecodeLimits = DecodeLimits {
    max_json_depth: 8,
    max_event_bytes: 700,
    ..DecodeLimits::DEFAULT
};

/// How often something came up, so that no test is empty without anybody's noticing.
type Seen = BTreeMap<&'static str, usize>;

/// Warnings that JSON has no part in.
const OF_TIMES: [Warning; 3] = [
    Warning::InvalidTimestamp,
    Warning::TimestampInFuture,
    Warning::TimestampOutOfRange,
];

fn fields(event: &Event, view: BatchView<'_>, expected: &Fields) -> Fields {
    let get = |text: Text| view.get(text).to_owned();
    let properties = match &expected.properties {
        Properties::Text(_) => Properties::Text(get(event.properties)),
        Properties::Merged { keys, .. } => Properties::Merged {
            keys: keys.clone(),
            members: raw::flatten(view.get(event.properties), keys),
        },
    };
    let texts = [
        event.session_id,
        event.window_id,
        event.lib,
        event.lib_version,
        event.elements_chain,
        match event.ip {
            ClientIp::Given(ip) => Some(ip),
            ClientIp::Unsaid | ClientIp::Withheld => None,
        },
        event.snapshot_source,
    ];
    Fields {
        outcome: event.outcome,
        raw: get(event.raw),
        event: get(event.event),
        distinct_id: get(event.distinct_id),
        uuid: event.uuid_given.then(|| u128::from_be_bytes(event.uuid.0)),
        client_timestamp: event.client_timestamp.map(get),
        properties,
        texts: texts.map(|text| text.map(get)),
        propertyless: event.propertyless,
        cookieless: event.cookieless,
        warnings: event
            .warnings
            .iter()
            .filter(|warning| !OF_TIMES.contains(warning))
            .collect(),
    }
}

/// A batch in the oracle's words, as far as there are events to compare with.
fn request_of(batch: &Batch, expected: &[Fields]) -> Request {
    let view = batch.view();
    let pairs = batch.events.iter().zip(expected);
    Request {
        token: view.get(batch.token).to_owned(),
        historical: batch.historical,
        events: pairs
            .map(|(event, expected)| fields(event, view, expected))
            .collect(),
    }
}

/// Reads a body both ways and compares.
fn check(body: &[u8], random: &mut Random, seed: u64, seen: &mut Seen) {
    let context = RequestContext {
        limits: LIMITS,
        endpoint: match random.below(8) {
            0 | 1 => Endpoint::Engage,
            2 => Endpoint::Recordings,
            _ => Endpoint::Batch,
        },
        token: random.one_in(8).then(|| "phc_a".to_owned()),
        ..context()
    };
    let expected = oracle::read(body, &context);
    let decoded = decode_with(body, &context);
    let found = decoded
        .as_ref()
        .map_err(|refusal| refusal.code)
        .map(|batch| {
            let expected = expected.as_ref().map(|request| request.events.as_slice());
            request_of(batch, expected.unwrap_or_default())
        });
    assert!(
        found == expected,
        "seed {seed:#x}, body b\"{}\"\nfound {found:#?}\nexpected {expected:#?}",
        body.escape_ascii()
    );
    if let Ok(batch) = &decoded {
        let expected = expected.as_ref().map_or(0, |request| request.events.len());
        assert_eq!(
            batch.events.len(),
            expected,
            "seed {seed:#x}, body b\"{}\"",
            body.escape_ascii()
        );
    }
    note(body, expected.as_ref(), seen);
}

/// Counts what a body was good for.
fn note(body: &[u8], expected: Result<&Request, &Code>, seen: &mut Seen) {
    let mut count = |what| *seen.entry(what).or_default() += 1;
    let request = match expected {
        Ok(request) => request,
        Err(code) => return count(code.as_str()),
    };
    count("read");
    if std::str::from_utf8(body).is_err() {
        count("repaired");
    }
    for event in &request.events {
        match event.outcome {
            Outcome::Rejected(code) => count(code.as_str()),
            _ => count("accepted"),
        }
        if matches!(event.properties, Properties::Merged { .. }) {
            count("merged");
        }
        event
            .warnings
            .iter()
            .for_each(|warning| count(warning.as_str()));
    }
}

/// Checks `count` bodies that `make` makes.
fn check_many(count: u64, salt: u64, make: impl Fn(&mut Random) -> Vec<u8>) -> Seen {
    let mut seen = Seen::new();
    for index in 0..count {
        let seed = SEED ^ salt << 48 ^ index;
        let mut random = Random::new(seed);
        let body = make(&mut random);
        check(&body, &mut random, seed, &mut seen);
    }
    seen
}

/// Checks that a test was about something: each of `codes` and of `others` came up in earnest.
fn assert_seen(seen: &Seen, at_least: usize, codes: &[Code], others: &[&str]) {
    for what in codes
        .iter()
        .map(|code| code.as_str())
        .chain(others.iter().copied())
    {
        let count = seen.get(what).copied().unwrap_or_default();
        assert!(count >= at_least, "{what}: {count} times in {seen:#?}");
    }
}

const OF_EVENTS: [Code; 10] = [
    Code::NotAnObject,
    Code::MissingEventName,
    Code::InvalidEventName,
    Code::EmptyEventName,
    Code::MissingDistinctId,
    Code::InvalidUuid,
    Code::InvalidProperties,
    Code::EventTooLarge,
    Code::EventTooDeep,
    Code::TokenMismatch,
];

#[test]
fn bodies_of_odd_clients_read_as_serde_json_reads_them() {
    let seen = check_many(60_000, 1, generator::request);
    assert_seen(&seen, 5_000, &[], &["read", "accepted", "merged"]);
    assert_seen(&seen, 200, &OF_EVENTS, &[]);
    let of_snapshots = [
        Code::MissingSnapshotData,
        Code::MissingSessionId,
        Code::InvalidSessionId,
    ];
    assert_seen(&seen, 10, &of_snapshots, &[]);
    let of_requests = [
        Code::UnsupportedShape,
        Code::NoEvents,
        Code::MissingToken,
        Code::InvalidToken,
        Code::ConflictingTokens,
        Code::RequestTooDeep,
    ];
    assert_seen(&seen, 100, &of_requests, &[]);
    let warnings = [
        Warning::DistinctIdTruncated,
        Warning::LoneSurrogate,
        Warning::InvalidProcessPersonProfile,
        Warning::NulReplaced,
    ];
    assert_seen(&seen, 200, &[], &warnings.map(Warning::as_str));
    // All of it is JSON, whatever else it is.
    assert_eq!(seen.get(Code::InvalidJson.as_str()), None);
}

#[test]
fn damaged_bodies_read_as_serde_json_reads_them() {
    let seen = check_many(60_000, 2, |random| {
        let mut body = generator::request(random);
        generator::mutate(random, &mut body);
        body
    });
    let invalid = [Code::InvalidJson];
    assert_seen(&seen, 20_000, &invalid, &[]);
    assert_seen(
        &seen,
        1_000,
        &[],
        &["read", "accepted", "merged", "repaired"],
    );
    assert_seen(&seen, 50, &OF_EVENTS, &[]);
}

#[test]
fn bytes_without_a_plan_read_as_serde_json_reads_them() {
    let seen = check_many(80_000, 3, generator::soup);
    assert_seen(
        &seen,
        5_000,
        &[Code::InvalidJson, Code::UnsupportedShape],
        &[],
    );
    assert_seen(
        &seen,
        50,
        &[Code::MissingPayload, Code::NoEvents],
        &["read", "repaired"],
    );
}
