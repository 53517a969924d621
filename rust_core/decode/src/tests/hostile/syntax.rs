//! What is no JSON, and JSON that was cut.

use super::*;

/// Every way to be no value, where one is expected.
const NO_VALUES: [&str; 44] = [
    "",
    "NaN",
    "Infinity",
    "-Infinity",
    "undefined",
    "None",
    "True",
    "TRUE",
    "tr",
    "truee",
    "nul",
    "nullx",
    "fa",
    "'text'",
    "`text`",
    "text",
    "\"text",
    "text\"",
    "01",
    "-01",
    "00",
    "+1",
    "1.",
    ".5",
    "-",
    "--1",
    "1e",
    "1e+",
    "1.e3",
    "0x10",
    "1_000",
    "1,5,",
    "[1,]",
    "[,1]",
    "[1 2]",
    "[1",
    "{\"k\"}",
    "{\"k\":}",
    "{\"k\":1,}",
    "{k:1}",
    "{\"k\" 1}",
    "{1:2}",
    "// note\n1",
    "/* */1",
];

#[test]
fn no_json_is_refused_wherever_it_stands() {
    for bad in NO_VALUES {
        for body in [
            format!("[{bad},1]"),
            format!("[{{\"event\":{bad}}}]"),
            batch_of(&format!(
                r#"{GOOD},{{"event":"e","distinct_id":"d","properties":{{"p":{bad}}}}}"#
            )),
            batch_of(&format!(
                r#"{{"event":"e","distinct_id":"d","p":[[{{"q":{bad}}}]]}},{GOOD}"#
            )),
            format!(r#"{{"api_key":"phc_a","sent_at":{bad},"batch":[{GOOD}]}}"#),
            format!(r#"{{"api_key":"phc_a","batch":[{GOOD}],"x":{bad}}}"#),
        ] {
            assert_eq!(refused(body.clone()), Code::InvalidJson, "{body}");
        }
    }
}

#[test]
fn documents_of_other_kinds_are_refused() {
    let good = batch_of(GOOD);
    for body in [
        "junk",
        "<html><body>502 Bad Gateway</body></html>",
        "<?xml version=\"1.0\"?><event/>",
        "--boundary\r\nContent-Disposition: form-data; name=\"event\"\r\n\r\n{}\r\n--boundary--",
        "event: e\ndistinct_id: d\n",
        "PK\x03\x04",
        &format!("{good}{good}"),
        &format!("{GOOD}\n{GOOD}\n"),
        &format!("{good},"),
        &format!("{good}]"),
        &format!("{good}x"),
        &format!(",{good}"),
        &format!("({good})"),
        &format!("callback({good});"),
        &format!("<!-- -->{good}"),
        &format!(")]}}'\n{good}"),
        "{\"api_key\":\"phc_a\",\"batch\":[{]}",
        "{\"api_key\":\"phc_a\",\"batch\":[}]}",
    ] {
        assert_eq!(refused(body), Code::InvalidJson, "{body}");
    }
}

#[test]
fn only_the_four_bytes_of_json_are_white_space() {
    let spaced = |space: &str| {
        let mut body = space.to_owned();
        let parts = [
            "{",
            "\"api_key\"",
            ":",
            "\"phc_a\"",
            ",",
            "\"batch\"",
            ":",
            "[",
            GOOD,
            "]",
            "}",
        ];
        for part in parts {
            body.extend([part, space]);
        }
        body
    };
    for space in [" ", "\t", "\r", "\n", " \r\n\t"] {
        assert_eq!(outcomes(spaced(space)), [Outcome::Accepted]);
    }
    for space in [
        "\x0b", "\x0c", "\0", "\u{a0}", "\u{85}", "\u{2028}", "\u{3000}", "\u{200b}",
    ] {
        assert_eq!(refused(spaced(space)), Code::InvalidJson, "{space:?}");
    }
}

#[test]
fn a_body_cut_anywhere_is_refused_whole() {
    let single = r#"{"api_key":"phc_a","event":"é","distinct_id":{"a":[1.5e-3]},"offset":-1}"#;
    for body in [RICH.to_owned(), single.to_owned(), format!("[{single}]")] {
        assert!(decode(body.clone()).is_ok());
        for end in 0..body.len() {
            let start = body.as_bytes().get(..end).unwrap();
            let blank = start
                .iter()
                .all(|byte| "\u{feff} ".as_bytes().contains(byte));
            // Half a byte order mark is no white space.
            let blank = blank && !matches!((body.as_str() == RICH, end), (true, 1 | 2));
            let code = if blank {
                Code::MissingPayload
            } else {
                Code::InvalidJson
            };
            assert_eq!(refused(start), code, "cut at {end} of {body}");
            if end > 0 {
                // No other answer when a proxy packed what it had.
                assert_eq!(refused(gzip(start)), code, "packed after a cut at {end}");
            }
        }
    }
}

#[test]
fn a_body_without_any_one_byte_of_its_frame_is_refused() {
    // Brackets, quotes, colons and commas are needed, each of them.
    let body = batch_of(&format!(
        r#"{GOOD},{{"event":"e","distinct_id":"d","properties":{{"a":[1,"b"]}}}}"#
    ));
    for at in 0..body.len() {
        if b"{}[]\":".contains(&body.as_bytes()[at]) {
            let mut cut = body.clone().into_bytes();
            cut.remove(at);
            assert_eq!(
                refused(cut),
                Code::InvalidJson,
                "without byte {at} of {body}"
            );
        }
    }
}

#[test]
fn the_place_of_the_fault_is_named() {
    for (body, detail) in [
        ("[1,}", "expected a value at byte 3"),
        ("{\"a\":1,}", "expected a key in double quotes at byte 7"),
        ("{\"a\" 1}", "expected a colon at byte 5"),
        (
            "[1 2]",
            "expected a comma or the end of the container at byte 3",
        ),
        ("[\"a\tb\"]", "control character in a string at byte 3"),
        ("[\"a\\x\"]", "invalid escape in a string at byte 3"),
        ("[-]", "invalid number at byte 2"),
        ("[nil]", "invalid literal at byte 1"),
        ("[\"a", "string without an end at byte 3"),
        ("[1] 2", "characters after the document at byte 4"),
        // Counted from the start of the body, mark and all.
        ("\u{feff}[-]", "invalid number at byte 5"),
    ] {
        let refusal = decode(body).unwrap_err();
        assert_eq!(
            (refusal.code, refusal.detail.as_str()),
            (Code::InvalidJson, detail)
        );
    }
}
