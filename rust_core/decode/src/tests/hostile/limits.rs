//! Every limit in pairs: at the limit passes, one over fails.

use super::*;

fn limited(change: impl FnOnce(&mut DecodeLimits)) -> RequestContext {
    let mut context = context();
    change(&mut context.limits);
    context
}

fn outcomes_with(body: impl Into<Vec<u8>>, context: &RequestContext) -> Vec<Outcome> {
    let batch = decode_with(body, context).unwrap();
    batch.events.iter().map(|event| event.outcome).collect()
}

#[test]
fn fifty_thousand_events_pass_and_one_more_fails() {
    let max = DecodeLimits::DEFAULT.max_events_per_request as usize;
    assert_eq!(max, 50_000);
    let token = r#"{"event":"e","distinct_id":"d","token":"phc_a"}"#;
    let as_array = |count| format!("[{}]", vec![token; count].join(","));
    let as_batch = |count| batch_of(&vec![GOOD; count].join(","));
    assert_eq!(outcomes(as_array(max)), vec![Outcome::Accepted; max]);
    assert_eq!(outcomes(as_batch(max)), vec![Outcome::Accepted; max]);
    assert_eq!(refused(as_array(max + 1)), Code::TooManyEvents);
    assert_eq!(refused(as_batch(max + 1)), Code::TooManyEvents);
    // Events that would be refused anyway count too: each costs as much.
    let nulls = format!("{GOOD}{}", ",null".repeat(max));
    assert_eq!(refused(batch_of(&nulls)), Code::TooManyEvents);
}

#[test]
fn an_event_of_eight_mebibytes_passes_and_one_byte_more_fails() {
    let max = DecodeLimits::DEFAULT.max_event_bytes as usize;
    assert_eq!(max, 8 << 20);
    let sized = |bytes: usize| {
        let frame = r#"{"api_key":"phc_a","event":"e","distinct_id":"d","properties":{"x":""}}"#;
        frame.replace("\"\"", &format!("\"{}\"", "y".repeat(bytes - frame.len())))
    };
    let too_large = Outcome::Rejected(Code::EventTooLarge);
    assert_eq!(outcome_among_good(&sized(max)), Outcome::Accepted);
    assert_eq!(outcome_among_good(&sized(max + 1)), too_large);
    // The white space around it is not its own.
    assert_eq!(outcomes(format!(" {} \n", sized(max))), [Outcome::Accepted]);
    assert_eq!(outcomes(sized(max + 1)), [too_large]);
}

#[test]
fn depth_counts_from_the_start_of_the_body_in_every_shape() {
    let max = DecodeLimits::DEFAULT.max_json_depth as usize;
    assert_eq!(max, 128);
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let event = |levels| {
        let deep = nested(levels);
        format!(r#"{{"token":"phc_a","event":"e","distinct_id":"d","properties":{{"p":{deep}}}}}"#)
    };
    let too_deep = Outcome::Rejected(Code::EventTooDeep);
    for (wrapped, levels_around) in [
        (
            Box::new(|event: String| event) as Box<dyn Fn(String) -> String>,
            2,
        ),
        (Box::new(|event| format!("[{event}]")), 3),
        (Box::new(|event: String| batch_of(&event)), 4),
    ] {
        let at_limit = wrapped(event(max - levels_around));
        let one_over = wrapped(event(max - levels_around + 1));
        assert_eq!(outcomes(at_limit), [Outcome::Accepted], "{levels_around}");
        assert_eq!(outcomes(one_over), [too_deep], "{levels_around}");
    }
    let beside = |levels| {
        format!(
            r#"{{"api_key":"phc_a","x":{},"batch":[{GOOD}]}}"#,
            nested(levels)
        )
    };
    assert_eq!(outcomes(beside(max - 1)), [Outcome::Accepted]);
    assert_eq!(refused(beside(max)), Code::RequestTooDeep);
}

#[test]
fn depth_is_counted_through_objects_and_arrays_alike() {
    for max in 3..12 {
        let context = limited(|limits| limits.max_json_depth = max);
        for (open, close) in [("[", "]"), (r#"{"k":"#, "}")] {
            let event = |levels: u32| {
                let levels = levels as usize;
                let deep = format!("{}1{}", open.repeat(levels), close.repeat(levels));
                format!(r#"{{"event":"e","distinct_id":"d","p":{deep}}}"#)
            };
            let body = batch_of(&format!("{},{},{GOOD}", event(max - 3), event(max - 2)));
            let too_deep = Outcome::Rejected(Code::EventTooDeep);
            let expected = [Outcome::Accepted, too_deep, Outcome::Accepted];
            assert_eq!(outcomes_with(body, &context), expected, "{max} {open}");
        }
    }
}

#[test]
fn the_decompressed_size_counts_over_all_members_and_frames() {
    let body = batch_of(GOOD);
    let (first, second) = body.as_bytes().split_at(20);
    let zstd = |bytes: &[u8]| zstd::bulk::compress(bytes, 3).unwrap();
    let size = u32::try_from(body.len()).unwrap();
    let at_limit = limited(|limits| limits.max_decompressed_bytes = size);
    let one_less = limited(|limits| limits.max_decompressed_bytes = size - 1);
    for coded in [
        [gzip(first), gzip(second)].concat(),
        [gzip(first), gzip(second), gzip(b"")].concat(),
        [zstd(first), zstd(second)].concat(),
    ] {
        // What is coded is larger here than what it stands for, but counts by itself.
        let plain = coded.len() > body.len();
        assert!(plain || outcomes_with(coded.clone(), &at_limit) == [Outcome::Accepted]);
        let code = if plain {
            Code::RequestTooLarge
        } else {
            Code::DecompressedTooLarge
        };
        assert_eq!(decode_with(coded, &one_less).unwrap_err().code, code);
    }
}

#[test]
fn replaced_bytes_count_with_what_replaces_them() {
    let mut body = batch_of(r#"{"event":"????????????????","distinct_id":"d"}"#).into_bytes();
    body.iter_mut()
        .filter(|byte| **byte == b'?')
        .for_each(|byte| *byte = 0xff);
    let size = u32::try_from(body.len() + 2 * 16).unwrap();
    let at_limit = limited(|limits| limits.max_decompressed_bytes = size);
    let one_less = limited(|limits| limits.max_decompressed_bytes = size - 1);
    for body in [body.clone(), gzip(&body)] {
        assert_eq!(outcomes_with(body.clone(), &at_limit), [Outcome::Accepted]);
        let refusal = decode_with(body, &one_less).unwrap_err();
        assert_eq!(refusal.code, Code::DecompressedTooLarge);
    }
}

#[test]
fn limits_at_their_ends_are_limits_still() {
    for (context, code) in [
        (
            limited(|limits| limits.max_decompressed_bytes = 0),
            Code::RequestTooLarge,
        ),
        (
            limited(|limits| limits.max_events_per_request = 0),
            Code::TooManyEvents,
        ),
        (
            limited(|limits| limits.max_json_depth = 0),
            Code::RequestTooDeep,
        ),
    ] {
        assert_eq!(
            decode_with(batch_of(GOOD), &context).unwrap_err().code,
            code
        );
    }
    let none = limited(|limits| limits.max_event_bytes = 0);
    let too_large = Outcome::Rejected(Code::EventTooLarge);
    assert_eq!(outcomes_with(batch_of(GOOD), &none), [too_large]);

    let all = DecodeLimits {
        max_decompressed_bytes: u32::MAX,
        max_event_bytes: u32::MAX,
        max_events_per_request: u32::MAX,
        max_json_depth: u32::MAX,
    };
    let all = RequestContext {
        limits: all,
        ..context()
    };
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let event = format!(r#"{{"event":"e","distinct_id":"d","properties":{{"p":{deep}}}}}"#);
    for body in [
        batch_of(&event).into_bytes(),
        gzip(batch_of(&event).as_bytes()),
    ] {
        assert_eq!(outcomes_with(body, &all), [Outcome::Accepted]);
    }
}
