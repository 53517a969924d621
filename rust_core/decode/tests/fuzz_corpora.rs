//! The committed corpora of the fuzz targets, once each: what fuzzing found stays found.
//!
//! The same functions as the targets run, and their caps: an input may take a second, and hold what
//! the largest decoder needs besides the text that the targets' limits allow.
#![expect(
    clippy::unwrap_used,
    reason = "clippy's leave for tests does not reach helpers of an integration test"
)]

mod counting;
#[expect(unreachable_pub, reason = "public in the crate of the targets")]
#[path = "../../fuzz/src/decode.rs"]
mod targets;

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use counting::most_held_by;
use rustix::time::{ClockId, clock_gettime};
use targets::TARGETS;

/// As in `scripts/fuzz`. In debug builds decoding takes ten times as long, and still nowhere near.
const MAX_NANOS: u64 = 1_000_000_000;
/// Texts of 1 MiB, a few at once; the window of brotli, the phrases of lz64.
const MAX_HELD_BYTES: usize = 40 << 20;

fn corpora() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus")
}

fn names(folder: &PathBuf) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

fn computing_nanos() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    (time.tv_sec * 1_000_000_000 + time.tv_nsec).cast_unsigned()
}

#[test]
#[expect(clippy::disallowed_methods, reason = "reads what is in the repository")]
fn every_input_of_every_corpus_does_what_its_target_asks() {
    for (name, target) in TARGETS {
        let folder = corpora().join(name);
        let inputs = names(&folder);
        assert!(!inputs.is_empty(), "{name} has no corpus");
        for file in inputs {
            let input = fs::read(folder.join(&file)).unwrap();
            let started = computing_nanos();
            let run = || catch_unwind(AssertUnwindSafe(|| target(&input)));
            let (most, result) = most_held_by(run);
            let nanos = computing_nanos() - started;
            assert!(result.is_ok(), "{name}/{file} failed, as it says above");
            assert!(nanos < MAX_NANOS, "{name}/{file} took {nanos} ns");
            assert!(most < MAX_HELD_BYTES, "{name}/{file} held {most} bytes");
        }
    }
}

#[test]
fn every_corpus_has_a_target() {
    let mut named: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    // The log's, which its own crate runs.
    named.insert("wal_scan".to_owned());
    assert_eq!(names(&corpora()), named);
}
