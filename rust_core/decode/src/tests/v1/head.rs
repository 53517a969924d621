//! The headers.

use super::*;
use crate::v1::{Head, RawHead, read_head};

type Change = fn(&mut RawHead<'static>);

const REQUEST_ID: &[u8] = b"0198c0de-0000-7000-8000-000000000abc";

fn good() -> RawHead<'static> {
    RawHead {
        authorization: Some(b"Bearer phc_a"),
        sdk_info: Some(b"posthog-go/1.23.1"),
        attempt: Some(b"1"),
        request_id: Some(REQUEST_ID),
        request_timestamp: Some(b"2026-01-01T00:00:00Z"),
        content_type: Some(b"application/json"),
        user_agent: Some(b"posthog-go/1.23.1"),
        coding: Some(Coding::Gzip),
    }
}

#[test]
fn headers_as_sdks_send_them_are_taken() {
    assert_eq!(
        read_head(&good()),
        Ok(Head {
            token: "phc_a".to_owned(),
            sent_at_us: NOW,
            sdk_info: Some("posthog-go/1.23.1".to_owned()),
            coding: Coding::Gzip,
        })
    );
}

#[test]
fn the_token_is_looked_at_first() {
    let refusal = read_head(&RawHead::default()).unwrap_err();
    assert_eq!(refusal.code, Code::MissingAuthorization);
    // As in PostHog's service: what is there, and is none, is a header of a wrong value.
    for authorization in [
        &b""[..],
        b"phc_a",
        b"Basic cGhj",
        b"Bearerphc_a",
        b"Bear",
        b"Bearer",
        b"Bearer  ",
    ] {
        let head = RawHead {
            authorization: Some(authorization),
            ..good()
        };
        let refusal = read_head(&head).unwrap_err();
        assert_eq!(refusal.code, Code::InvalidHeader, "{authorization:?}");
        let bare = RawHead {
            authorization: Some(authorization),
            ..RawHead::default()
        };
        assert_eq!(read_head(&bare).unwrap_err().code, Code::MissingHeaders);
    }
    for (authorization, reason) in [
        (&b"Bearer phx_a"[..], "personal_api_key"),
        (b"Bearer \xff", "not_ascii"),
        (&[b"Bearer ".as_slice(), &[b'a'; 65]].concat(), "too_long"),
    ] {
        let head = RawHead {
            authorization: Some(authorization),
            ..good()
        };
        let refusal = read_head(&head).unwrap_err();
        assert_eq!(
            (refusal.code, &*refusal.detail),
            (Code::InvalidToken, reason)
        );
    }
    for authorization in [&b"bearer phc_a"[..], b"BEARER\tphc_a", b" Bearer   phc_a  "] {
        let head = RawHead {
            authorization: Some(authorization),
            ..good()
        };
        assert_eq!(read_head(&head).unwrap().token, "phc_a");
    }
}

#[test]
fn every_missing_header_is_named() {
    let bare = RawHead {
        authorization: good().authorization,
        coding: Some(Coding::Unspecified),
        ..RawHead::default()
    };
    let refusal = read_head(&bare).unwrap_err();
    assert_eq!(
        (refusal.code, &*refusal.detail),
        (
            Code::MissingHeaders,
            "PostHog-Sdk-Info, PostHog-Attempt, PostHog-Request-Id, PostHog-Request-Timestamp, \
             Content-Type, User-Agent"
        )
    );
    let changes: [(&str, Change); 6] = [
        ("PostHog-Sdk-Info", |head| head.sdk_info = None),
        ("PostHog-Attempt", |head| head.attempt = None),
        ("PostHog-Request-Id", |head| head.request_id = None),
        ("PostHog-Request-Timestamp", |head| {
            head.request_timestamp = None;
        }),
        ("Content-Type", |head| head.content_type = None),
        ("User-Agent", |head| head.user_agent = None),
    ];
    for (name, change) in changes {
        let mut head = good();
        change(&mut head);
        let refusal = read_head(&head).unwrap_err();
        assert_eq!(
            (refusal.code, &*refusal.detail),
            (Code::MissingHeaders, name)
        );
    }
    // There, but empty: nothing else is asked of it.
    let nameless = RawHead {
        user_agent: Some(b""),
        ..good()
    };
    assert!(read_head(&nameless).is_ok());
}

#[test]
fn the_body_must_be_said_to_be_json() {
    for content_type in [
        &b"application/json; charset=utf-8"[..],
        b"Application/JSON",
        b" application/json ;x",
    ] {
        let head = RawHead {
            content_type: Some(content_type),
            ..good()
        };
        assert!(read_head(&head).is_ok(), "{content_type:?}");
    }
    for content_type in [
        &b""[..],
        b"text/plain",
        b"application/jsonl",
        b"json",
        b"\xff",
    ] {
        let head = RawHead {
            content_type: Some(content_type),
            ..good()
        };
        let refusal = read_head(&head).unwrap_err();
        assert_eq!(refusal.code, Code::UnsupportedContentType);
    }
}

#[test]
fn an_unknown_coding_is_refused() {
    let head = RawHead {
        coding: None,
        ..good()
    };
    assert_eq!(read_head(&head).unwrap_err().code, Code::UnsupportedCoding);
}

#[test]
fn values_that_can_not_be_read_are_refused_by_the_name_of_their_header() {
    let invalid = |head: RawHead<'_>| {
        let refusal = read_head(&head).unwrap_err();
        assert_eq!(refusal.code, Code::InvalidHeader);
        refusal.detail
    };
    for attempt in [&b""[..], b"0", b"-1", b"abc", b"1.0", b"4294967296"] {
        let told = invalid(RawHead {
            attempt: Some(attempt),
            ..good()
        });
        assert!(told.starts_with("PostHog-Attempt "), "{told}");
    }
    for request_id in [&b""[..], b"not-a-uuid", b"\xff"] {
        let told = invalid(RawHead {
            request_id: Some(request_id),
            ..good()
        });
        assert!(told.starts_with("PostHog-Request-Id "), "{told}");
    }
    for time in [&b""[..], b"not-a-time", b"\xff"] {
        let told = invalid(RawHead {
            request_timestamp: Some(time),
            ..good()
        });
        assert!(told.starts_with("PostHog-Request-Timestamp "), "{told}");
    }
    for attempt in [&b"2"[..], b" 17 ", b"4294967295"] {
        let head = RawHead {
            attempt: Some(attempt),
            ..good()
        };
        assert!(read_head(&head).is_ok());
    }
}

#[test]
fn what_a_client_says_of_itself_is_used_if_it_can_be() {
    let full = format!("x/{}", "9".repeat(198));
    for sdk_info in ["posthog-go/1.2.3", "a/b/1", " posthog-go / 1.2 ", &full] {
        let head = RawHead {
            sdk_info: Some(sdk_info.as_bytes()),
            ..good()
        };
        assert_eq!(
            read_head(&head).unwrap().sdk_info.as_deref(),
            Some(sdk_info)
        );
    }
    let long = format!("{full}9");
    for sdk_info in [
        "",
        "no-slash",
        "/1.0.0",
        "posthog-go/",
        "/",
        "   /   ",
        "é/1",
        &long,
    ] {
        let head = RawHead {
            sdk_info: Some(sdk_info.as_bytes()),
            ..good()
        };
        assert_eq!(read_head(&head).unwrap().sdk_info, None, "{sdk_info}");
    }
}
