//! The committed corpus of the fuzz target `wal_scan`, once: what fuzzing found stays found.

use std::panic::catch_unwind;
use std::path::Path;

use penstock_disk::{Filesystem, RealFilesystem};
use penstock_model::{Clock, SystemClock};

use crate::fuzzing::scan;

/// As in `scripts/fuzz`, on a machine that does much else.
const MAX_NANOS: u64 = 5_000_000_000;

#[test]
fn every_input_of_the_corpus_is_read_as_fuzzing_asks() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/wal_scan");
    let clock = SystemClock::new();
    let names = RealFilesystem.read_dir(&folder).unwrap();
    assert!(!names.is_empty());
    for name in names {
        let file = RealFilesystem.open_read(&folder.join(&name)).unwrap();
        let mut input = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
        file.read_exact_at(&mut input, 0).unwrap();
        let started = clock.monotonic_nanos();
        let result = catch_unwind(|| scan(&input));
        let nanos = clock.monotonic_nanos() - started;
        assert!(result.is_ok(), "{name:?} failed, as it says above");
        assert!(nanos < MAX_NANOS, "{name:?} took {nanos} ns");
    }
}
