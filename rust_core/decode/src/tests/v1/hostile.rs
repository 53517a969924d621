//! Bodies that nobody means well with.

use serde_json::Value;

use super::*;

/// Every part of the protocol in one body, to be broken.
fn sample() -> Vec<u8> {
    let first = event_with(
        r#""session_id":"s","window_id":"\ud83e\udd94","options":{"cookieless_mode":"1","product_tour_id":7},"properties":{"$lib":"own","$elements":[{"tag_name":"a"}],"$set":{"a":1},"n":[1.5,{}]},"$set":{"b":"\ud800"}"#,
    );
    let second =
        event_with(r#""uuid":"01890a5d-ac96-774b-bcce-000000000009","distinct_id":" null ""#);
    v1_batch(&format!("{first},{second}")).into_bytes()
}

#[test]
fn a_broken_body_is_refused_or_every_event_has_a_result_and_what_is_stored_is_json() {
    let context = RequestContext {
        sdk_info: Some("posthog-go/1.23.1".to_owned()),
        ..v1_context()
    };
    let sample = sample();
    let mut workspace = Workspace::default();
    let mut random = random::Random::new(1);
    let (mut read, mut refused) = (0, 0);
    for _ in 0..20_000 {
        let mut body = sample.clone();
        for _ in 0..=random.below(3) {
            let at = random.below(body.len());
            match random.below(4) {
                0 => body[at] = br#"{}[]",:\0 ntf"#[random.below(13)],
                1 => drop(body.remove(at)),
                2 => body.insert(at, body[random.below(body.len())]),
                _ => body[at] = u8::try_from(random.below(256)).unwrap(),
            }
        }
        let Ok(batch) = decode_request(&Payload::new(body), &context, &mut workspace) else {
            refused += 1;
            continue;
        };
        read += 1;
        let answer: Value = serde_json::from_slice(&write_results(&batch, true)).unwrap();
        assert_eq!(
            answer["results"].as_object().unwrap().len(),
            batch.events.len()
        );
        let view = batch.view();
        for event in &batch.events {
            if event.outcome != Outcome::Accepted {
                continue;
            }
            let properties: Value = serde_json::from_str(view.get(event.properties)).unwrap();
            assert_eq!(properties["$lib"], "posthog-go");
            assert_eq!(properties["$lib_version"], "1.23.1");
        }
    }
    assert!(
        read > 1_000 && refused > 1_000,
        "{read} read, {refused} refused"
    );
}

/// An event is 20 bytes here, and what is put into each 200: the text must not be beyond its places.
#[test]
fn many_small_events_are_not_blown_up_beyond_what_their_number_allows() {
    let context = RequestContext {
        sdk_info: Some(format!("{}/1", "x".repeat(198))),
        ..v1_context()
    };
    let events: Vec<String> = (0..50_000)
        .map(|index| {
            format!(
                r#"{{"event":"e","distinct_id":"d","timestamp":"2026-01-01","uuid":"01890a5d-ac96-774b-bcce-{index:012x}"}}"#
            )
        })
        .collect();
    let batch = decode_with(v1_batch(&events.join(",")), &context).unwrap();
    assert_eq!(batch.events.len(), 50_000);
    assert!(
        batch.side.capacity() < 50_000 * 400,
        "{}",
        batch.side.capacity()
    );
}
