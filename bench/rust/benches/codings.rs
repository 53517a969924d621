//! What undoing a content coding costs: bodies of 50 events in each coding to a checked batch, beside
//! its codec alone on the same bytes, and beside the plain body.
//!
//! Rates are bytes of plain JSON a second. A coding's own cost in decoding is what its row takes
//! longer than `identity`; that should be what its codec takes alone. Goal for `identity`: 1.2 GB/s
//! on one core.

use std::io::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use brotli::enc::BrotliEncoderParams;
use criterion::Criterion;
use flate2::write::{DeflateEncoder, ZlibEncoder};
use penstock_bench::{Compressor, Corpus, Decompressor, Ids};
use penstock_decode::{Workspace, decode_request};
use penstock_model::{Coding, Outcome, Payload};

use crate::{request_context, throughput};

const EVENTS: usize = 50;

/// Some 4 MB of JSON: beyond the caches of the second level, and quick in the slowest coding.
const BODIES: usize = 75;

/// Room for the text of one body.
const MAX_BODY_BYTES: usize = 1 << 20;

/// Levels that senders use by default: zlib's, zstd's, and what servers take brotli at.
const DEFLATE_LEVEL: u32 = 6;
const ZSTD_LEVEL: i32 = 3;
const BROTLI_QUALITY: i32 = 5;

type Encode = fn(&[u8]) -> Vec<u8>;
/// Writes the text of a body over a buffer that is large enough, and tells its length.
type Decode = fn(&mut Raw, &[u8]) -> usize;

/// The bare codecs with what they keep from body to body.
struct Raw {
    gzip: Decompressor,
    zstd: zstd::bulk::Decompressor<'static>,
    out: Vec<u8>,
}

struct Row {
    name: &'static str,
    coding: Coding,
    encode: Encode,
    raw: Option<Decode>,
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    let level = i32::try_from(DEFLATE_LEVEL).expect("a level is small");
    Compressor::new(level).compress(text, &mut packed);
    packed
}

fn zlib(text: &[u8]) -> Vec<u8> {
    let level = flate2::Compression::new(DEFLATE_LEVEL);
    let mut encoder = ZlibEncoder::new(Vec::new(), level);
    encoder.write_all(text).expect("a vector takes all");
    encoder.finish().expect("a vector takes all")
}

fn deflate(text: &[u8]) -> Vec<u8> {
    let level = flate2::Compression::new(DEFLATE_LEVEL);
    let mut encoder = DeflateEncoder::new(Vec::new(), level);
    encoder.write_all(text).expect("a vector takes all");
    encoder.finish().expect("a vector takes all")
}

fn brotli(mut text: &[u8]) -> Vec<u8> {
    let params = BrotliEncoderParams {
        quality: BROTLI_QUALITY,
        ..BrotliEncoderParams::default()
    };
    let mut packed = Vec::new();
    brotli::BrotliCompress(&mut text, &mut packed, &params).expect("a vector takes all");
    packed
}

fn zstd(text: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(text, ZSTD_LEVEL).expect("a text is compressible")
}

fn base64(text: &[u8]) -> Vec<u8> {
    BASE64_STANDARD.encode(text).into_bytes()
}

fn lz64(text: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(text).expect("the corpus is UTF-8");
    lz_str::compress_to_base64(text).into_bytes()
}

/// A form as old clients send it: base64 with what it has besides letters in percent codes.
fn form(text: &[u8]) -> Vec<u8> {
    let data = BASE64_STANDARD.encode(text);
    let data = data.replace('+', "%2B").replace('/', "%2F");
    format!("data={}", data.replace('=', "%3D")).into_bytes()
}

fn raw_gzip(raw: &mut Raw, body: &[u8]) -> usize {
    let len = raw.gzip.decompress(body, &mut raw.out);
    len.expect("the body is one whole member")
}

fn raw_inflate(wrapped: bool, raw: &mut Raw, body: &[u8]) -> usize {
    let mut decompress = flate2::Decompress::new(wrapped);
    let end = decompress.decompress(body, &mut raw.out, flate2::FlushDecompress::Finish);
    assert_eq!(end.expect("it is whole"), flate2::Status::StreamEnd);
    usize::try_from(decompress.total_out()).expect("a body fits in memory")
}

fn raw_zstd(raw: &mut Raw, body: &[u8]) -> usize {
    let len = raw.zstd.decompress_to_buffer(body, &mut raw.out[..]);
    len.expect("the body is one whole frame")
}

fn raw_brotli(raw: &mut Raw, mut body: &[u8]) -> usize {
    let mut out = std::io::Cursor::new(&mut raw.out[..]);
    brotli_decompressor::BrotliDecompress(&mut body, &mut out).expect("the body is whole");
    usize::try_from(out.position()).expect("a body fits in memory")
}

fn raw_base64(raw: &mut Raw, body: &[u8]) -> usize {
    let len = BASE64_STANDARD.decode_slice(body, &mut raw.out);
    len.expect("the body is base64")
}

fn raw_lz64(raw: &mut Raw, body: &[u8]) -> usize {
    let body = std::str::from_utf8(body).expect("letters");
    let units = lz_str::decompress_from_base64(body).expect("the body is whole");
    let text = String::from_utf16(&units).expect("the corpus is text");
    raw.out[..text.len()].copy_from_slice(text.as_bytes());
    text.len()
}

fn rows() -> [Row; 9] {
    let row = |name, coding, encode, raw| Row {
        name,
        coding,
        encode,
        raw,
    };
    [
        row("identity", Coding::Identity, <[u8]>::to_vec as Encode, None),
        row("gzip", Coding::Gzip, gzip, Some(raw_gzip as Decode)),
        row("zlib", Coding::Deflate, zlib, {
            Some(|raw, body| raw_inflate(true, raw, body))
        }),
        row("deflate", Coding::Deflate, deflate, {
            Some(|raw, body| raw_inflate(false, raw, body))
        }),
        row("zstd", Coding::Zstd, zstd, Some(raw_zstd)),
        row("brotli", Coding::Brotli, brotli, Some(raw_brotli)),
        row("base64", Coding::Base64, base64, Some(raw_base64)),
        row("form", Coding::Unspecified, form, None),
        row("lz64", Coding::Lz64, lz64, Some(raw_lz64)),
    ]
}

fn texts() -> Vec<Vec<u8>> {
    let mut corpus = Corpus::new(1);
    let mut ids = Ids::new(0);
    let bodies = std::iter::repeat_with(|| {
        let mut body = corpus.body(EVENTS);
        body.stamp(&mut ids);
        body.bytes
    });
    bodies.take(BODIES).collect()
}

/// Decodes every body once and counts the accepted events.
fn decode_all(bodies: &[Payload], coding: Coding, workspace: &mut Workspace) -> usize {
    let context = request_context(coding);
    let accepted = bodies.iter().map(|body| {
        let batch = decode_request(body, &context, workspace).expect("the corpus is well formed");
        let outcomes = batch.events.iter().map(|event| event.outcome);
        outcomes
            .filter(|outcome| *outcome == Outcome::Accepted)
            .count()
    });
    accepted.sum()
}

pub(crate) fn benches(criterion: &mut Criterion) {
    let texts = texts();
    let plain_bytes = texts.iter().map(Vec::len).sum();
    let events = texts.len() * EVENTS;
    let mut workspace = Workspace::default();
    let mut raw = Raw {
        gzip: Decompressor::new(),
        zstd: zstd::bulk::Decompressor::new().expect("memory for a decompressor"),
        out: vec![0; MAX_BODY_BYTES],
    };
    let mut group = criterion.benchmark_group("codings");
    group.sample_size(20);
    group.throughput(throughput(events, plain_bytes));
    for row in rows() {
        let coded = texts.iter().map(|text| Payload::new((row.encode)(text)));
        let bodies: Vec<_> = coded.collect();
        assert_eq!(decode_all(&bodies, row.coding, &mut workspace), events);
        group.bench_function(format!("{}/decode", row.name), |bencher| {
            bencher.iter(|| decode_all(&bodies, row.coding, &mut workspace));
        });
        let Some(decode) = row.raw else {
            continue;
        };
        for (body, text) in bodies.iter().zip(&texts) {
            let len = decode(&mut raw, body.as_slice());
            assert!(raw.out[..len] == **text, "{} alone reads it", row.name);
        }
        group.bench_function(format!("{}/codec alone", row.name), |bencher| {
            bencher.iter(|| -> usize {
                let lens = bodies.iter().map(|body| decode(&mut raw, body.as_slice()));
                lens.sum()
            });
        });
    }
    group.finish();
}
