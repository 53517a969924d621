//! Deflate, brotli and LZ-String, right, wrong and hostile.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use flate2::Compression;
use flate2::write::{DeflateEncoder, ZlibEncoder};
use penstock_model::BatchText;

use super::*;

const EVENT: &str = r#"{"api_key":"phc_a","event":"e","distinct_id":"d"}"#;

/// By the brotli of Node: a batch with its defaults; [`EVENT`] with a window beyond RFC 7932; and
/// 32 MiB of zeros.
const BATCH: &str = r#"{"api_key":"phc_a","batch":[{"event":"e","distinct_id":"d","properties":{"a":"aaaaaaaaaaaaaaaaaaaaaaaaaaaa"}}]}"#;
const BATCH_IN_BROTLI: &str = "G24AEIzTFfMjhHUfodKh5pb61WpgL7DBLAaLo3X6ulh6wLXYM2tVydbqVIZGO4SYZDkH3baTH9xyE2PreWENtgfJuANZBxDRlxgEBO96";
const LARGE_WINDOW: &str =
    "ER5gAAJ7ImFwaV9rZXkiOiJwaGNfYSIsImV2ZW50IjoiZSIsImRpc3RpbmN0X2lkIjoiZCJ9Aw==";
const BROTLI_BOMB: &str =
    "y///P/gnAOKxQCD3/o///3/wTwDEYRGA7v0f////4J8AiMMCAN37v/z//8M/ARCHBQC6938=";

/// By lz-string 1.5.0 of npm, `compressToBase64`.
const UNICODE: &str = r#"{"api_key":"phc_a","event":"é猫🦔🦤🦔","distinct_id":"d","properties":{"x":"aaaaaaaaaaaaaaaaaaaaaaaa"}}"#;
const UNICODE_IN_LZ64: &str = "N4IghgDglg+g1gUwJ4gFwggCwMYzCAGhAQDcEA7AFzRAEvBqZ0D4NwFN3HAS3ZcJABMoBnSlHLZKMKNxoSiEAE4B7CAhmCEfNKAAeNMDt179B3SAC+xoA===";
const LONE_SURROGATE_IN_LZ64: &str = "nwbQ";

fn hinted(coding: Coding) -> RequestContext {
    RequestContext {
        coding,
        ..context()
    }
}

fn code_of(body: impl Into<Vec<u8>>, context: &RequestContext) -> Code {
    decode_with(body, context).unwrap_err().code
}

fn bytes_of(base64: &str) -> Vec<u8> {
    BASE64_STANDARD.decode(base64).unwrap()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A brotli stream that stores `bytes` as they are (RFC 7932 §9.2).
fn stored(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for (index, piece) in bytes.chunks(1 << 16).enumerate() {
        let len = u32::try_from(piece.len()).unwrap() - 1;
        // The window comes first, then for each piece: not the last, four nibbles, as it is.
        let head = if index == 0 {
            len << 4 | 1 << 20
        } else {
            len << 3 | 1 << 19
        };
        out.extend_from_slice(&head.to_le_bytes()[..3]);
        out.extend_from_slice(piece);
    }
    out.push(3);
    out
}

/// An LZ-String of `count` phrases, each one letter longer than the one before.
fn staircase(count: usize) -> String {
    let mut bits = vec![false, false];
    let mut number = |value: usize, width: usize| {
        bits.extend((0..width).map(|bit| value >> bit & 1 == 1));
    };
    number(usize::from(b' '), 8);
    let (mut width, mut until_wider) = (3, 4);
    for phrase in 4..4 + count {
        number(phrase, width);
        until_wider -= 1;
        if until_wider == 0 {
            until_wider = 1 << width;
            width += 1;
        }
    }
    number(2, width);
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let letters = bits.chunks(6).map(|six| {
        let value = (0..6).fold(0, |value, bit| {
            value << 1 | usize::from(six.get(bit).is_some_and(|bit| *bit))
        });
        char::from(alphabet[value])
    });
    letters.collect()
}

#[test]
fn deflate_is_read_with_and_without_its_wrapping() {
    for body in [zlib(EVENT.as_bytes()), deflate(EVENT.as_bytes())] {
        let batch = decode_with(body.clone(), &hinted(Coding::Deflate)).unwrap();
        assert_eq!(batch.view().get(batch.events[0].raw), EVENT);
        for end in 1..body.len() {
            let code = code_of(&body[..end], &hinted(Coding::Deflate));
            assert_eq!(code, Code::InvalidDeflate, "cut at {end}");
        }
    }
    assert_eq!(
        code_of("junk", &hinted(Coding::Deflate)),
        Code::InvalidDeflate
    );
}

#[test]
fn brotli_is_read() {
    let context = hinted(Coding::Brotli);
    for body in [bytes_of(BATCH_IN_BROTLI), stored(BATCH.as_bytes())] {
        let batch = decode_with(body.clone(), &context).unwrap();
        let BatchText::Decoded(text) = &batch.text else {
            panic!("it was compressed")
        };
        assert_eq!(text, BATCH.as_bytes());
        for end in 1..body.len() {
            assert_eq!(
                code_of(&body[..end], &context),
                Code::InvalidBrotli,
                "cut at {end}"
            );
        }
    }
    let events = batch_of(&vec![EVENT; 5_000].join(","));
    let batch = decode_with(stored(events.as_bytes()), &context).unwrap();
    assert_eq!(batch.events.len(), 5_000);
}

#[test]
fn a_brotli_window_beyond_the_standard_is_refused() {
    let code = code_of(bytes_of(LARGE_WINDOW), &hinted(Coding::Brotli));
    assert_eq!(code, Code::InvalidBrotli);
}

#[test]
fn plain_json_under_a_hint_of_a_compression_is_forgiven() {
    for coding in [Coding::Deflate, Coding::Brotli] {
        for body in [
            EVENT.to_owned(),
            format!("[{EVENT}]"),
            format!(" \n{EVENT}"),
        ] {
            let batch = decode_with(body.clone(), &hinted(coding)).unwrap();
            assert_eq!(batch.events.len(), 1, "{coding:?} {body}");
        }
    }
}

#[test]
fn lz_string_is_read_as_its_inventor_writes_it() {
    let batch = decode_with(UNICODE_IN_LZ64, &hinted(Coding::Lz64)).unwrap();
    assert_eq!(batch.view().get(batch.events[0].raw), UNICODE);
    assert_eq!(warnings(&batch.events[0]), []);
    // Without padding, with line breaks, with what forms make of a plus.
    let body = UNICODE_IN_LZ64.trim_end_matches('=').replace('+', " ");
    let (first, second) = body.split_at(40);
    let body = format!("{first}\r\n{second}");
    let batch = decode_with(body, &hinted(Coding::Lz64)).unwrap();
    assert_eq!(batch.view().get(batch.events[0].raw), UNICODE);
    for (empty, code) in [("Q===", Code::MissingPayload), ("IZA=", Code::InvalidJson)] {
        assert_eq!(code_of(empty, &hinted(Coding::Lz64)), code);
    }
    assert_eq!(
        code_of(LONE_SURROGATE_IN_LZ64, &hinted(Coding::Lz64)),
        Code::InvalidJson
    );
}

#[test]
fn what_is_no_lz_string_is_refused_as_such() {
    let context = hinted(Coding::Lz64);
    let body = UNICODE_IN_LZ64.trim_end_matches('=').as_bytes();
    for end in 1..body.len() - 1 {
        assert_eq!(
            code_of(&body[..end], &context),
            Code::InvalidLz64,
            "cut at {end}"
        );
    }
    for body in ["#", "====", "wAAA", "A"] {
        assert_eq!(code_of(body, &context), Code::InvalidLz64, "{body}");
    }
    let mut random = random::Random::new(7);
    for _ in 0..2_000 {
        let mut bytes = body.to_vec();
        let place = random.below(bytes.len());
        bytes[place] = b"ABCabc012+/"[random.below(11)];
        // Whatever comes out of it: it ends, and says what it is.
        drop(decode_with(bytes, &context));
    }
}

#[test]
fn the_limit_of_each_compression_is_exact() {
    // Larger than their compressed form, else the body itself would be what is too large.
    let text = format!("{EVENT}{}", " ".repeat(10_000));
    let stairs = 1 + (2..=101).sum::<usize>();
    for (body, coding, len) in [
        (zlib(text.as_bytes()), Coding::Deflate, text.len()),
        (deflate(text.as_bytes()), Coding::Deflate, text.len()),
        (bytes_of(BATCH_IN_BROTLI), Coding::Brotli, BATCH.len()),
        (staircase(100).into_bytes(), Coding::Lz64, stairs),
    ] {
        let mut context = hinted(coding);
        context.limits.max_decompressed_bytes = u32::try_from(len).unwrap();
        let found = decode_with(body.clone(), &context).map_err(|refusal| refusal.code);
        assert!(
            !matches!(found, Err(Code::DecompressedTooLarge)),
            "{coding:?}"
        );
        context.limits.max_decompressed_bytes -= 1;
        assert_eq!(
            code_of(body, &context),
            Code::DecompressedTooLarge,
            "{coding:?}"
        );
    }
}

#[test]
fn bombs_of_each_compression_are_refused() {
    let zeros = vec![0; 32 << 20];
    let stairs = staircase(4_000);
    assert!(stairs.len() < 10_000);
    for (bomb, coding) in [
        (zlib(&zeros), Coding::Deflate),
        (deflate(&zeros), Coding::Deflate),
        (bytes_of(BROTLI_BOMB), Coding::Brotli),
        (stairs.into_bytes(), Coding::Lz64),
    ] {
        let mut context = hinted(coding);
        context.limits.max_decompressed_bytes = 1 << 20;
        assert_eq!(code_of(bomb.clone(), &context), Code::DecompressedTooLarge);
        // Within the limit it is what it is: nothing.
        let code = code_of(bomb, &hinted(coding));
        assert!(
            matches!(code, Code::InvalidJson | Code::MissingPayload),
            "{coding:?}"
        );
    }
    // In letters: a form of base64 of gzip of zeros.
    let packed = BASE64_STANDARD.encode(gzip(&zeros)).replace('+', "%2B");
    let mut context = context();
    context.limits.max_decompressed_bytes = 1 << 20;
    assert_eq!(
        code_of(format!("data={packed}"), &context),
        Code::DecompressedTooLarge
    );
}

#[test]
fn a_workspace_forgets_the_body_before_whatever_its_coding() {
    let mut workspace = Workspace::default();
    let good = [
        (zlib(EVENT.as_bytes()), Coding::Deflate),
        (gzip(EVENT.as_bytes()), Coding::Gzip),
        (bytes_of(BATCH_IN_BROTLI), Coding::Brotli),
        (UNICODE_IN_LZ64.into(), Coding::Lz64),
    ];
    for round in 0..6 {
        for (body, coding) in &good {
            let end = if round % 2 == 0 { body.len() } else { 10 };
            let payload = Payload::new(body[..end].to_vec());
            let found = decode_request(&payload, &hinted(*coding), &mut workspace);
            assert_eq!(found.is_ok(), round % 2 == 0, "{coding:?}");
        }
    }
}
