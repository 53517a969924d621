//! A request's bytes to a checked batch. Reference: libdeflate alone on the same gzip bodies.

use criterion::{BenchmarkId, Criterion};
use penstock_bench::{Compressor, Corpus, Decompressor, Ids};
use penstock_decode::{Workspace, decode_request};
use penstock_model::{Coding, Outcome, Payload};

use crate::{request_context, throughput};

/// Plain JSON that one pass of a bench goes through: beyond the caches of the second level, in the one
/// that cores share, where a body is that has waited for its turn.
const BYTES_OF_A_PASS: usize = 8 << 20;

/// Within the second level, where a body is that was just copied from its socket, and what
/// `measured.md` measured its readers by.
const BYTES_IN_CACHE: usize = 256 << 10;

struct Case {
    bodies: Vec<Payload>,
    plain_bytes: usize,
    events: usize,
}

fn case(events: usize, gzip: bool, bytes_of_a_pass: usize) -> Case {
    let mut corpus = Corpus::new(1);
    let mut ids = Ids::new(0);
    let mut compressor = Compressor::new(6);
    let mut case = Case {
        bodies: Vec::new(),
        plain_bytes: 0,
        events: 0,
    };
    while case.plain_bytes < bytes_of_a_pass {
        let mut body = corpus.body(events);
        body.stamp(&mut ids);
        case.plain_bytes += body.bytes.len();
        case.events += events;
        let bytes = if gzip {
            let mut packed = Vec::new();
            compressor.compress(&body.bytes, &mut packed);
            packed
        } else {
            body.bytes
        };
        case.bodies.push(Payload::new(bytes));
    }
    case
}

/// Decodes every body once and counts the accepted events.
fn decode_all(case: &Case, coding: Coding, workspace: &mut Workspace) -> usize {
    let context = request_context(coding);
    let mut accepted = 0;
    for body in &case.bodies {
        let batch = decode_request(body, &context, workspace).expect("the corpus is well formed");
        accepted += batch
            .events
            .iter()
            .filter(|event| event.outcome == Outcome::Accepted)
            .count();
    }
    accepted
}

pub(crate) fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    group.sample_size(20);
    for (name, events, bytes_of_a_pass) in [
        ("plain", 1, BYTES_OF_A_PASS),
        ("plain", 50, BYTES_OF_A_PASS),
        ("plain in cache", 50, BYTES_IN_CACHE),
        ("plain", 500, BYTES_OF_A_PASS),
        ("gzip", 50, BYTES_OF_A_PASS),
    ] {
        let gzip = name == "gzip";
        let case = case(events, gzip, bytes_of_a_pass);
        let coding = if gzip { Coding::Gzip } else { Coding::Identity };
        let mut workspace = Workspace::default();
        assert_eq!(decode_all(&case, coding, &mut workspace), case.events);
        group.throughput(throughput(case.events, case.plain_bytes));
        group.bench_function(BenchmarkId::new(name, events), |bencher| {
            bencher.iter(|| decode_all(&case, coding, &mut workspace));
        });
    }

    let case = case(50, true, BYTES_OF_A_PASS);
    let mut decompressor = Decompressor::new();
    let mut out = vec![0; 1 << 20];
    let mut inflate_all = || -> usize {
        let lengths = case
            .bodies
            .iter()
            .map(|body| decompressor.decompress(body.as_slice(), &mut out));
        lengths
            .map(|len| len.expect("the body is one whole member"))
            .sum()
    };
    assert_eq!(inflate_all(), case.plain_bytes);
    group.throughput(throughput(case.events, case.plain_bytes));
    group.bench_function(BenchmarkId::new("libdeflate alone", 50), |bencher| {
        bencher.iter(&mut inflate_all);
    });
    group.finish();
}
