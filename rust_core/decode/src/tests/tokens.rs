//! Which token a request stands under.

use super::*;
use crate::check_token;

#[test]
fn tokens_are_checked_for_shape() {
    let (full, long) = ("a".repeat(64), "a".repeat(65));
    for (token, reason) in [
        ("", "empty"),
        (" \t", "empty"),
        (long.as_str(), "too_long"),
        ("phc_é", "not_ascii"),
        ("phx_abc", "personal_api_key"),
        ("a\0b", "null_byte"),
    ] {
        let refusal = check_token(token).unwrap_err();
        assert_eq!(
            (refusal.code, refusal.detail.as_str()),
            (Code::InvalidToken, reason)
        );
    }
    assert_eq!(check_token(&full), Ok(full.as_str()));
    assert_eq!(check_token("  phc_a\n"), Ok("phc_a"));
}

fn token_of(body: &str) -> Result<String, (Code, String)> {
    match decode(body) {
        Ok(batch) => Ok(batch.view().get(batch.token).to_owned()),
        Err(refusal) => Err((refusal.code, refusal.detail)),
    }
}

#[test]
fn the_token_is_found_wherever_sdks_put_it() {
    for body in [
        r#"{"api_key":"T","batch":[{"event":"e","distinct_id":"d"}]}"#,
        r#"{"token":"T","batch":[{"event":"e","distinct_id":"d"}]}"#,
        r#"{"token":"other","api_key":"T","batch":[{"event":"e","distinct_id":"d"}]}"#,
        r#"{"api_key":" T ","batch":[{"event":"e","distinct_id":"d"}]}"#,
        r#"{"\u0061pi_key":"\u0054","batch":[{"event":"e","distinct_id":"d"}]}"#,
        r#"{"batch":[{"event":"e","distinct_id":"d","$token":"T"}]}"#,
        r#"{"api_key":null,"batch":[{"event":"e","distinct_id":"d","token":"T"}]}"#,
        r#"{"api_key":"T","event":"e","distinct_id":"d"}"#,
        r#"{"event":"e","distinct_id":"d","properties":{"token":"T"}}"#,
        r#"{"event":"e","distinct_id":"d","token":7,"properties":{"token":"T"}}"#,
        r#"[{"event":"e","distinct_id":"d","properties":{"token":"T"}}]"#,
        // The first usable one counts.
        r#"[{"event":"e"},{"event":"e","token":""},{"event":"e","distinct_id":"d","token":"T"}]"#,
        r#"{"api_key":"","batch":[{"event":"e","distinct_id":"d","token":"T"}]}"#,
        // A blank spelling hides no other, whichever comes first.
        r#"{"api_key":null,"token":"T","batch":[{"event":"e","distinct_id":"d"}]}"#,
        r#"{"token":"T","api_key":null,"batch":[{"event":"e","distinct_id":"d"}]}"#,
        r#"{"token":"T","api_key":" \u0020","event":"e","distinct_id":"d"}"#,
        r#"{"token":"T","api_key":7,"token":"","event":"e","distinct_id":"d"}"#,
        r#"{"event":"e","distinct_id":"d","token":" ","properties":{"token":"T"}}"#,
    ] {
        assert_eq!(token_of(body), Ok("T".to_owned()), "{body}");
    }
}

#[test]
fn without_a_usable_token_nothing_is_taken() {
    for body in [
        r#"{"batch":[{"event":"e","distinct_id":"d"}]}"#,
        r#"{"event":"e","distinct_id":"d","properties":{"token":7}}"#,
        r#"[{"event":"e","distinct_id":"d"}]"#,
        r#"{"api_key":null,"token":7,"batch":[{"event":"e","distinct_id":"d"}]}"#,
    ] {
        assert_eq!(refused(body), Code::MissingToken, "{body}");
    }
    // An engage event needs no name, so that what lacks is the token.
    let engage = RequestContext {
        endpoint: Endpoint::Engage,
        ..context()
    };
    for body in [r#"{"$distinct_id":"d","$set":{"a":1}}"#, "{}"] {
        let refusal = decode_with(body, &engage).unwrap_err();
        assert_eq!(refusal.code, Code::MissingToken, "{body}");
        assert_eq!(refused(body), Code::UnsupportedShape, "{body}");
    }
    let body = r#"{"api_key":"phx_1","batch":[{"event":"e","distinct_id":"d"}]}"#;
    let expected = (Code::InvalidToken, "personal_api_key".to_owned());
    assert_eq!(token_of(body), Err(expected));
}

#[test]
fn an_event_naming_another_token_is_refused_alone() {
    let accepted = Outcome::Accepted;
    let mismatch = Outcome::Rejected(Code::TokenMismatch);
    let body = r#"{"api_key":"T","batch":[{"event":"e","distinct_id":"d","api_key":"T "},
        {"event":"e","distinct_id":"d","api_key":"U"},
        {"event":"e","distinct_id":"d","api_key":"\u0054"},{"event":"e","distinct_id":"d"}]}"#;
    assert_eq!(outcomes(body), [accepted, mismatch, accepted, accepted]);
    let body = r#"[{"event":"e","distinct_id":"d","properties":{"token":"T"}},
        {"event":"e","distinct_id":"d","properties":{"token":"U"}},
        {"event":"e","distinct_id":"d","token":"U"}]"#;
    assert_eq!(outcomes(body), [accepted, mismatch, mismatch]);
}

#[test]
fn a_property_named_token_is_only_a_property_beside_the_requests_token() {
    let body = r#"{"api_key":"T","batch":[
        {"event":"coin bought","distinct_id":"d","properties":{"token":"DOGE"}}]}"#;
    assert_eq!(outcomes(body), [Outcome::Accepted]);
}

#[test]
fn a_token_from_outside_wins_and_the_body_may_not_contradict_it() {
    let outside = RequestContext {
        token: Some(" T ".to_owned()),
        ..context()
    };
    for body in [
        r#"{"batch":[{"event":"e","distinct_id":"d"}]}"#,
        r#"{"api_key":"T","batch":[{"event":"e","distinct_id":"d"}]}"#,
        r#"{"event":"e","distinct_id":"d","properties":{"token":"U"}}"#,
    ] {
        let batch = decode_with(body, &outside).unwrap();
        assert_eq!(batch.view().get(batch.token), "T");
        assert_eq!(batch.events[0].outcome, Outcome::Accepted);
    }
    for body in [
        r#"{"api_key":"U","batch":[{"event":"e","distinct_id":"d"}]}"#,
        r#"{"event":"e","distinct_id":"d","token":"U"}"#,
    ] {
        assert_eq!(
            decode_with(body, &outside).unwrap_err().code,
            Code::ConflictingTokens
        );
    }
    let body = r#"[{"event":"e","distinct_id":"d","token":"U"},{"event":"e","distinct_id":"d"}]"#;
    let batch = decode_with(body, &outside).unwrap();
    assert_eq!(
        batch.events[0].outcome,
        Outcome::Rejected(Code::TokenMismatch)
    );
    assert_eq!(batch.events[1].outcome, Outcome::Accepted);
    let bad = RequestContext {
        token: Some("phx_1".to_owned()),
        ..context()
    };
    assert_eq!(
        decode_with(body, &bad).unwrap_err().code,
        Code::InvalidToken
    );
}

#[test]
fn a_blank_token_of_an_event_names_nothing() {
    let body = r#"{"api_key":"phc_a","batch":[{"event":"e","distinct_id":"d","token":""},
        {"event":"e","distinct_id":"d","token":" \t"}]}"#;
    assert_eq!(outcomes(body), [Outcome::Accepted; 2]);
}
