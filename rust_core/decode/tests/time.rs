//! That no request costs more time than its size explains.
//!
//! Each body is decoded at two sizes, one ten times the other. Linear work takes ten times as long,
//! quadratic work a hundred times; the bound lies between. What counts is the time that the thread
//! was computing, in the best of several runs: on a busy machine the clock on the wall tells how long
//! it waited. This is not among the tests in `src`, where no clock is.

use penstock_decode::{DECODER_VERSION, Workspace, decode_request};
use penstock_model::{BodyForm, Coding, DecodeLimits, Endpoint, Payload, RequestContext};
use rustix::time::{ClockId, clock_gettime};

const RUNS: usize = 5;
const MAX_RATIO: u64 = 40;

/// Nanoseconds that this thread has been computing.
fn computing_nanos() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    (time.tv_sec * 1_000_000_000 + time.tv_nsec).cast_unsigned()
}

/// Nanoseconds of the best run.
fn best_time(body: Vec<u8>, workspace: &mut Workspace) -> u64 {
    let payload = Payload::new(body);
    let context = RequestContext {
        decoder_version: DECODER_VERSION,
        limits: DecodeLimits::DEFAULT,
        endpoint: Endpoint::Batch,
        coding: Coding::Unspecified,
        form: BodyForm::Events,
        received_at_us: 1_767_225_600_000_000,
        client_address: None,
        sent_at_us: None,
        token: None,
        sdk_info: None,
        cookieless: false,
        uuid_seed: [7; 16],
    };
    let times = (0..RUNS).map(|_| {
        let started = computing_nanos();
        // Some of these bodies are refused; how long that takes is the question, too.
        drop(decode_request(&payload, &context, workspace));
        computing_nanos() - started
    });
    times.fold(u64::MAX, u64::min)
}

fn assert_linear(what: &str, count: usize, body: impl Fn(usize) -> Vec<u8>) {
    let mut workspace = Workspace::default();
    let (small, large) = (body(count), body(count * 10));
    assert!(
        large.len() > small.len() * 8,
        "{what} is no ten times as large"
    );
    // The small one second, so that it finds everything warm.
    let large = best_time(large, &mut workspace);
    let small = best_time(small, &mut workspace);
    assert!(
        large < small * MAX_RATIO,
        "{what}: {small} ns, and {large} ns for ten times as much"
    );
}

fn batch_of(events: &str) -> Vec<u8> {
    format!(r#"{{"api_key":"phc_a","batch":[{events}]}}"#).into_bytes()
}

fn event_with(fields: &str) -> Vec<u8> {
    batch_of(&format!(r#"{{"event":"e","distinct_id":"d",{fields}}}"#))
}

fn members(count: usize, value: &str) -> String {
    (0..count)
        .map(|index| format!("\"k{index}\":{value}"))
        .collect::<Vec<_>>()
        .join(",")
}

#[test]
fn time_grows_as_the_number_of_events_does() {
    let repeated = |event: &'static str| move |count| batch_of(&vec![event; count].join(","));
    assert_linear(
        "events",
        1_000,
        repeated(r#"{"event":"e","distinct_id":"d","properties":{}}"#),
    );
    assert_linear("no events", 2_000, repeated("7"));
    assert_linear(
        "escapes",
        1_000,
        repeated(r#"{"\u0065vent":"\u0065","distinct_id":"\n\ud83ex"}"#),
    );
    assert_linear(
        "merges",
        1_000,
        repeated(r#"{"event":"e","distinct_id":"d","$set":{"a":1}}"#),
    );
    // None of the events names a token that could be one.
    assert_linear("tokens", 1_000, |count| {
        format!(
            "[{}]",
            vec![r#"{"event":"e","token":"\u0000"}"#; count].join(",")
        )
        .into_bytes()
    });
}

#[test]
fn time_grows_as_the_size_of_one_event_does() {
    assert_linear("a long string", 200_000, |len| {
        event_with(&format!(r#""properties":{{"$lib":"{}"}}"#, "x".repeat(len)))
    });
    assert_linear("a string of escapes", 20_000, |len| {
        event_with(&format!(
            r#""properties":{{"$lib":"{}"}}"#,
            r"\ud83e".repeat(len)
        ))
    });
    assert_linear("a string of backslashes", 50_000, |len| {
        event_with(&format!(
            r#""properties":{{"$lib":"{}"}}"#,
            r"\\".repeat(len)
        ))
    });
    assert_linear("a long key", 200_000, |len| {
        event_with(&format!("\"{}\":1", "x".repeat(len)))
    });
    assert_linear("a long number", 100_000, |len| {
        event_with(&format!(
            "\"timestamp\":{0},\"offset\":{0}",
            "9".repeat(len)
        ))
    });
    assert_linear("a long distinct_id", 100_000, |len| {
        event_with(&format!("\"distinct_id\":[{}1]", "1, ".repeat(len)))
    });
    assert_linear("white space", 200_000, |len| {
        event_with(&format!("{}\"x\":1", " ".repeat(len)))
    });
}

#[test]
fn time_grows_as_the_number_of_members_does() {
    assert_linear("members", 5_000, |count| {
        event_with(&format!(r#""properties":{{{}}}"#, members(count, "1")))
    });
    assert_linear("members merged", 3_000, |count| {
        let object = members(count, "1");
        event_with(&format!(
            r#""$set":{{{object}}},"properties":{{"$set":{{{object}}}}}"#
        ))
    });
    assert_linear("properties again and again", 5_000, |count| {
        event_with(&vec![r#""properties":{"$set":{"a":1}}"#; count].join(","))
    });
    assert_linear("batches again and again", 5_000, |count| {
        let batches = vec![r#""batch":[{"event":"e","distinct_id":"d"}]"#; count].join(",");
        format!("{{\"api_key\":\"phc_a\",{batches}}}").into_bytes()
    });
}

#[test]
fn time_grows_as_the_depth_does() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert_linear("depth", 50_000, |depth| {
        event_with(&format!("\"x\":{}", nested(depth)))
    });
    assert_linear("depth of nothing", 50_000, |depth| {
        nested(depth).into_bytes()
    });
    assert_linear("depth without an end", 50_000, |depth| {
        r#"{"a":"#.repeat(depth).into_bytes()
    });
}

#[test]
fn time_grows_as_the_size_of_what_is_no_utf8_does() {
    assert_linear("no UTF-8", 50_000, |len| {
        let mut body = event_with(&format!("\"x\":\"{}\"", "?".repeat(len)));
        body.iter_mut()
            .filter(|byte| **byte == b'?')
            .for_each(|byte| *byte = 0xff);
        body
    });
}

#[test]
fn time_grows_as_the_number_of_members_of_a_compressed_body_does() {
    // Gzip's head, a stored block of nothing, its sum and size; and the same of zstd.
    const EMPTY: &[u8] = b"\x1f\x8b\x08\0\0\0\0\0\0\xff\x01\0\0\xff\xff\0\0\0\0\0\0\0\0";
    const EMPTY_FRAME: &[u8] = b"\x28\xb5\x2f\xfd\x20\0\x01\0\0";
    assert_linear("empty members", 10_000, |count| EMPTY.repeat(count));
    assert_linear("empty frames", 10_000, |count| EMPTY_FRAME.repeat(count));
    // A size that is claimed too small makes the output grow step by step.
    assert_linear("a false size", 1 << 20, |len| {
        let mut text = event_with(r#""x":1"#);
        // White space that doesn't vanish when it is compressed.
        text.extend((0..len).map(|index| b" \t\r\n"[(index * index / 7 + index / 3) % 4]));
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, &text).unwrap();
        let mut body = encoder.finish().unwrap();
        body.extend_from_slice(&[0; 8]);
        body
    });
}
