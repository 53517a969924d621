//! What the rooms of the core cost on their own: `cargo bench -p penstock-bench -- <filter>`.
//!
//! Each bench checks its answer once before it is timed, and reports events/s and bytes/s of plain
//! JSON. One binary for all: with thin LTO every further one pays for the whole tree again.
//! Pin it (`taskset -c 0`) and keep the machine quiet.

#![expect(clippy::expect_used, reason = "a bench that cannot go on stops")]

mod codings;
mod decode;
mod dedup;
mod segment;
mod wal;

use std::io::Write as _;
use std::path::Path;

use criterion::{Throughput, criterion_group, criterion_main};
use penstock_model::{BodyForm, Coding, DecodeLimits, Endpoint, RequestContext};
use tempfile::TempDir;

/// Rates in events and in bytes of plain JSON.
fn throughput(events: usize, bytes: usize) -> Throughput {
    Throughput::ElementsAndBytes {
        elements: events as u64,
        bytes: bytes as u64,
    }
}

/// What the service would know of a request to `/batch/`; a fixed time, so that every run decides
/// alike.
fn request_context(coding: Coding) -> RequestContext {
    RequestContext {
        decoder_version: penstock_decode::DECODER_VERSION,
        limits: DecodeLimits::DEFAULT,
        endpoint: Endpoint::Batch,
        coding,
        form: BodyForm::Events,
        received_at_us: 1_768_482_000_000_000,
        client_address: None,
        sent_at_us: None,
        token: None,
        sdk_info: None,
        cookieless: false,
        uuid_seed: [7; 16],
    }
}

/// A folder below `target`: `/tmp` may be memory, where every sync is free.
fn scratch() -> TempDir {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
    tempfile::tempdir_in(root).expect("the target directory is there")
}

/// Says what no timing says, beside Criterion's own lines.
fn note(text: &str) {
    // Nobody need listen.
    drop(writeln!(std::io::stderr(), "{text}"));
}

criterion_group!(
    benches,
    decode::benches,
    codings::benches,
    dedup::benches,
    wal::benches,
    segment::benches
);
criterion_main!(benches);
