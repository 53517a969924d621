//! Operations that fail on purpose.

use std::path::Path;

use crate::{Crash, Fault, FaultyFilesystem, Filesystem, Operation, is_disk_full};

#[test]
fn the_nth_operation_fails_once() {
    let filesystem = FaultyFilesystem::new();
    let file = filesystem.create_new(Path::new("/file")).unwrap();
    filesystem.fail_nth(Operation::Write, 2, Fault::Io);
    file.write_all_at(b"1", 0).unwrap();
    let error = file.write_all_at(b"2", 1).unwrap_err();
    assert!(!is_disk_full(&error));
    file.write_all_at(b"3", 2).unwrap();
}

#[test]
fn a_short_write_stores_its_beginning() {
    let filesystem = FaultyFilesystem::new();
    let file = filesystem.create_new(Path::new("/file")).unwrap();
    filesystem.fail_nth(Operation::Write, 1, Fault::Short { bytes: 2 });
    assert!(is_disk_full(&file.write_all_at(b"abcd", 0).unwrap_err()));
    assert_eq!(file.len().unwrap(), 2);
}

#[test]
fn a_failed_sync_loses_the_writes_even_if_the_next_one_succeeds() {
    let filesystem = FaultyFilesystem::new();
    let file = filesystem.create_new(Path::new("/file")).unwrap();
    filesystem.sync_dir(Path::new("/")).unwrap();
    file.write_all_at(b"abcd", 0).unwrap();
    filesystem.fail_nth(Operation::Sync, 1, Fault::Io);
    assert!(file.sync_data().is_err());
    file.sync_data().unwrap();
    assert_eq!(file.len().unwrap(), 4, "still in the page cache");
    filesystem.crash(Crash::LoseUnsynced);
    assert_eq!(filesystem.len(Path::new("/file")).unwrap(), 0);
}

#[test]
fn a_full_disk_refuses_growth_and_nothing_else() {
    let filesystem = FaultyFilesystem::new();
    let file = filesystem.create_new(Path::new("/file")).unwrap();
    file.write_all_at(b"abcd", 0).unwrap();
    filesystem.set_capacity_bytes(Some(6));
    assert_eq!(filesystem.free_bytes(Path::new("/")).unwrap(), 2);
    assert!(is_disk_full(&file.allocate(7).unwrap_err()));
    assert!(is_disk_full(&file.write_all_at(b"xyz", 4).unwrap_err()));
    file.write_all_at(b"xy", 4).unwrap();
    file.write_all_at(b"ABCD", 0).unwrap();
    filesystem.remove_file(Path::new("/file")).unwrap();
    assert_eq!(filesystem.free_bytes(Path::new("/")).unwrap(), 6);
}

#[test]
fn faults_strike_until_they_are_healed() {
    let filesystem = FaultyFilesystem::new();
    filesystem.fail_all(Operation::Create, Fault::DiskFull);
    for _ in 0..3 {
        assert!(filesystem.create_new(Path::new("/file")).is_err());
    }
    filesystem.heal();
    filesystem.create_new(Path::new("/file")).unwrap();
}

#[test]
fn flipped_bits_survive_and_are_not_noticed() {
    let filesystem = FaultyFilesystem::new();
    let file = filesystem.create_new(Path::new("/file")).unwrap();
    file.write_all_at(b"a", 0).unwrap();
    filesystem.flip(Path::new("/file"), 0, 3);
    filesystem.flip(Path::new("/file"), 100, 3);
    let mut buffer = [0];
    file.read_exact_at(&mut buffer, 0).unwrap();
    assert_eq!(&buffer, b"b");
}
