//! Decoded batches to a synced Parquet file, as the background makes it from its cache.

use std::net::IpAddr;
use std::path::Path;

use criterion::{BatchSize, BenchmarkId, Criterion};
use penstock_bench::{Corpus, Ids};
use penstock_decode::{Workspace, decode_request};
use penstock_disk::RealFilesystem;
use penstock_model::{Batch, Coding, Endpoint, LaneId, Payload, Position};
use penstock_segment::{ByTable, Codec, CutBuilder, Layout, RecordMeta, SegmentOptions};

use crate::{request_context, scratch, throughput};

/// Rows of one cut: about a tenth of a second's work, so that opening and syncing the file weigh as
/// little as they do in service.
const ROWS: usize = 50_000;

fn batches(events: usize) -> (Vec<Batch>, usize) {
    let mut corpus = Corpus::new(1);
    let mut ids = Ids::new(0);
    let mut workspace = Workspace::default();
    let context = request_context(Coding::Identity);
    let mut bytes = 0;
    let mut batches = Vec::new();
    for _ in 0..ROWS / events {
        let mut body = corpus.body(events);
        body.stamp(&mut ids);
        bytes += body.bytes.len();
        let payload = Payload::new(body.bytes);
        let batch = decode_request(&payload, &context, &mut workspace);
        batches.push(batch.expect("the corpus is well formed"));
    }
    (batches, bytes)
}

fn builder(directory: &Path, codec: Codec) -> CutBuilder {
    let options = SegmentOptions {
        codec,
        ..SegmentOptions::DEFAULT
    };
    CutBuilder::new(
        &RealFilesystem::shared(),
        directory,
        Layout::Partitioned,
        options,
    )
}

/// Builds one cut and gives (rows, bytes) of its files.
fn build(builder: &mut CutBuilder, batches: &[Batch]) -> (u64, u64) {
    let client_address: IpAddr = [203, 0, 113, 7].into();
    let mut position = Position::ZERO;
    for batch in batches {
        position = position.next();
        let record = RecordMeta {
            lane: LaneId::from_bytes([1; 16]),
            position,
            project: "bench",
            received_at_us: 1_768_482_000_000_000,
            client_address: Some(client_address),
            endpoint: Endpoint::Batch,
            batch,
        };
        builder
            .append(&record, ByTable::ALL)
            .expect("the disk takes it");
    }
    let files = builder.finish().expect("the disk takes it");
    files.iter().fold((0, 0), |sum, file| {
        (sum.0 + file.rows, sum.1 + file.size_bytes)
    })
}

pub(crate) fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("segment");
    group.sample_size(10);
    let folder = scratch();
    for (name, codec) in [
        ("zstd-1", Codec::Zstd(1)),
        ("lz4", Codec::Lz4Raw),
        ("none", Codec::None),
    ] {
        let (batches, bytes) = batches(50);
        let (rows, _) = build(&mut builder(folder.path(), codec), &batches);
        assert_eq!(rows, ROWS as u64, "every event of the corpus becomes a row");
        group.throughput(throughput(ROWS, bytes));
        group.bench_function(BenchmarkId::new(name, 50), |bencher| {
            bencher.iter_batched_ref(
                || {
                    // File names repeat with lane and positions, so each cut gets its own folder.
                    let directory = tempfile::tempdir_in(folder.path()).expect("a folder");
                    (builder(directory.path(), codec), directory)
                },
                |(builder, _directory)| build(builder, &batches),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}
