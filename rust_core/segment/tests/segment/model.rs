//! The model: random logs, limits, cuts and abandoned cuts, against the log itself (TAB-1).

use std::collections::BTreeSet;

use penstock_segment::{ByTable, Codec, SegmentOptions};

use crate::checks::places_of;
use crate::machine::{Machine, paths_of};
use crate::samples::{Random, places_in, random_log};

/// Every limit is reached within a few rows.
fn small_options(random: &mut Random) -> SegmentOptions {
    SegmentOptions {
        // Compression is slow without optimization, and columns.rs compares the codecs.
        codec: random.pick(&[Codec::Zstd(1), Codec::None, Codec::None, Codec::None]),
        row_group_rows: random.pick(&[1, 3, 100]),
        batch_rows: random.pick(&[1, 2, 5, 100]),
        max_open_partitions: random.pick(&[1, 2, 5, 100]),
        max_open_files: random.pick(&[1, 2, 100]),
        max_buffered_bytes: random.pick(&[0, 20_000, 3 << 20, 64 << 20]),
        max_rejected_raw_bytes: 1_000,
    }
}

#[test]
fn every_row_is_in_exactly_one_cut_whatever_the_limits() {
    let mut several_files = 0;
    for seed in 0..25 {
        let mut random = Random::new(seed);
        let options = small_options(&mut random);
        let log = random_log(&mut random, 30);
        let mut machine = Machine::new(options.clone());
        let (mut cut_up_to, mut next) = (0, 0);
        let mut named = BTreeSet::new();
        while cut_up_to < log.len() {
            let choice = random.below(12);
            if choice == 0 {
                machine.builder.abandon();
                next = cut_up_to;
            } else if choice == 1 || next == log.len() {
                let files = machine.builder.finish().unwrap();
                let rows = machine.rows(&files);
                assert_eq!(
                    places_of(&rows),
                    places_in(&log[cut_up_to..next]),
                    "seed {seed}, {options:?}"
                );
                several_files += usize::from(files.len() > rows.len());
                for path in paths_of(&files) {
                    assert!(named.insert(path), "a file is named twice: seed {seed}");
                }
                cut_up_to = next;
            } else {
                machine
                    .builder
                    .append(&log[next].meta(), ByTable::ALL)
                    .unwrap();
                next += 1;
            }
            let (in_cut, held) = (&log[cut_up_to..next], machine.builder.rows());
            let expected: usize = places_in(in_cut).values().map(Vec::len).sum();
            assert_eq!(held, u64::try_from(expected).unwrap());
            assert!(machine.builder.buffered_bytes() <= options.max_buffered_bytes);
        }
        assert_eq!(
            machine.files_on_disk(),
            named,
            "nothing else is left: seed {seed}"
        );
    }
    assert!(
        several_files > 25,
        "files were hardly ever closed early: {several_files}"
    );
}
