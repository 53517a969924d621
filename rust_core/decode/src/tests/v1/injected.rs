//! What stands outside of the properties and goes into them.

use penstock_model::ClientIp;

use super::*;

fn properties_of(more: &str, sdk_info: Option<&str>) -> String {
    let context = RequestContext {
        sdk_info: sdk_info.map(str::to_owned),
        ..v1_context()
    };
    let batch = decode_with(v1_batch(&event_with(more)), &context).unwrap();
    assert_eq!(batch.events[0].outcome, Outcome::Accepted, "{more}");
    batch.view().get(batch.events[0].properties).to_owned()
}

#[test]
fn properties_get_what_was_said_outside_of_them() {
    for (more, expected) in [
        ("", "{}"),
        (r#""properties":null"#, "{}"),
        (r#""properties":{ "a" : 1 }"#, r#"{ "a" : 1 }"#),
        (r#""session_id":"s""#, r#"{"$session_id":"s"}"#),
        (
            r#""session_id":"s\n","window_id":"w","properties":{"a":1}"#,
            r#"{"a":1,"$session_id":"s\n","$window_id":"w"}"#,
        ),
        // They win.
        (
            r#""session_id":"s","properties":{"$session_id":"own","\u0024session_id":0,"b":2}"#,
            r#"{"b":2,"$session_id":"s"}"#,
        ),
        // Nothing to win with.
        (
            r#""session_id":null,"window_id":7,"properties":{"$session_id":"own"}"#,
            r#"{"$session_id":"own"}"#,
        ),
        (
            r#""options":{"cookieless_mode":true,"disable_skew_correction":false,"product_tour_id":"t","process_person_profile":false}"#,
            r#"{"$cookieless_mode":true,"$ignore_sent_at":false,"$process_person_profile":false,"$product_tour_id":"t"}"#,
        ),
        (
            r#""options":{"process_person_profile":false},"properties":{"$process_person_profile":true}"#,
            r#"{"$process_person_profile":false}"#,
        ),
        // Objects at the root are merged in, as ever.
        (
            r#""session_id":"s","$set":{"a":1},"properties":{"$set":{"b":2}}"#,
            r#"{"$set":{"b":2,"a":1},"$session_id":"s"}"#,
        ),
        (
            r#""session_id":"\ud800","properties":{"a":"\udc00"}"#,
            r#"{"a":"\ufffd","$session_id":"\ufffd"}"#,
        ),
    ] {
        assert_eq!(properties_of(more, None), expected, "{more}");
    }
}

#[test]
fn the_name_of_the_sdk_goes_into_every_event() {
    let sdk = Some("posthog-go/1.23.1");
    for (more, expected) in [
        ("", r#"{"$lib":"posthog-go","$lib_version":"1.23.1"}"#),
        (
            r#""session_id":"s","properties":{"a":1}"#,
            r#"{"a":1,"$session_id":"s","$lib":"posthog-go","$lib_version":"1.23.1"}"#,
        ),
        (
            r#""properties":{"$lib":"own","a":1,"$lib_version":"0"}"#,
            r#"{"a":1,"$lib":"posthog-go","$lib_version":"1.23.1"}"#,
        ),
    ] {
        assert_eq!(properties_of(more, sdk), expected, "{more}");
    }
    let quoted = properties_of("", Some(r#" a"b / c\d/1 2 "#));
    let document: serde_json::Value = serde_json::from_str(&quoted).unwrap();
    assert_eq!(document["$lib"], r#"a"b / c\d"#);
    assert_eq!(document["$lib_version"], "1 2");
}

#[test]
fn options_are_read_leniently() {
    let truths = [
        "true",
        r#""true""#,
        r#"" TRUE ""#,
        r#""1""#,
        "1",
        "-0.5",
        r#""\u0031""#,
    ];
    let falsehoods = ["false", r#""False""#, r#""0""#, "0", "-0.0", "0e9"];
    let options = [
        "cookieless_mode",
        "disable_skew_correction",
        "process_person_profile",
    ];
    for option in options {
        for (values, expected) in [(&truths[..], "true"), (&falsehoods[..], "false")] {
            for value in values {
                let properties =
                    properties_of(&format!(r#""options":{{"{option}":{value}}}"#), None);
                assert!(
                    properties.ends_with(&format!(":{expected}}}")),
                    "{option} {value}"
                );
            }
        }
        for value in [r#""yes""#, r#""""#, "[]", "{}"] {
            let (_, event) = one_with(&format!(r#""options":{{"{option}":{value}}}"#));
            assert_eq!(
                event.outcome,
                Outcome::Rejected(Code::InvalidOptions),
                "{option} {value}"
            );
        }
    }
    for (value, expected) in [
        (r#""t\"1""#, r#""t\"1""#),
        ("7", r#""7""#),
        ("-7", r#""-7""#),
    ] {
        let properties =
            properties_of(&format!(r#""options":{{"product_tour_id":{value}}}"#), None);
        assert_eq!(properties, format!(r#"{{"$product_tour_id":{expected}}}"#));
    }
    for value in ["7.5", "true", "[]", "1e3"] {
        let (_, event) = one_with(&format!(r#""options":{{"product_tour_id":{value}}}"#));
        assert_eq!(
            event.outcome,
            Outcome::Rejected(Code::InvalidOptions),
            "{value}"
        );
    }
}

#[test]
fn options_that_say_nothing_are_none() {
    for options in [
        "null",
        "{}",
        r#"{"new":[{}]}"#,
        r#"{"cookieless_mode":null,"product_tour_id":null}"#,
        r#"{"cookieless_mode":"maybe","cookieless_mode":null}"#,
    ] {
        assert_eq!(
            properties_of(&format!(r#""options":{options}"#), None),
            "{}",
            "{options}"
        );
    }
}

#[test]
fn columns_have_what_the_properties_have_in_the_end() {
    let context = RequestContext {
        sdk_info: Some("posthog-go/1.23.1".to_owned()),
        ..v1_context()
    };
    let own = r#""properties":{"$session_id":"own s","$window_id":"own w","$lib":"own l","$lib_version":"own v","$process_person_profile":false,"$elements_chain":"div","$ip":"1.2.3.4"}"#;
    let read = |context: &RequestContext, more: &str| {
        let batch = decode_with(v1_batch(&event_with(more)), context).unwrap();
        let event = &batch.events[0];
        let view = batch.view();
        let ClientIp::Given(ip) = event.ip else {
            panic!("no address")
        };
        let texts = [
            event.session_id,
            event.window_id,
            event.lib,
            event.lib_version,
            event.elements_chain,
            Some(ip),
        ];
        let texts = texts.map(|text| text.map_or("-", |text| view.get(text)).to_owned());
        (texts, event.propertyless)
    };
    assert_eq!(
        read(&v1_context(), own),
        (
            ["own s", "own w", "own l", "own v", "div", "1.2.3.4"].map(str::to_owned),
            true
        )
    );
    let outside = format!(
        r#""session_id":"s\u0041","window_id":"w","options":{{"process_person_profile":1}},{own}"#
    );
    assert_eq!(
        read(&context, &outside),
        (
            ["sA", "w", "posthog-go", "1.23.1", "div", "1.2.3.4"].map(str::to_owned),
            false
        )
    );
}

#[test]
fn what_a_service_sends_of_its_own_has_no_clients_address() {
    let events = format!(
        "{},{}",
        event_with(""),
        event_with(
            r#""uuid":"01890a5d-ac96-774b-bcce-000000000009","properties":{"$ip":"1.2.3.4"}"#
        )
    );
    for (flag, expected) in [
        ("true", ["127.0.0.1", "1.2.3.4"]),
        ("false", ["-", "1.2.3.4"]),
    ] {
        let body = format!(
            r#"{{"created_at":"2026-01-01T00:00:00Z","capture_internal":{flag},"batch":[{events}]}}"#
        );
        let batch = decode_v1(body).unwrap();
        let view = batch.view();
        let addresses = [0, 1].map(|index| match batch.events[index].ip {
            ClientIp::Given(ip) => view.get(ip),
            ClientIp::Unsaid | ClientIp::Withheld => "-",
        });
        assert_eq!(addresses, expected);
    }
}

#[test]
fn elements_become_a_chain_and_go_out() {
    let elements = r#""properties":{"$elements":[{"tag_name":"a"}],"b":1}"#;
    assert_eq!(
        properties_of(elements, Some("x/1")),
        r#"{"b":1,"$lib":"x","$lib_version":"1"}"#
    );
    let (batch, event) = one_with(elements);
    assert!(
        batch
            .view()
            .get(event.elements_chain.unwrap())
            .starts_with('a')
    );
}
