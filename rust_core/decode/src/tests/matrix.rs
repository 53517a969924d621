//! The matrix of codings that PostHog's tests have (`posthog-protocol.md` §7.2), on every endpoint,
//! and where one coding stands inside of another.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use penstock_model::BatchText;

use super::*;

const EVENT: &str = r#"{"api_key":"phc_a","event":"e","distinct_id":"d"}"#;

/// [`EVENT`] by lz-string 1.5.0 of npm, `compressToBase64`.
const EVENT_IN_LZ64: &str = "N4IghgDglg+g1gUwJ4gFwggCwMYzCAGhAQDcEA7AFzWMJABMoBnSqc7SmKemngXyA===";

/// What every coding below stands for when it is taken.
fn check(body: impl AsRef<[u8]>, coding: Coding, name: &str) {
    // Capture v1 has an envelope of its own.
    let endpoints = Endpoint::ALL.into_iter();
    for endpoint in endpoints.filter(|endpoint| !endpoint.is_v1()) {
        let context = RequestContext {
            endpoint,
            coding,
            ..context()
        };
        let batch = decode_with(body.as_ref(), &context)
            .unwrap_or_else(|refusal| panic!("{name} on {}: {refusal}", endpoint.name()));
        assert_eq!(batch.view().get(batch.events[0].raw), EVENT, "{name}");
        let expected = if endpoint.takes_recordings() {
            Outcome::Rejected(Code::MissingSnapshotData)
        } else {
            Outcome::Accepted
        };
        assert_eq!(batch.events[0].outcome, expected, "{name}");
    }
}

fn base64(bytes: impl AsRef<[u8]>) -> String {
    BASE64_STANDARD.encode(bytes)
}

/// All but letters and digits escaped, as `encodeURIComponent` and the like do.
fn percent(bytes: impl AsRef<[u8]>) -> String {
    let escaped = bytes.as_ref().iter().map(|byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(*byte).to_string(),
        _ => format!("%{byte:02X}"),
    });
    escaped.collect()
}

#[test]
fn plain_and_base64_bodies_are_read_with_and_without_a_hint() {
    for coding in [
        Coding::Unspecified,
        Coding::Identity,
        Coding::Base64,
        Coding::Gzip,
    ] {
        check(EVENT, coding, "plain");
        check(base64(EVENT), coding, "base64");
        check(
            base64(EVENT).replace('=', ""),
            coding,
            "base64 without padding",
        );
        check(
            format!("{}\n", base64(EVENT)),
            coding,
            "base64 with a line break",
        );
        check(base64(base64(EVENT)), coding, "base64 twice");
    }
    let padded = format!("\u{feff}{}{EVENT}", " ".repeat(200));
    check(
        base64(padded),
        Coding::Unspecified,
        "base64 of white space and JSON",
    );
}

#[test]
fn forms_are_read_with_and_without_a_hint() {
    let data = [
        ("JSON", percent(EVENT)),
        ("base64", percent(base64(EVENT))),
        ("base64 as it is", base64(EVENT)),
        ("base64 of gzip", percent(base64(gzip(EVENT.as_bytes())))),
        ("gzip", percent(gzip(EVENT.as_bytes()))),
    ];
    for (name, data) in data {
        for coding in [Coding::Unspecified, Coding::Base64, Coding::Gzip] {
            check(format!("data={data}"), coding, name);
            check(format!("data={data}&compression=base64"), coding, name);
            check(
                format!("ip=1&_=1767225600000&ver=1.2&data={data}&x"),
                coding,
                name,
            );
        }
    }
    check(
        format!("data={EVENT}"),
        Coding::Unspecified,
        "JSON as it is",
    );
}

#[test]
fn lz64_is_read_where_it_is_announced() {
    let form = format!("data={}", percent(EVENT_IN_LZ64));
    check(EVENT_IN_LZ64, Coding::Lz64, "body");
    check(&form, Coding::Lz64, "form with a hint");
    for name in ["lz64", "lz-string", "LZ64"] {
        let form = format!("{form}&compression={name}");
        check(&form, Coding::Unspecified, "form that says so");
        check(&form, Coding::Gzip, "form under another's header");
    }
    check(EVENT, Coding::Lz64, "plain under its hint");
    check(gzip(EVENT.as_bytes()), Coding::Lz64, "gzip under its hint");
    // Unannounced, its letters are base64 of nothing.
    assert_eq!(refused(EVENT_IN_LZ64), Code::InvalidJson);
}

#[test]
fn codings_of_text_stand_around_and_inside_of_those_that_compress() {
    for coding in [Coding::Unspecified, Coding::Gzip, Coding::Base64] {
        check(base64(gzip(EVENT.as_bytes())), coding, "base64 of gzip");
        check(gzip(base64(EVENT).as_bytes()), coding, "gzip of base64");
        check(
            gzip(format!("data={}", base64(EVENT)).as_bytes()),
            coding,
            "gzip of a form",
        );
    }
    // Nothing goes on for ever: compression and forms are undone once, base64 twice.
    let twice = |coded: String| format!("data={}", percent(coded));
    assert_eq!(refused(gzip(&gzip(EVENT.as_bytes()))), Code::InvalidJson);
    assert_eq!(refused(twice(twice(EVENT.to_owned()))), Code::InvalidJson);
    assert_eq!(refused(base64(base64(base64(EVENT)))), Code::InvalidJson);
}

#[test]
fn a_form_without_data_is_a_request_without_payload() {
    for body in [
        "data=",
        "compression=gzip",
        "_=1767225600000",
        "data=&data=",
        "data=%20",
    ] {
        assert_eq!(refused(body), Code::MissingPayload, "{body}");
    }
    for body in ["data=+%0A+", "data=%7B", "data=x"] {
        assert_eq!(refused(body), Code::InvalidJson, "{body}");
    }
}

#[test]
fn a_plus_of_base64_may_have_become_a_space_on_the_way() {
    let event = r#"{"api_key":"phc_a","event":"~~~~","distinct_id":"d"}"#;
    let data = base64(event);
    // Where it counts: among the first letters, which are looked at.
    assert!(data.contains('+') && data.len() < 128);
    for body in [
        format!("data={}", data.replace('+', " ")),
        format!("data={}", data.replace('+', "%20")),
        format!("data={}", percent(data.replace('+', " "))),
        data.replace('+', " "),
    ] {
        for coding in [Coding::Unspecified, Coding::Base64] {
            let context = RequestContext {
                coding,
                ..context()
            };
            let batch = decode_with(body.as_str(), &context).unwrap();
            assert_eq!(batch.view().get(batch.events[0].raw), event, "{body}");
        }
    }
}

#[test]
fn what_only_looks_like_base64_is_read_as_it_stands() {
    for (body, code) in [
        ("null", Code::UnsupportedShape),
        ("true", Code::UnsupportedShape),
        ("1234", Code::UnsupportedShape),
        ("events", Code::InvalidJson),
        ("", Code::MissingPayload),
    ] {
        assert_eq!(refused(body), code, "{body}");
    }
    let hinted = RequestContext {
        coding: Coding::Base64,
        ..context()
    };
    let refusal = decode_with("#", &hinted).unwrap_err();
    assert_eq!(refusal.code, Code::InvalidBase64);
}

#[test]
fn a_plain_body_is_shared_and_a_coded_one_is_not() {
    let shared = |body: String, coding| {
        let context = RequestContext {
            coding,
            ..context()
        };
        let batch = decode_with(body, &context).unwrap();
        matches!(batch.text, BatchText::Received(_))
    };
    for coding in Coding::ALL {
        assert!(shared(EVENT.to_owned(), coding), "{coding:?}");
        assert!(!shared(base64(EVENT), Coding::Unspecified));
        assert!(!shared(format!("data={EVENT}"), Coding::Unspecified));
    }
}
