//! A bit of a file changes while nobody looks.
//!
//! WAL-2: a record whose bytes are as they were is read back as it was, whatever else is damaged: one
//! bit costs one record at most. A record that is not read back lies in a range that was told, or
//! behind a tail that was told to be cut, unless its rows are in the tables already. Nothing comes back
//! altered. The ids of what was lost are not taken for known: whoever sends such an event again has it
//! stored, also if a table had it already, and that is the only one that may be there twice; unless its
//! id had gone to `dedup/` before its record went to a table, in which case it is taken for known and
//! stays lost, as was told. In the ids on disk a changed bit may let repeats through, which is told as
//! well; it never makes a new event a repeat. A changed seal is as good as none.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use penstock_disk::{Crash, Fork};
use penstock_model::Position;
use penstock_wal::LogItem;

use super::machine::{DATA_DIRECTORY, Machine};
use super::model::Allowed;
use super::probe::Place;
use super::quarantine::events_of;

/// Bits changed, one by one, on copies of one disk.
const FLIPS: u64 = 8;

/// Looks for a byte that is not zero, which most of a reserved file is.
const TRIES: u32 = 50;

/// Where the log's files, and those of ids, have their headers: at the start of a block. Most other
/// bytes are a payload's, so that a header would hardly ever be met.
const BLOCK_BYTES: u64 = 4096;
const HEADER_BYTES: u64 = 120;

type Records = BTreeMap<Position, (Vec<u8>, Vec<u8>)>;

/// Changes bits on copies of the disk; returns how many.
pub(super) fn check(machine: &Machine, fork: &Fork) -> u64 {
    let seed = fork.operation;
    let mut whole = machine.copied(
        fork.crashed(Crash::LoseUnsynced),
        machine.model.clone(),
        seed,
    );
    whole.begin();
    let records = read(&mut whole);
    drop(whole.life.take());
    let rotten = whole.faulty.fork();
    for number in 0..FLIPS {
        let disk = rotten.crashed(Crash::LoseUnsynced);
        let mut copy = machine.copied(disk, machine.model.clone(), seed + number);
        copy.model.process_died(&mut copy.random);
        copy.may_be_damaged = true;
        if let Some(flipped) = flip(&mut copy) {
            check_one(copy, &flipped, &records);
        }
    }
    FLIPS
}

fn flip(copy: &mut Machine) -> Option<PathBuf> {
    let directory = if copy.random.once_in(4) {
        "dedup"
    } else {
        "wal"
    };
    let directory = Path::new(DATA_DIRECTORY).join(directory);
    let mut names = copy.filesystem.read_dir(&directory).unwrap();
    names.retain(|name| {
        let name = name.to_string_lossy();
        // A damaged secret or note stops the start: a person is needed.
        [".wal", ".spare", ".seal", ".log", ".run"]
            .iter()
            .any(|end| name.ends_with(end))
    });
    if names.is_empty() {
        return None;
    }
    let index = usize::try_from(copy.random.below(names.len() as u64)).unwrap();
    let path = directory.join(&names[index]);
    let contents = copy.faulty.contents(&path).unwrap();
    for _ in 0..TRIES {
        if contents.is_empty() {
            return None;
        }
        let mut offset = copy.random.below(contents.len() as u64);
        if copy.random.once_in(2) {
            offset = offset / BLOCK_BYTES * BLOCK_BYTES + offset % HEADER_BYTES;
        }
        let offset = offset.min(contents.len() as u64 - 1);
        if contents[usize::try_from(offset).unwrap()] != 0 {
            let mask = 1 << copy.random.below(8);
            copy.faulty.flip(&path, offset, mask);
            return Some(path);
        }
    }
    None
}

fn check_one(mut copy: Machine, flipped: &Path, records: &Records) {
    let _place = Place(format!("a changed bit of {}", flipped.display()));
    let in_log = flipped.starts_with(Path::new(DATA_DIRECTORY).join("wal"));
    copy.open()
        .unwrap_or_else(|error| panic!("{}: {error}", flipped.display()));
    let found = read(&mut copy);
    for (position, record) in &found {
        assert_eq!(records.get(position), Some(record), "a record was altered");
    }
    let last = found.keys().next_back().copied().unwrap_or(Position::ZERO);
    // Damage of a file that a start need not read is met, and told, by the background.
    copy.drain();
    copy.take_events();
    let mut allowed = Allowed::default();
    let mut damaged = 0;
    for (position, (context, payload)) in records {
        let mut damage = copy.told.damage.iter();
        let told = damage.any(|(first, last)| first <= position && position <= last);
        let cut = copy.told.torn_tails > 0 && *position > last;
        // What is gone without a word must be in a table already.
        if !found.contains_key(position) && in_log && (told || cut) {
            let events = events_of(context, payload.clone());
            allowed.missing_ids.extend(events.ids);
            allowed.missing_rejected.extend(events.rejected);
            damaged += u32::from(!cut);
        }
    }
    assert!(damaged <= 1, "{damaged} records are lost to one bit");
    allowed.doubled = !in_log && copy.told.dedup_damage > 0;
    copy.check_but(allowed);
}

/// All records of the log.
fn read(machine: &mut Machine) -> Records {
    let log = &machine.life().engine.log;
    let mut reader = log.reader(Position::new(1));
    let mut records = Records::new();
    while let Some(item) = reader.next_item().unwrap() {
        // The background finds it again, and tells.
        drop(reader.take_damage());
        if let LogItem::Record(record) = item {
            records.insert(
                record.position,
                (record.context, record.payload.as_slice().to_vec()),
            );
        }
    }
    records
}
