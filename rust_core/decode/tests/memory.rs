//! That no request costs more memory than `decode_request` says: the text of a coded body, at most
//! `max_decompressed_bytes`, and about 400 bytes an event (LIM-2).
#![expect(
    clippy::unwrap_used,
    reason = "clippy's leave for tests does not reach helpers of an integration test"
)]

mod counting;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use counting::most_held_by;
use penstock_decode::{DECODER_VERSION, Workspace, decode_request};
use penstock_model::{BodyForm, Code, Coding, DecodeLimits, Endpoint, Payload, RequestContext};

const MAX_BYTES: usize = 4 << 20;
/// What an event may cost, be it as small as can be: the places of its fields while they are read,
/// those of session replay and capture v1 among them, and what is made of them.
const EVENT_BYTES: usize = 560;

/// Decodes and gives the most bytes that were held during it, above those held before.
fn most_held(body: Vec<u8>, limits: DecodeLimits) -> (usize, Option<Code>) {
    most_held_of(body, Coding::Unspecified, limits)
}

fn most_held_of(body: Vec<u8>, coding: Coding, limits: DecodeLimits) -> (usize, Option<Code>) {
    let context = RequestContext {
        decoder_version: DECODER_VERSION,
        limits,
        endpoint: Endpoint::Batch,
        coding,
        form: BodyForm::Events,
        received_at_us: 1_767_225_600_000_000,
        client_address: None,
        sent_at_us: None,
        token: Some("phc_a".to_owned()),
        sdk_info: None,
        cookieless: false,
        uuid_seed: [7; 16],
    };
    let payload = Payload::new(body);
    let mut workspace = Workspace::default();
    let (most, result) = most_held_by(|| decode_request(&payload, &context, &mut workspace));
    (most, result.err().map(|refusal| refusal.code))
}

fn small_limits() -> DecodeLimits {
    DecodeLimits {
        max_decompressed_bytes: u32::try_from(MAX_BYTES).unwrap(),
        ..DecodeLimits::DEFAULT
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(bytes, 3).unwrap()
}

/// A request of `bytes` bytes: one event, most of it letters that don't compress away.
fn text_of(bytes: usize) -> Vec<u8> {
    let frame = r#"{"event":"e","distinct_id":"d","properties":{"x":"#;
    let mut text = format!("{frame}\"").into_bytes();
    let mut state = 1_u32;
    let letters = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        b"abcdefghijklmnop"[(state >> 28) as usize]
    });
    text.extend(letters.take(bytes - text.len() - 3));
    text.extend_from_slice(b"\"}}");
    text
}

#[test]
fn the_allocator_counts() {
    let (most, block) = most_held_by(|| vec![0_u8; 1_000_000]);
    assert_eq!(most, 1_000_000);
    // What was held before does not count, and what is freed is held no more.
    let (most, ()) = most_held_by(|| drop(block));
    assert_eq!(most, 0);
    let (most, _) = most_held_by(|| {
        drop(vec![0_u8; 1_000_000]);
        vec![0_u8; 10]
    });
    assert_eq!(most, 1_000_000);
}

#[test]
fn a_plain_body_costs_nothing_for_its_text() {
    let (most, code) = most_held(text_of(MAX_BYTES), small_limits());
    assert_eq!(code, None);
    assert!(most < 16 << 10, "{most} bytes");
}

#[test]
fn a_coded_body_costs_its_text_once() {
    for compress in [gzip, zstd] {
        let (most, code) = most_held(compress(&text_of(MAX_BYTES)), small_limits());
        assert_eq!(code, None);
        assert!(most < MAX_BYTES + (512 << 10), "{most} bytes");
    }
}

#[test]
fn a_bomb_costs_less_than_the_limit_twice_whatever_it_claims() {
    for compress in [gzip, zstd] {
        let bomb = compress(&vec![b' '; 64 << 20]);
        let many = compress(&vec![b' '; 1 << 20]).repeat(64);
        // Honest; its size hidden behind padding; in many members.
        for body in [bomb.clone(), [bomb, vec![0; 8]].concat(), many] {
            let (most, code) = most_held(body, small_limits());
            assert_eq!(code, Some(Code::DecompressedTooLarge));
            assert!(most < MAX_BYTES * 2, "{most} bytes");
        }
    }
}

#[test]
fn codings_of_text_cost_what_they_stand_for() {
    let text = text_of(MAX_BYTES / 4 * 3 - 16);
    let base64 = BASE64_STANDARD.encode(&text);
    let broken = base64
        .as_bytes()
        .chunks(76)
        .collect::<Vec<_>>()
        .join(&b'\n');
    let form = format!("data={base64}").into_bytes();
    // The decoded text; with line breaks also the letters without them; of a form its data.
    for (body, bytes) in [
        (base64.clone().into_bytes(), MAX_BYTES),
        (broken, MAX_BYTES * 2),
        (form, MAX_BYTES * 2),
    ] {
        let limits = DecodeLimits {
            max_decompressed_bytes: u32::try_from(body.len()).unwrap(),
            ..DecodeLimits::DEFAULT
        };
        let (most, code) = most_held(body, limits);
        assert_eq!(code, None);
        assert!(most < bytes, "{most} bytes");
    }
}

/// 32 MiB of zeros, by the brotli of Node.
const BROTLI_BOMB: &str =
    "y///P/gnAOKxQCD3/o///3/wTwDEYRGA7v0f////4J8AiMMCAN37v/z//8M/ARCHBQC6938=";

#[test]
fn a_bomb_of_brotli_costs_its_window_more() {
    let bomb = BASE64_STANDARD.decode(BROTLI_BOMB).unwrap();
    let (most, code) = most_held_of(bomb, Coding::Brotli, small_limits());
    assert_eq!(code, Some(Code::DecompressedTooLarge));
    assert!(most < MAX_BYTES * 2 + (17 << 20), "{most} bytes");
}

#[test]
fn replacing_what_is_no_utf8_costs_a_second_text() {
    // Every letter is bad, just below the limit and far above it once a byte has become three; or
    // one byte is, in a body that is as long as may be.
    for (bytes, bad_bytes) in [(MAX_BYTES / 3 - 100, usize::MAX), (MAX_BYTES, usize::MAX)]
        .into_iter()
        .chain([(MAX_BYTES - 2, 1), (MAX_BYTES, 1)])
    {
        let mut body = text_of(bytes);
        let letters = body.iter_mut().rev().skip(3).take(bytes - 100);
        letters.take(bad_bytes).for_each(|letter| *letter = 0xff);
        let fits = bytes < MAX_BYTES;
        for (body, texts) in [(gzip(&body), 2), (body, 1)] {
            let (most, code) = most_held(body, small_limits());
            assert_eq!(code, (!fits).then_some(Code::DecompressedTooLarge));
            assert!(
                most < MAX_BYTES * texts + (512 << 10),
                "{most} bytes for {bad_bytes} of {bytes}"
            );
        }
    }
}

#[test]
fn the_smallest_events_cost_what_any_event_costs() {
    let max = DecodeLimits::DEFAULT.max_events_per_request as usize;
    for event in ["7", "{}", "[]"] {
        let body = |count| format!("[{}]", vec![event; count].join(",")).into_bytes();
        let (most, code) = most_held(body(max), DecodeLimits::DEFAULT);
        assert_eq!(code, None);
        assert!(most < max * EVENT_BYTES, "{most} bytes");
        // Past the limit nothing is noted any more.
        let (most, code) = most_held(body(max * 20), DecodeLimits::DEFAULT);
        assert_eq!(code, Some(Code::TooManyEvents));
        assert!(most < max * EVENT_BYTES, "{most} bytes");
    }
}

#[test]
fn depth_costs_a_bit_a_level() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let levels = 1_000_000;
        let body = [open.repeat(levels), "1".to_owned(), close.repeat(levels)].concat();
        let body = format!(r#"[{{"event":"e","distinct_id":"d","x":{body}}}]"#);
        let (most, code) = most_held(body.into_bytes(), DecodeLimits::DEFAULT);
        assert_eq!(code, None);
        assert!(most < levels / 8 * 4, "{most} bytes");
    }
}

#[test]
fn what_is_written_anew_is_bounded_by_the_text() {
    let escaped = r"\u0041".repeat(100_000);
    let keys: Vec<_> = (0..50_000).map(|index| format!("\"k{index}\":1")).collect();
    let keys = keys.join(",");
    let lone = r"\ud800".repeat(100_000);
    let elements = vec![r#"{"tag_name":"a","attr__class":"b c d"}"#; 20_000].join(",");
    for event in [
        format!(r#"{{"event":"{escaped}","distinct_id":"d","properties":{{"$lib":"{escaped}"}}}}"#),
        format!(r#"{{"event":"e","distinct_id":"d","properties":{{"x":"{lone}"}}}}"#),
        format!(
            r#"{{"event":"e","distinct_id":"{lone}","properties":{{"$session_id":"{lone}"}}}}"#
        ),
        format!(
            r#"{{"event":"e","distinct_id":"d","$set":{{{keys}}},"properties":{{"$set":{{{keys}}}}}}}"#
        ),
        format!(
            r#"{{"event":"e","distinct_id":"d","properties":{{"$elements":[{elements}],"x":1}}}}"#
        ),
    ] {
        let len = event.len();
        let (most, code) = most_held(event.into_bytes(), DecodeLimits::DEFAULT);
        assert_eq!(code, None);
        assert!(most < len * 4, "{most} bytes for {len}");
    }
}
