//! Copies of a data directory: of its log, restored beside a newer table, and two that take turns on
//! one table. Each opening appends in a lane of its own, so that neither passes off its events as
//! committed ones of the other.

use std::path::{Path, PathBuf};

use penstock_disk::Crash;

use super::super::request::Request;
use super::{Machine, machine};

/// What of a data directory is not the tables.
const OWN: [&str; 2] = ["wal", "dedup"];

/// The files of the log and of the ids, with their contents.
struct Copy(Vec<(PathBuf, Vec<u8>)>);

impl Copy {
    fn of(machine: &Machine, folders: &[&str]) -> Self {
        let mut files = Vec::new();
        for folder in folders {
            let directory = Path::new("/data").join(folder);
            for name in machine.filesystem.read_dir(&directory).unwrap() {
                let path = directory.join(name);
                if let Some(contents) = machine.faulty.contents(&path) {
                    files.push((path, contents.to_vec()));
                }
            }
        }
        Self(files)
    }

    /// Puts the copy in the place of what is there. No process runs.
    fn restore(&self, machine: &mut Machine, folders: &[&str]) {
        assert!(machine.life.is_none(), "stopped before");
        for (path, _) in Self::of(machine, folders).0 {
            machine.filesystem.remove_file(&path).unwrap();
        }
        for (path, contents) in &self.0 {
            let file = machine.filesystem.create_new(path).unwrap();
            file.write_all_at(contents, 0).unwrap();
            file.sync_all().unwrap();
        }
        for folder in folders {
            let directory = Path::new("/data").join(folder);
            machine.filesystem.sync_dir(&directory).unwrap();
        }
    }
}

#[test]
fn an_old_copy_of_the_log_beside_a_newer_table_doubles_nothing_and_takes_new_events() {
    let mut machine = machine();
    machine.stored(Request::of([1]).with_rejected().filled(1_500));
    machine.stored(Request::of([2]));
    let old = Copy::of(&machine, &["wal"]);
    for id in 3..12 {
        machine.stored(Request::of([id]).with_rejected().filled(1_500));
    }
    machine.committed();
    machine.drain();
    machine.end_life();
    old.restore(&mut machine, &["wal"]);
    machine.begin();
    // At positions that the table has rows of, in another lane.
    for id in 20..32 {
        machine.stored(Request::of([id]).with_rejected().filled(1_500));
    }
    machine.committed();
    machine.drain_and_check();
}

#[test]
fn two_copies_of_a_data_directory_that_take_turns_on_one_table_store_each_event_once() {
    let mut machine = machine();
    // Acknowledged before the copy and committed by one of both.
    for id in 0..4 {
        machine.stored(Request::of([id]).with_rejected().filled(1_500));
    }
    machine.end_life();
    let mut other = Copy::of(&machine, &OWN);
    for turn in 0..6 {
        machine.begin();
        for id in 0..4 {
            let id = 100 + turn * 10 + id;
            machine.stored(Request::of([id]).with_rejected().filled(1_500));
        }
        machine.committed();
        if turn % 3 == 2 {
            machine.stored(Request::of([500 + turn]));
        }
        machine.crash(Crash::LoseUnsynced);
        let mine = Copy::of(&machine, &OWN);
        other.restore(&mut machine, &OWN);
        other = mine;
    }
    machine.begin();
    machine.drain();
    machine.end_life();
    other.restore(&mut machine, &OWN);
    machine.begin();
    machine.drain_and_check();
}
