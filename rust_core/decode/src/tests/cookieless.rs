//! Events of cookieless mode: what is kept of them, and what must not be.

use penstock_model::{ClientIp, Visit, VisitorIds};

use super::*;
use crate::{decode_cookieless, decode_with_answer, has_cookieless};

const CLIENT: &str = "9.9.9.9";

/// What must be found nowhere once visitors have ids.
const SECRETS: [&str; 4] = [CLIENT, "8.8.8.8", "Mozilla", "seasoning"];

fn ids(visit: &Visit<'_>) -> VisitorIds {
    let hash = format!(
        "{}/{}/{}",
        visit.host.len(),
        visit.address.len(),
        visit.extra.len()
    );
    VisitorIds {
        distinct_id: format!("cookieless_{hash}"),
        device_id: format!("cookielessd_{hash}"),
        session_id: "01890a5d-ac96-774b-bcce-0000000000ff".to_owned(),
    }
}

type Kept = (Payload, RequestContext, Batch);

/// Decodes as the engine does: what is kept, and what it was decoded to.
fn kept_by(
    body: impl Into<Vec<u8>>,
    context: &RequestContext,
    identify: &mut crate::Identify<'_>,
) -> Result<Kept, Refusal> {
    let mut workspace = Workspace::default();
    let payload = Payload::new(body.into());
    let mut context = context.clone();
    let (batch, answer) = decode_with_answer(&payload, &context, &mut workspace).unwrap();
    assert!(has_cookieless(&batch));
    let (payload, batch, _) = decode_cookieless(
        &payload,
        &mut context,
        batch,
        answer,
        &mut workspace,
        identify,
    )?;
    check_replay(&payload, &context, &batch);
    Ok((payload, context, batch))
}

fn kept(body: impl Into<Vec<u8>>, context: &RequestContext) -> Kept {
    kept_by(body, context, &mut |visit| Ok(Ok(ids(visit)))).unwrap()
}

/// A replay gives the same events, and reads as accepted whatever was.
fn check_replay(payload: &Payload, context: &RequestContext, batch: &Batch) {
    let mut again = decode_request(payload, context, &mut Workspace::default()).unwrap();
    assert_eq!(again.events.len(), batch.events.len());
    for (event, before) in again.events.iter_mut().zip(&batch.events) {
        if before.outcome == Outcome::Accepted {
            assert_eq!(event.outcome, Outcome::Accepted);
        }
        event.outcome = before.outcome;
    }
    assert_eq!(format!("{again:?}"), format!("{batch:?}"));
}

/// A text with one place replaced by what need not be text.
fn replaced(text: &str, place: &[u8], by: &[u8]) -> Vec<u8> {
    let at = memchr::memmem::find(text.as_bytes(), place).unwrap();
    [
        &text.as_bytes()[..at],
        by,
        &text.as_bytes()[at + place.len()..],
    ]
    .concat()
}

fn from_client() -> RequestContext {
    RequestContext {
        client_address: Some(CLIENT.parse().unwrap()),
        ..context()
    }
}

fn v1_from_client() -> RequestContext {
    RequestContext {
        endpoint: Endpoint::V1Analytics,
        token: Some("phc_a".to_owned()),
        sent_at_us: Some(NOW),
        ..from_client()
    }
}

fn visitor_event(more: &str) -> String {
    format!(
        r#"{{"event":"$pageview","distinct_id":"$posthog_cookieless","timestamp":"2025-12-31T23:00:00Z","properties":{{"$cookieless_mode":true,"$raw_user_agent":"Mozilla/5.0","$host":"example.com","$timezone":"Europe/Berlin"{more}}}}}"#
    )
}

fn text(payload: &Payload) -> String {
    String::from_utf8_lossy(payload.as_slice()).into_owned()
}

fn assert_no_secret(payload: &Payload) {
    let text = text(payload);
    for secret in SECRETS {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

#[test]
fn a_visitor_gets_ids_and_what_they_are_made_of_goes() {
    let event = r#"{"event":"e","distinct_id":"$posthog_cookieless","$set":{"$raw_user_agent":"Mozilla/5.0","plan":"x"},
        "properties":{"$cookieless_mode":true,"distinct_id":"$posthog_cookieless","$raw_user_agent":"Mozilla/5.0","$host":"example.com","$ip":"8.8.8.8",
        "$cookieless_extra":"seasoning","$device_id":null,"$session_id":"old","a":[1, {"$ip":"8.8.8.8"}],
        "$set_once":{"$initial_raw_user_agent":"Mozilla/5.0","x":1},"$lib":"web"}}"#;
    let (payload, context, batch) = kept(batch_of(event), &from_client());
    assert_no_secret(&payload);
    assert_eq!(context.client_address, None);
    let (view, event) = (batch.view(), &batch.events[0]);
    assert_eq!(event.outcome, Outcome::Accepted);
    assert_eq!(view.get(event.distinct_id), "cookieless_11/7/9");
    assert_eq!(event.ip, ClientIp::Withheld);
    assert_eq!(
        view.get(event.properties),
        r#"{"$cookieless_mode":true,"distinct_id":"cookieless_11/7/9","$host":"example.com","a":[1, {}],"$set_once":{"x":1},"$lib":"web","$device_id":"cookielessd_11/7/9","$session_id":"01890a5d-ac96-774b-bcce-0000000000ff","$set":{"plan":"x"}}"#
    );
    assert_eq!(
        event.session_id.map(|id| view.get(id)),
        Some("01890a5d-ac96-774b-bcce-0000000000ff")
    );
}

/// What is hashed: the address that the event names, else that of the request.
#[test]
fn a_visit_is_read_out_of_event_and_request() {
    let events = [
        visitor_event(""),
        visitor_event(r#","$ip":"8.8.8.8","$cookieless_extra":7"#),
        visitor_event(r#","$host":"\u0065xample.org","$timezone":null,"$cookieless_extra":null"#),
    ];
    let mut seen = Vec::new();
    let mut identify = |visit: &Visit<'_>| {
        seen.push(format!(
            "{} {:?} {} {} {} {}",
            visit.timestamp_us,
            visit.time_zone,
            visit.address,
            visit.host,
            visit.user_agent,
            visit.extra
        ));
        Ok(Ok(ids(visit)))
    };
    kept_by(batch_of(&events.join(",")), &from_client(), &mut identify).unwrap();
    let at = NOW - 3_600_000_000;
    assert_eq!(
        seen,
        [
            format!("{at} Some(\"Europe/Berlin\") 9.9.9.9 example.com Mozilla/5.0 "),
            format!("{at} Some(\"Europe/Berlin\") 8.8.8.8 example.com Mozilla/5.0 7"),
            format!("{at} None 9.9.9.9 example.org Mozilla/5.0 "),
        ]
    );
}

#[test]
fn an_id_is_put_wherever_the_sdk_says_that_it_has_none() {
    for event in [
        r#"{"event":"e","properties":{"distinct_id":"$posthog_cookieless",PROPERTIES}}"#,
        r#"{"event":"e","$distinct_id":"$posthog_cookieless","properties":{PROPERTIES}}"#,
        r#"{"event":"e","distinct_id":"\u0024posthog_cookieless","properties":{"\u0024distinct_id":"$posthog_cookieless",PROPERTIES}}"#,
        r#"{"event":"e","properties":{},"properties":{"distinct_id":"$posthog_cookieless",PROPERTIES},"distinct_id":null}"#,
    ] {
        let properties =
            r#""$cookieless_mode":true,"$raw_user_agent":"Mozilla/5.0","$host":"example.com""#;
        let event = event.replace("PROPERTIES", properties);
        let (payload, _, batch) = kept(batch_of(&event), &from_client());
        assert!(!text(&payload).contains("posthog_cookieless"), "{event}");
        let id = batch.events[0].distinct_id;
        assert_eq!(batch.view().get(id), "cookieless_11/7/0", "{event}");
    }
}

/// Capture v1 has ids trimmed, of any white space: what is left must not be one person for all.
#[test]
fn white_space_around_nobody_makes_nobody_a_person() {
    for space in [" ", r"\n", r"\u000b", r"\u2003", "\u{3000}"] {
        let id = format!("{space}$posthog_cookieless{space}");
        let event = format!(
            r#"{{"event":"e","distinct_id":"{id}","uuid":"01890a5d-ac96-774b-bcce-000000000001","timestamp":"2026-01-01","properties":{{"$cookieless_mode":true,"$raw_user_agent":"Mozilla/5.0","$host":"example.com"}}}}"#
        );
        let body = format!(r#"{{"created_at":"2026-01-01","batch":[{event}]}}"#);
        let (_, _, batch) = kept(body, &v1_from_client());
        let id = batch.events[0].distinct_id;
        assert_eq!(batch.view().get(id), "cookieless_11/7/0", "{space}");
    }
}

/// A person who is known by name keeps it; that it is the visitor of before is not said, since all
/// who share address and browser are that visitor.
#[test]
fn a_person_who_is_named_stays_and_is_merged_with_nobody() {
    let named = visitor_event(r#","$anon_distinct_id":"$posthog_cookieless""#)
        .replacen("$posthog_cookieless", "ada", 1)
        .replace("$pageview", "$identify");
    let (payload, _, batch) = kept(batch_of(&named), &from_client());
    assert_no_secret(&payload);
    let properties = batch.view().get(batch.events[0].properties);
    assert_eq!(batch.view().get(batch.events[0].distinct_id), "ada");
    assert!(!properties.contains("anon"), "{properties}");
    assert!(properties.contains(r#""$device_id":"cookielessd_11/7/0""#));
    // One that the site itself gave is its own.
    let told = named.replace(
        r#""$anon_distinct_id":"$posthog_cookieless""#,
        r#""$anon_distinct_id":"b""#,
    );
    let (payload, ..) = kept(batch_of(&told), &from_client());
    assert!(text(&payload).contains(r#""$anon_distinct_id":"b""#));
}

#[test]
fn what_no_visitor_can_be_told_of_is_refused_and_kept_without_secrets() {
    let whole = visitor_event(r#","$ip":"8.8.8.8","$cookieless_extra":"seasoning""#);
    for (event, code) in [
        (
            whole.replace("\"$raw_user_agent\":\"Mozilla/5.0\"", "\"x\":1"),
            Code::CookielessMissingUserAgent,
        ),
        (
            whole.replace("\"Mozilla/5.0\"", "\" \""),
            Code::CookielessMissingUserAgent,
        ),
        (
            whole.replace("\"8.8.8.8\"", "null"),
            Code::CookielessMissingIp,
        ),
        (
            whole.replace("\"example.com\"", "17"),
            Code::CookielessMissingHost,
        ),
        (
            whole.replace("$pageview", "$create_alias"),
            Code::CookielessUnsupportedEvent,
        ),
        (
            whole.replace("$pageview", "$merge_dangerously"),
            Code::CookielessUnsupportedEvent,
        ),
        (whole.replace("$pageview", ""), Code::EmptyEventName),
    ] {
        let (payload, context, batch) = kept(batch_of(&event), &from_client());
        assert_eq!(batch.events[0].outcome, Outcome::Rejected(code), "{event}");
        assert_no_secret(&payload);
        assert_eq!(context.client_address, None);
        let raw = batch.view().get(batch.events[0].raw);
        assert!(raw.contains("$cookieless_mode"), "{raw}");
    }
    // Without an address anywhere.
    let (_, _, batch) = kept(batch_of(&visitor_event("")), &context());
    assert_eq!(
        batch.events[0].outcome,
        Outcome::Rejected(Code::CookielessMissingIp)
    );
    // By what makes ids.
    let late = Code::CookielessTimestampOutOfRange;
    let body = batch_of(&whole);
    let (_, _, batch) = kept_by(body, &from_client(), &mut |_| Ok(Err(late))).unwrap();
    assert_eq!(batch.events[0].outcome, Outcome::Rejected(late));
}

/// Whatever else is wrong with it: that it is of this mode is still said.
#[test]
fn a_refused_event_of_capture_v1_is_kept_without_secrets_too() {
    let mut limited = v1_from_client();
    limited.limits.max_json_depth = 5;
    limited.limits.max_event_bytes = 400;
    for (options, more, code) in [
        (r#""product_tour_id":[]"#, "", Code::InvalidOptions),
        (r#""disable_skew_correction":"x""#, "", Code::InvalidOptions),
        ("", r#","a":[[]]"#, Code::EventTooDeep),
        (
            "",
            &format!(r#","a":"{}""#, "x".repeat(400)),
            Code::EventTooLarge,
        ),
    ] {
        let comma = if options.is_empty() { "" } else { "," };
        let event = format!(
            r#"{{"event":"e","distinct_id":"$posthog_cookieless","uuid":"01890a5d-ac96-774b-bcce-000000000001","timestamp":"2026-01-01","options":{{"cookieless_mode":true{comma}{options}}},"properties":{{"$raw_user_agent":"Mozilla/5.0","$ip":"8.8.8.8"{more}}}}}"#
        );
        let body = format!(r#"{{"created_at":"2026-01-01","batch":[{event}]}}"#);
        let (payload, context, batch) = kept(body, &limited);
        assert_eq!(batch.events[0].outcome, Outcome::Rejected(code), "{event}");
        assert_no_secret(&payload);
        assert_eq!(context.client_address, None);
    }
}

#[test]
fn a_request_whose_ids_can_t_be_made_is_refused_as_a_whole() {
    let body = batch_of(&visitor_event(""));
    let mut identify = |_: &Visit<'_>| Err(Refusal::new(Code::StorageFailed, ""));
    let refused = kept_by(body, &from_client(), &mut identify).unwrap_err();
    assert_eq!(refused.code, Code::StorageFailed);
}

/// Events of other modes in the same request stay as they are, and need its address.
#[test]
fn other_events_of_a_request_stay_byte_for_byte() {
    let other = r#"{ "event":"o", "distinct_id":"$posthog_cookieless","properties":{"$ip" : "7.7.7.7","$raw_user_agent":"x"} }"#;
    let body = batch_of(&format!(
        "{},{other},{}",
        visitor_event(""),
        visitor_event("")
    ));
    let (payload, context, batch) = kept(body, &from_client());
    assert_no_secret(&payload);
    assert!(text(&payload).contains(other));
    assert_eq!(context.client_address, from_client().client_address);
    let view = batch.view();
    assert_eq!(view.get(batch.events[1].raw), other);
    assert_eq!(view.get(batch.events[1].distinct_id), "$posthog_cookieless");
    assert_eq!(batch.events[0].ip, ClientIp::Withheld);
    // One that is refused needs none.
    let refused = other.replace(r#""o""#, r#""""#);
    let body = batch_of(&format!("{},{refused}", visitor_event("")));
    let (_, context, _) = kept(body, &from_client());
    assert_eq!(context.client_address, None);
    // And whoever says that he is not in that mode is not.
    let no = visitor_event("").replace("true", "false");
    assert!(!has_cookieless(&decode(batch_of(&no)).unwrap()));
}

#[test]
fn every_shape_and_coding_is_rewritten() {
    let event = visitor_event(r#","token":"phc_a""#);
    for (body, coding) in [
        (event.clone().into_bytes(), Coding::Unspecified),
        (
            format!("\u{feff} [{event}] ").into_bytes(),
            Coding::Unspecified,
        ),
        (gzip(batch_of(&event).as_bytes()), Coding::Unspecified),
        (
            base64::Engine::encode(&base64::prelude::BASE64_STANDARD, &event).into_bytes(),
            Coding::Base64,
        ),
    ] {
        let as_sent = RequestContext {
            coding,
            ..from_client()
        };
        let (payload, context, batch) = kept(body, &as_sent);
        assert_no_secret(&payload);
        assert_eq!(context.coding, Coding::Identity);
        assert_eq!(
            batch.view().get(batch.events[0].distinct_id),
            "cookieless_11/7/0"
        );
    }
}

#[test]
fn events_of_a_body_that_was_repaired_still_say_so() {
    let body = batch_of(&visitor_event(r#","\u0024x":"~","y":"\ud800""#));
    let body = replaced(&body, b"~", &[0xff]);
    let (payload, _, batch) = kept(body, &from_client());
    assert!(payload.as_slice().contains(&0xff));
    assert_eq!(
        warnings(&batch.events[0]),
        [Warning::InvalidUtf8, Warning::LoneSurrogate]
    );
}

/// An event that was not too long may be so with its ids, as it is sent and as it is once it is text.
#[test]
fn an_event_at_the_limits_is_taken() {
    for bytes in [&b"~~~~"[..], &[0xff; 4]] {
        let not_bad = visitor_event(r#","x":"~~~~""#);
        let event = replaced(&not_bad, b"~~~~", bytes);
        let body = replaced(&batch_of(&not_bad), b"~~~~", bytes);
        let len = |bytes: &[u8]| u32::try_from(String::from_utf8_lossy(bytes).len()).unwrap();
        let mut limited = from_client();
        limited.limits.max_event_bytes = len(&event);
        limited.limits.max_decompressed_bytes = len(&body);
        let (payload, context, batch) = kept(body.clone(), &limited);
        assert_eq!(batch.events[0].outcome, Outcome::Accepted);
        let properties = batch.view().get(batch.events[0].properties);
        assert!(properties.contains(r#""x":""#), "{properties}");
        assert!(payload.len() > body.len() && context.limits != limited.limits);
        limited.limits.max_event_bytes -= 1;
        let (_, _, batch) = kept(body, &limited);
        assert_eq!(
            batch.events[0].outcome,
            Outcome::Rejected(Code::EventTooLarge)
        );
    }
}

#[test]
fn events_of_capture_v1_say_it_in_their_options() {
    let event = r#"{"event":"e","distinct_id":" $posthog_cookieless ","uuid":"01890a5d-ac96-774b-bcce-000000000001",
        "timestamp":"2025-12-31T23:59:00Z","session_id":"s","options":{"cookieless_mode":"true"},
        "properties":{"$raw_user_agent":"Mozilla/5.0","$host":"example.com"}}"#;
    let bare = r#"{"event":"e","distinct_id":"$posthog_cookieless","uuid":"01890a5d-ac96-774b-bcce-000000000002",
        "timestamp":"2025-12-31T23:59:00Z","options":{"cookieless_mode":1}}"#;
    let body = format!(r#"{{"created_at":"2026-01-01T00:00:00Z","batch":[{event},{bare}]}}"#);
    let v1 = v1_from_client();
    let (payload, _, batch) = kept(gzip(body.as_bytes()), &v1);
    assert_no_secret(&payload);
    let view = batch.view();
    assert_eq!(view.get(batch.events[0].distinct_id), "cookieless_11/7/0");
    assert_eq!(
        view.get(batch.events[0].properties),
        r#"{"$host":"example.com","$device_id":"cookielessd_11/7/0","$session_id":"01890a5d-ac96-774b-bcce-0000000000ff","$cookieless_mode":true}"#
    );
    assert_eq!(
        batch.events[0].session_id.map(|id| view.get(id)),
        Some("01890a5d-ac96-774b-bcce-0000000000ff")
    );
    assert_eq!(
        batch.events[1].outcome,
        Outcome::Rejected(Code::CookielessMissingUserAgent)
    );
    // The option wins over the property.
    let said = event
        .replace("\"true\"", "false")
        .replace("\"$host\"", "\"$cookieless_mode\":true,\"$host\"");
    let body = format!(r#"{{"created_at":"2026-01-01T00:00:00Z","batch":[{said}]}}"#);
    assert!(!has_cookieless(&decode_with(body, &v1).unwrap()));
}

/// What was kept can be sent again, to this service or another: it has its ids.
#[test]
fn what_has_ids_already_keeps_them() {
    let (payload, _, first) = kept(batch_of(&visitor_event("")), &from_client());
    let mut identify = |_: &Visit<'_>| panic!("it has ids");
    let (again, _, batch) =
        kept_by(payload.as_slice().to_vec(), &from_client(), &mut identify).unwrap();
    assert_eq!(text(&again), text(&payload));
    assert_eq!(format!("{:?}", batch.events), format!("{:?}", first.events));
    // Who only says so and tells of a visitor has none.
    let claimed = visitor_event(r#","$device_id":"cookielessd_x""#);
    let (_, _, batch) = kept(batch_of(&claimed), &from_client());
    assert_eq!(
        batch.view().get(batch.events[0].distinct_id),
        "cookieless_11/7/0"
    );
    let nobody = claimed.replace("$raw_user_agent", "$x");
    let padded = nobody.replace("$posthog_cookieless", " $posthog_cookieless ");
    for event in [nobody, padded] {
        let (_, _, batch) = kept(batch_of(&event), &from_client());
        assert_eq!(
            batch.events[0].outcome,
            Outcome::Rejected(Code::CookielessMissingUserAgent),
            "{event}"
        );
    }
}

/// A retry may come from another address; the key must not tell.
#[test]
fn a_visitor_is_one_to_deduplication() {
    let (_, _, batch) = kept(batch_of(&visitor_event("")), &from_client());
    assert_eq!(
        batch.dedup_distinct_id(&batch.events[0]),
        b"$posthog_cookieless"
    );
    let named = visitor_event("").replacen("$posthog_cookieless", "ada", 1);
    let (_, _, batch) = kept(batch_of(&named), &from_client());
    assert_eq!(batch.dedup_distinct_id(&batch.events[0]), b"ada");
    let (batch, event) = one(r#"{"event":"e","distinct_id":"cookieless_1"}"#);
    assert_eq!(batch.dedup_distinct_id(&event), b"cookieless_1");
}

/// Records of releases that knew nothing of this mode were stored as any other event.
#[test]
fn without_a_word_in_the_context_nothing_is_withheld() {
    let batch = decode_with(batch_of(&visitor_event("")), &from_client()).unwrap();
    assert_eq!(batch.events[0].ip, ClientIp::Unsaid);
}

#[test]
fn snapshots_are_not_looked_into() {
    let snapshot = r#"[{"distinct_id":"d","properties":{"token":"phc_a","$cookieless_mode":true,"$session_id":"s","$snapshot_data":[]}}]"#;
    let recordings = RequestContext {
        endpoint: Endpoint::Recordings,
        ..context()
    };
    assert!(!has_cookieless(
        &decode_with(snapshot, &recordings).unwrap()
    ));
}

#[test]
fn a_form_is_kept_as_the_event_that_it_became() {
    let form = "--x\r\nContent-Disposition: form-data; name=\"event\"\r\n\r\n\
        {\"event\":\"$ai_x\",\"distinct_id\":\"$posthog_cookieless\"}\r\n\
        --x\r\nContent-Disposition: form-data; name=\"event.properties\"\r\n\r\n\
        {\"$ai_model\":\"m\",\"$cookieless_mode\":true,\"$raw_user_agent\":\"Mozilla/5.0\",\"$host\":\"example.com\"}\r\n--x--\r\n";
    let as_sent = RequestContext {
        endpoint: Endpoint::Ai,
        form: BodyForm::AiParts {
            boundary: "x".to_owned(),
        },
        token: Some("phc_a".to_owned()),
        ..from_client()
    };
    let (payload, context, batch) = kept(form, &as_sent);
    assert_no_secret(&payload);
    assert_eq!(context.form, BodyForm::Events);
    assert_eq!(
        batch.view().get(batch.events[0].distinct_id),
        "cookieless_11/7/0"
    );
}

/// A mode that can't be read may have been meant: the event is refused, and kept without what tells
/// of who sent it.
#[test]
fn events_of_a_mode_that_cannot_be_read_are_kept_without_their_visitor() {
    let event =
        visitor_event("").replace(r#""$cookieless_mode":true"#, r#""$cookieless_mode":"yes""#);
    let (payload, context, batch) = kept(batch_of(&event), &from_client());
    assert_no_secret(&payload);
    assert_eq!(context.client_address, None);
    assert_eq!(
        batch.events[0].outcome,
        Outcome::Rejected(Code::InvalidCookielessMode)
    );
    let event = r#"{"event":"e","distinct_id":"$posthog_cookieless","uuid":"01890a5d-ac96-774b-bcce-000000000002",
        "timestamp":"2025-12-31T23:59:00Z","options":{"cookieless_mode":[]},
        "properties":{"$raw_user_agent":"Mozilla/5.0","$host":"example.com"}}"#;
    let body = format!(r#"{{"created_at":"2026-01-01T00:00:00Z","batch":[{event}]}}"#);
    let (payload, _, batch) = kept(gzip(body.as_bytes()), &v1_from_client());
    assert_no_secret(&payload);
    assert_eq!(
        batch.events[0].outcome,
        Outcome::Rejected(Code::InvalidOptions)
    );
}

#[test]
fn what_tells_of_visitors_goes_from_beside_their_events_too() {
    let of_person = r#"{"event":"e","distinct_id":"d","properties":{"$ip":"7.7.7.7"}}"#;
    let body = format!(
        r#"{{"api_key":"phc_a","$ip":"8.8.8.8","batch":[{{"$raw_user_agent":"Mozilla"}}],"batch":[{of_person},{}],"$ip":"8.8.8.8"}}"#,
        visitor_event("")
    );
    let (payload, _, batch) = kept(body, &from_client());
    assert_no_secret(&payload);
    let text = str::from_utf8(payload.as_slice()).unwrap();
    assert!(text.starts_with(r#"{"api_key":"phc_a","batch":[{}],"batch":[{"event":"e","distinct_id":"d","properties":{"$ip":"7.7.7.7"}},"#), "{text}");
    assert!(text.ends_with("}]}"), "{text}");
    assert_eq!(batch.view().get(batch.events[0].raw), of_person);
}
