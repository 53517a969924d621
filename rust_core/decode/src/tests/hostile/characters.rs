//! Bytes and characters in the wrong places: invalid UTF-8, escapes, NUL, byte order marks; and
//! numbers beyond all measure.

use super::*;

/// Each is no UTF-8: never a byte, a lone tail, two lone heads, overlong, a surrogate, too far.
const NOT_UTF8: [&[u8]; 7] = [
    b"\xff",
    b"\x80",
    b"\xc3",
    b"\xf0\x9f\xa6",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
];

#[test]
fn invalid_utf8_reads_as_its_replacement_wherever_it_stands() {
    for bad in NOT_UTF8 {
        for at in 0..=RICH.len() {
            let (before, after) = RICH.as_bytes().split_at(at);
            let body = [before, bad, after].concat();
            let replaced = String::from_utf8_lossy(&body).into_owned();
            let found = decode(body.clone());
            assert_eq!(found.as_ref().err(), decode(gzip(&body)).as_ref().err());
            match (found, decode(replaced)) {
                (Ok(found), Ok(expected)) => {
                    assert_eq!(contents(&found), contents(&expected), "{bad:?} at {at}");
                    for event in &found.events {
                        assert!(warnings(event).contains(&Warning::InvalidUtf8));
                    }
                }
                (found, expected) => assert_eq!(found.err(), expected.err(), "{bad:?} at {at}"),
            }
        }
    }
}

/// Ways to be no escape. The quote that ends the string may become part of it.
const NO_ESCAPES: [&str; 25] = [
    "\\",
    "\\u",
    "\\u0",
    "\\u00",
    "\\u00e",
    "\\u00g9",
    "\\ug0e9",
    "\\u{e9}",
    "\\u 0e9",
    "\\u+0e9",
    "\\u-0e9",
    "\\U00e9",
    "\\x41",
    "\\0",
    "\\a",
    "\\v",
    "\\e",
    "\\'",
    "\\ ",
    "\\\n",
    "\\é",
    "\\ud83e\\",
    "\\ud83e\\u",
    "\\ud83e\\udd9",
    "\\ud83e\\x",
];

#[test]
fn a_broken_escape_is_refused_in_every_string() {
    // `?` takes the broken escape: keys and values, read ones and others, first and last.
    for body in [
        r#"{"api_key?":"phc_a","batch":[{"event":"e","distinct_id":"d"}]}"#,
        r#"{"api_key":"phc_a?","batch":[{"event":"e","distinct_id":"d"}]}"#,
        r#"{"api_key":"phc_a","batch":[{"event":"? e","distinct_id":"d"}]}"#,
        r#"{"api_key":"phc_a","batch":[{"event":"e","distinct?_id":"d"}]}"#,
        r#"{"api_key":"phc_a","batch":[{"event":"e","distinct_id":"d?"}]}"#,
        r#"{"api_key":"phc_a","batch":[{"event":"e","distinct_id":"d","uuid":"?"}]}"#,
        r#"{"api_key":"phc_a","batch":[{"event":"e","distinct_id":"d","properties":{"?":1}}]}"#,
        r#"{"api_key":"phc_a","batch":[{"event":"e","distinct_id":"d","properties":{"$lib":"?"}}]}"#,
        r#"{"api_key":"phc_a","batch":[{"event":"e","distinct_id":"d","p":[[{"k":["1234567?"]}]]}]}"#,
        r#"{"api_key":"phc_a","batch":[{"event":"e","distinct_id":"d"}],"x":{"?":"?"}}"#,
        r#"["12345678?"]"#,
        r#"["?"#,
        r#""?""#,
    ] {
        for escape in NO_ESCAPES {
            let body = body.replace('?', escape);
            assert_eq!(refused(body.clone()), Code::InvalidJson, "{body}");
        }
    }
}

#[test]
fn control_characters_are_refused_wherever_they_stand() {
    for control in 0..0x20_u8 {
        let spaces = b" \t\r\n".contains(&control);
        let (mut accepted, mut in_string) = (0, false);
        for at in 0..=RICH.len() {
            let byte = RICH.as_bytes().get(at).copied();
            let mut body = RICH.as_bytes().to_vec();
            body.insert(at, control);
            match decode(body) {
                Ok(_) => {
                    assert!(spaces && !in_string, "{control:#x} at {at}");
                    accepted += 1;
                }
                Err(refusal) => assert_eq!(refusal.code, Code::InvalidJson, "{control:#x} at {at}"),
            }
            // No string of it holds an escaped quote.
            in_string ^= byte == Some(b'"');
        }
        assert_eq!(
            accepted > 50,
            spaces,
            "{control:#x} passed {accepted} times"
        );
    }
    // DEL and the controls beyond ASCII are characters like any other.
    let (batch, event) = one("{\"event\":\"\x7f\u{85}\u{2028}\",\"distinct_id\":\"d\"}");
    assert_eq!(batch.view().get(event.event), "\x7f\u{85}\u{2028}");
}

#[test]
fn an_escaped_nul_is_kept_in_texts_and_replaced_in_ids() {
    let (batch, event) = one(
        r#"{"event":"e\u0000","distinct_id":"d\u0000","timestamp":"2026\u0000","properties":
        {"$lib":"l\u0000","$session_id":"\u0000s","$window_id":"w","\u0000":"\u0000"}}"#,
    );
    let view = batch.view();
    assert_eq!(event.outcome, Outcome::Accepted);
    assert_eq!(
        (view.get(event.event), view.get(event.distinct_id)),
        ("e\0", "d\u{fffd}")
    );
    assert_eq!(view.get(event.lib.unwrap()), "l\0");
    assert_eq!(view.get(event.session_id.unwrap()), "\u{fffd}s");
    assert_eq!(view.get(event.client_timestamp.unwrap()), "2026\0");
    assert!(view.get(event.properties).contains(r#""\u0000":"\u0000""#));
    assert_eq!(
        warnings(&event),
        [Warning::InvalidTimestamp, Warning::NulReplaced]
    );

    let uuid = r#"{"event":"e","distinct_id":"d","uuid":"\u0000"}"#;
    assert_eq!(
        outcome_among_good(uuid),
        Outcome::Rejected(Code::InvalidUuid)
    );
    let token = r#"{"event":"e","distinct_id":"d","token":"phc_a\u0000"}"#;
    assert_eq!(
        outcome_among_good(token),
        Outcome::Rejected(Code::TokenMismatch)
    );
    assert_eq!(
        refused(batch_of(GOOD).replace("phc_a", r"phc_a\u0000")),
        Code::InvalidToken
    );
    // No key but the right one is the right one.
    let key = r#"{"event\u0000":"e","distinct_id":"d"}"#;
    assert_eq!(
        outcome_among_good(key),
        Outcome::Rejected(Code::MissingEventName)
    );
}

#[test]
fn one_byte_order_mark_is_passed_and_a_second_is_not() {
    let good = batch_of(GOOD);
    for body in [format!("\u{feff}{good}"), format!("\u{feff}\r\n {good}")] {
        assert_eq!(outcomes(body.clone()), [Outcome::Accepted]);
        assert_eq!(outcomes(gzip(body.as_bytes())), [Outcome::Accepted]);
    }
    for body in [
        format!("\u{feff}\u{feff}{good}"),
        format!(" \u{feff}{good}"),
        format!("{good}\u{feff}"),
        good.replace("\"batch\"", "\u{feff}\"batch\""),
    ] {
        assert_eq!(refused(body.clone()), Code::InvalidJson, "{body}");
    }
    // Inside of a string it is a character.
    let (batch, event) = one("{\"event\":\"\u{feff}\",\"distinct_id\":\"\u{feff}d\"}");
    assert_eq!(batch.view().get(event.event), "\u{feff}");
    // The marks of UTF-16 and UTF-32 don't make their text readable.
    let units: Vec<u16> = good.encode_utf16().collect();
    let little: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
    let big: Vec<u8> = units.iter().flat_map(|unit| unit.to_be_bytes()).collect();
    let wide: Vec<u8> = good
        .chars()
        .flat_map(|c| u32::from(c).to_le_bytes())
        .collect();
    for (mark, text) in [
        ("\u{fffe}", &little),
        ("", &little),
        ("", &big),
        ("", &wide),
    ] {
        assert_eq!(refused([mark.as_bytes(), text].concat()), Code::InvalidJson);
    }
    for (mark, text) in [
        (&b"\xff\xfe"[..], &little),
        (b"\xfe\xff", &big),
        (b"\xff\xfe\0\0", &wide),
    ] {
        assert_eq!(refused([mark, text].concat()), Code::InvalidJson);
    }
}

#[test]
fn a_number_of_any_length_is_kept_as_it_was_written() {
    let digits = "9".repeat(100_000);
    for number in [
        digits.clone(),
        format!("-{digits}"),
        format!("0.{digits}"),
        format!("1e{digits}"),
        format!("-{digits}.{digits}E-{digits}"),
    ] {
        let (batch, event) = one(&format!(
            r#"{{"event":"e","distinct_id":{number},"properties":{{"n":{number}}}}}"#
        ));
        let view = batch.view();
        assert_eq!(event.outcome, Outcome::Accepted);
        assert_eq!(view.get(event.properties), format!(r#"{{"n":{number}}}"#));
        assert_eq!(Some(view.get(event.distinct_id)), number.get(..200));
        assert_eq!(warnings(&event), [Warning::DistinctIdTruncated]);
    }
}

#[test]
fn times_beyond_all_measure_are_replaced_and_never_refused() {
    let digits = "9".repeat(5_000);
    let mut times = vec![digits.clone(), format!("-{digits}"), format!("0.{digits}")];
    times.extend(
        [
            "1e308", "-1e308", "1e309", "1e-400", "-0", "0e0", "1e15", "-1e15",
        ]
        .map(str::to_owned),
    );
    times.extend(
        [i64::MAX, i64::MIN, i64::MAX / 1_000, i64::MIN / 1_000_000].map(|n| n.to_string()),
    );
    times.push(u64::MAX.to_string());
    times.extend([format!("1e{digits}"), format!("{digits}e-{digits}")]);
    let quoted: Vec<_> = times.iter().map(|time| format!("\"{time}\"")).collect();
    let years = [
        "\"9999-12-31T23:59:60Z\"",
        "\"0000-01-01\"",
        "\"0001-01-01T00:00:00+23:59\"",
    ];
    let all: Vec<_> = times
        .iter()
        .chain(&quoted)
        .cloned()
        .chain(years.map(str::to_owned))
        .collect();
    for time in &all {
        for sent_at in [None, Some(time), all.first(), all.last()] {
            let sent_at = sent_at
                .map(|time| format!("\"sent_at\":{time},"))
                .unwrap_or_default();
            for field in ["timestamp", "offset"] {
                let body = format!(
                    r#"{{"api_key":"phc_a",{sent_at}"batch":[{{"event":"e","distinct_id":"d","{field}":{time}}}]}}"#
                );
                let batch = decode(body.clone()).unwrap();
                let event = &batch.events[0];
                assert_eq!(event.outcome, Outcome::Accepted);
                // The years 1 to 9999, and never more than 23 hours ahead.
                let years = -62_135_596_800_000_000..=NOW + 23 * 3_600_000_000;
                assert!(
                    years.contains(&event.timestamp_us),
                    "{} for {body}",
                    event.timestamp_us
                );
            }
        }
    }
}
