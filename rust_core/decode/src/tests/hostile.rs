//! Input that no client means to send: refused by name, cheap to refuse, and harmless to others.
//!
//! What such input may cost in time and memory is measured in `tests/time.rs` and `tests/memory.rs`.

mod characters;
mod compressed;
mod limits;
mod syntax;

use penstock_model::Warnings;

use super::*;

const GOOD: &str = r#"{"event":"e","distinct_id":"d"}"#;

/// A request with all that a reader must keep apart: white space, escapes, numbers, nesting.
const RICH: &str = "\u{feff}{ \"api_key\" : \"phc_a\",\"sent_at\":\"2026-01-01\",\n\"batch\":[ \
    {\"event\":\"caf\u{e9} \\u00e9\\ud83e\\udd94\",\"distinct_id\":-1.5e+3,\t\"\\u0075uid\":\"\",\
    \"properties\":{\"a\":[true,{\"b\":null},0.25],\"$lib\":\"w\\n\",\"🦔\":{}},\"$set\":{\"x\":1}},\
    {\"event\":\"e\",\"distinct_id\":\"d\"} ] }";

/// Takes a request apart that must be readable: `GOOD` events around one other.
fn outcome_among_good(event: &str) -> Outcome {
    let found = outcomes(batch_of(&format!("{GOOD},{event},{GOOD}")));
    assert_eq!(found.len(), 3);
    assert_eq!((found[0], found[2]), (Outcome::Accepted, Outcome::Accepted));
    found[1]
}

/// Everything that a batch says, but whether invalid UTF-8 was replaced in it.
fn contents(batch: &Batch) -> Vec<String> {
    let view = batch.view();
    let events = batch.events.iter().map(|event| {
        let mut event = event.clone();
        let kept = warnings(&event).into_iter();
        event.warnings = Warnings::default();
        for warning in kept.filter(|warning| *warning != Warning::InvalidUtf8) {
            event.warnings.add(warning);
        }
        format!("{event:?} {}", view.get(event.raw))
    });
    let whole = format!("{:?} {:?} {}", batch.token, batch.sent_at_us, batch.side);
    std::iter::once(whole).chain(events).collect()
}

#[test]
fn the_body_that_others_here_are_made_from_is_good() {
    assert_eq!(outcomes(RICH), [Outcome::Accepted; 2]);
}

#[test]
fn one_bad_event_of_ten_thousand_is_refused_alone() {
    for (bad, code) in [
        ("{}", Code::MissingEventName),
        ("null", Code::NotAnObject),
        (
            r#"{"event":"e","distinct_id":"d","uuid":"no"}"#,
            Code::InvalidUuid,
        ),
        (
            r#"{"event":"e","distinct_id":"d","api_key":"phc_b"}"#,
            Code::TokenMismatch,
        ),
    ] {
        for place in [0, 5_000, 9_999] {
            let mut events = vec![GOOD; 10_000];
            events[place] = bad;
            let mut found = outcomes(batch_of(&events.join(",")));
            assert_eq!(found.len(), 10_000);
            assert_eq!(
                found.remove(place),
                Outcome::Rejected(code),
                "{bad} at {place}"
            );
            assert!(found.iter().all(|outcome| *outcome == Outcome::Accepted));
        }
    }
}

#[test]
fn an_event_a_thousand_levels_deep_is_refused_alone() {
    let arrays = format!("{}{}", "[".repeat(1_000), "]".repeat(1_000));
    let objects = format!("{}1{}", r#"{"k":"#.repeat(1_000), "}".repeat(1_000));
    let mixed = format!("{}{{}}{}", r#"[{"k":"#.repeat(500), "}]".repeat(500));
    for deep in [arrays, objects, mixed] {
        for event in [
            format!(r#"{{"event":"e","distinct_id":"d","properties":{{"p":{deep}}}}}"#),
            format!(r#"{{"properties":{{"$lib":{deep}}},"event":"e","distinct_id":"d"}}"#),
            format!(r#"{{"event":"e","distinct_id":"d","$set":{{"p":{deep}}}}}"#),
            format!(r#"{{"event":"e","distinct_id":{deep}}}"#),
            format!(r#"{{"event":"e","distinct_id":"d","unknown":{deep}}}"#),
        ] {
            let expected = Outcome::Rejected(Code::EventTooDeep);
            assert_eq!(outcome_among_good(&event), expected, "{event}");
        }
    }
    // It keeps what could be read of it, but not what was too deep.
    let event = format!(
        r#"{{"event":"e","distinct_id":"d","properties":{{"p":{}{}}}}}"#,
        "[".repeat(1_000),
        "]".repeat(1_000)
    );
    let (batch, found) = one(&event);
    let view = batch.view();
    assert_eq!(
        (view.get(found.distinct_id), view.get(found.properties)),
        ("d", "")
    );
    assert_eq!(view.get(found.raw), event);
}

/// A reader that recurses would end the process here, not the test.
#[test]
fn a_million_nested_arrays_are_refused_by_name() {
    const COUNT: usize = 1_000_000;
    let open = "[".repeat(COUNT);
    let close = "]".repeat(COUNT);
    let whole = format!("{open}{close}");
    assert_eq!(refused(whole.clone()), Code::RequestTooDeep);
    // Whose it was is known, so that one event is at fault and not the request.
    let outside = RequestContext {
        token: Some("phc_a".to_owned()),
        ..context()
    };
    let batch = decode_with(whole.clone(), &outside).unwrap();
    assert_eq!(
        batch.events[0].outcome,
        Outcome::Rejected(Code::NotAnObject)
    );

    assert_eq!(refused(open.clone()), Code::InvalidJson);
    assert_eq!(
        refused(format!("{open}{}", close.replace("]]", "}]"))),
        Code::InvalidJson
    );
    assert_eq!(refused(r#"{"a":"#.repeat(COUNT)), Code::InvalidJson);
    assert_eq!(refused(format!("{whole}]")), Code::InvalidJson);
    assert_eq!(refused(gzip(whole.as_bytes())), Code::RequestTooDeep);

    let event = format!(r#"{{"event":"e","distinct_id":"d","properties":{{"p":{whole}}}}}"#);
    assert_eq!(
        outcome_among_good(&event),
        Outcome::Rejected(Code::EventTooDeep)
    );
    assert_eq!(
        outcome_among_good(&whole),
        Outcome::Rejected(Code::NotAnObject)
    );
    // Outside of the events there is nobody to refuse alone.
    let body = format!(r#"{{"api_key":"phc_a","x":{whole},"batch":[{GOOD}]}}"#);
    assert_eq!(refused(body), Code::RequestTooDeep);
}

/// A detail goes to whoever asked and into logs (SEC-2).
#[test]
fn refusals_say_nothing_of_what_was_sent() {
    let secret = "hunter2";
    for body in [
        secret.to_owned(),
        format!("{{\"api_key\":\"{secret}"),
        format!("{{\"{secret}\" 1}}"),
        format!("{{\"api_key\":\"phx_{secret}\",\"batch\":[{GOOD}]}}"),
        format!("{{\"{secret}\":1}}"),
        format!("[\"{secret}\"]"),
        format!("[\"{secret}\\x\"]"),
        format!("\"{secret}\""),
        format!("{{\"api_key\":\"{secret}\",\"batch\":[]}}"),
        format!("\x1f\u{8b}\x08{secret}"),
    ] {
        let refusal = decode(body.clone()).unwrap_err();
        assert!(
            !refusal.to_string().contains(secret),
            "{refusal} for {body}"
        );
    }
    let other = RequestContext {
        token: Some(format!("phc_{secret}")),
        ..context()
    };
    let refusal = decode_with(batch_of(GOOD), &other).unwrap_err();
    assert!(!refusal.to_string().contains(secret) && !refusal.to_string().contains("phc_a"));
}
