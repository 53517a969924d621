//! Copies of a disk, and syncs that lie.

use std::path::{Path, PathBuf};

use crate::{Crash, Fault, FaultyFilesystem, Filesystem, Operation};

const NAME: &str = "/file";

fn contents(filesystem: &FaultyFilesystem) -> Vec<u8> {
    let contents = filesystem.contents(Path::new(NAME));
    contents.map_or_else(Vec::new, |bytes| bytes.to_vec())
}

#[test]
fn a_watched_disk_keeps_its_state_before_each_change_and_goes_on() {
    let filesystem = FaultyFilesystem::new();
    filesystem.watch(|| 7);
    let file = filesystem.create_new(Path::new(NAME)).unwrap();
    filesystem.sync_dir(Path::new("/")).unwrap();
    file.write_all_at(b"one", 0).unwrap();
    file.sync_data().unwrap();
    file.write_all_at(b"two", 0).unwrap();
    filesystem.unwatch();
    assert!(filesystem.take_forks().is_empty(), "unwatched");
    assert_eq!(filesystem.operations(), 5);

    filesystem.watch(|| 7);
    file.sync_data().unwrap();
    file.write_all_at(b"3", 0).unwrap();
    let forks = filesystem.take_forks();
    assert_eq!(forks.len(), 2);
    assert_eq!((forks[0].mark, forks[0].operation), (7, 6));
    assert!(forks[0].is_unsynced() && !forks[1].is_unsynced());
    assert_eq!(contents(&forks[0].crashed(Crash::LoseUnsynced)), b"one");
    assert_eq!(contents(&forks[0].crashed(Crash::KeepUnsynced)), b"two");
    assert_eq!(contents(&forks[1].crashed(Crash::LoseUnsynced)), b"two");
    assert_eq!(contents(&filesystem), b"3wo", "the first goes on");
}

#[test]
fn what_happens_on_a_fork_stays_there() {
    let filesystem = FaultyFilesystem::new();
    let file = filesystem.create_new(Path::new(NAME)).unwrap();
    file.write_all_at(b"one", 0).unwrap();
    let fork = filesystem.fork().crashed(Crash::KeepUnsynced);
    let other = fork.open_read_write(Path::new(NAME)).unwrap();
    other.write_all_at(b"X", 0).unwrap();
    fork.remove_file(Path::new(NAME)).unwrap();
    file.write_all_at(b"Y", 1).unwrap();
    assert_eq!(contents(&filesystem), b"oYe");
}

#[test]
fn a_sync_that_lies_loses_nothing_unless_the_power_goes_before_an_honest_one() {
    for honest in [false, true] {
        let filesystem = FaultyFilesystem::new();
        let file = filesystem.create_new(Path::new(NAME)).unwrap();
        filesystem.sync_dir(Path::new("/")).unwrap();
        file.write_all_at(b"abc", 0).unwrap();
        filesystem.fail_nth(Operation::Sync, 1, Fault::Lie);
        file.sync_data().unwrap();
        assert_eq!(filesystem.take_lies(), [PathBuf::from(NAME)]);
        assert!(filesystem.take_lies().is_empty(), "told once");
        if honest {
            file.sync_data().unwrap();
        }
        filesystem.crash(Crash::LoseUnsynced);
        assert_eq!(
            contents(&filesystem),
            if honest { &b"abc"[..] } else { b"" }
        );
    }
}

#[test]
fn a_directory_that_lies_forgets_its_names() {
    let filesystem = FaultyFilesystem::new();
    drop(filesystem.create_new(Path::new(NAME)).unwrap());
    filesystem.fail_nth(Operation::SyncDir, 1, Fault::Lie);
    filesystem.sync_dir(Path::new("/")).unwrap();
    filesystem.crash(Crash::LoseUnsynced);
    assert!(!filesystem.exists(Path::new(NAME)).unwrap());
}
