//! What every file system does, as long as nothing fails.

use std::ffi::OsStr;
use std::io::{ErrorKind, IoSlice, Write};
use std::path::Path;
use std::sync::Arc;

use crate::filesystem::PIECE_BYTES;
use crate::{
    Crash, Fault, FaultyFilesystem, Filesystem, FilesystemKind, Operation, RealFilesystem,
    SequentialWriter,
};

/// Runs a test on both file systems, in an empty directory.
fn on_both(test: impl Fn(&dyn Filesystem, &Path)) {
    let folder = tempfile::tempdir().unwrap();
    test(&RealFilesystem, folder.path());
    let faulty = FaultyFilesystem::new();
    faulty.create_dir(Path::new("/folder")).unwrap();
    test(&faulty, Path::new("/folder"));
}

#[test]
fn what_is_written_is_read() {
    on_both(|filesystem, folder| {
        let path = folder.join("file");
        let file = filesystem.create_new(&path).unwrap();
        file.write_all_vectored_at(
            &[IoSlice::new(b"ab"), IoSlice::new(b""), IoSlice::new(b"c")],
            2,
        )
        .unwrap();
        file.sync_data().unwrap();
        let file = filesystem.open_read(&path).unwrap();
        let mut buffer = [9; 8];
        assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 5);
        assert_eq!(&buffer[..5], b"\0\0abc");
        assert_eq!(file.read_at(&mut buffer, 5).unwrap(), 0);
        let short = file.read_exact_at(&mut buffer, 0).unwrap_err();
        assert_eq!(short.kind(), ErrorKind::UnexpectedEof);
        assert_eq!(filesystem.len(&path).unwrap(), 5);
        assert!(!file.is_empty().unwrap());
        assert!(file.write_all_at(b"x", 0).is_err(), "opened for reading");
    });
}

#[test]
fn a_directory_may_be_named_with_its_separator() {
    on_both(|filesystem, folder| {
        let directory = folder.join("below").join("");
        filesystem.create_dir(&directory).unwrap();
        filesystem.create_new(&directory.join("file")).unwrap();
        filesystem.sync_dir(&directory).unwrap();
        for name in [folder.join("below"), directory] {
            assert!(filesystem.exists(&name).unwrap());
            assert_eq!(filesystem.read_dir(&name).unwrap(), ["file"]);
        }
    });
}

#[test]
fn more_slices_than_the_kernel_takes_are_written() {
    on_both(|filesystem, folder| {
        let file = filesystem.create_new(&folder.join("file")).unwrap();
        let parts: Vec<Vec<u8>> = (0..3000_u32).map(|at| at.to_le_bytes().to_vec()).collect();
        let slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
        file.write_all_vectored_at(&slices, 1).unwrap();
        let mut buffer = vec![0; 12_000];
        file.read_exact_at(&mut buffer, 1).unwrap();
        assert_eq!(buffer, parts.concat());
    });
}

#[test]
fn allocated_bytes_are_zero_and_what_was_there_stays() {
    on_both(|filesystem, folder| {
        let file = filesystem.create_new(&folder.join("file")).unwrap();
        file.write_all_at(b"abc", 0).unwrap();
        file.allocate(10_000).unwrap();
        assert_eq!(file.len().unwrap(), 10_000);
        file.allocate(5).unwrap();
        assert_eq!(file.len().unwrap(), 10_000);
        let mut buffer = [1; 6];
        file.read_exact_at(&mut buffer, 0).unwrap();
        assert_eq!(&buffer, b"abc\0\0\0");
        file.set_len(2).unwrap();
        assert_eq!(file.len().unwrap(), 2);
    });
}

#[test]
fn names_behave() {
    on_both(|filesystem, folder| {
        let (one, two) = (folder.join("1"), folder.join("2"));
        drop(filesystem.create_new(&one).unwrap());
        assert_eq!(
            filesystem.create_new(&one).unwrap_err().kind(),
            ErrorKind::AlreadyExists
        );
        assert_eq!(
            filesystem.open_read(&two).unwrap_err().kind(),
            ErrorKind::NotFound
        );
        filesystem.rename(&one, &two).unwrap();
        assert!(!filesystem.exists(&one).unwrap());
        drop(filesystem.create_new(&one).unwrap());
        assert_eq!(filesystem.read_dir(folder).unwrap(), ["1", "2"]);
        filesystem.remove_file(&one).unwrap();
        assert_eq!(
            filesystem.remove_file(&one).unwrap_err().kind(),
            ErrorKind::NotFound
        );
        filesystem.sync_dir(folder).unwrap();
        assert!(filesystem.read_dir(&folder.join("none")).is_err());
    });
}

#[test]
fn missing_levels_of_a_directory_are_made() {
    on_both(|filesystem, folder| {
        let deep = folder.join("a/b/c");
        filesystem.create_dir_synced(&deep).unwrap();
        assert!(filesystem.exists(&deep).unwrap());
        filesystem.create_dir_synced(&deep).unwrap();
    });
}

#[test]
fn publishing_replaces_the_whole_file() {
    on_both(|filesystem, folder| {
        for bytes in [&b"first"[..], b"2nd"] {
            filesystem
                .publish(folder, OsStr::new("note"), bytes)
                .unwrap();
            let file = filesystem.open_read(&folder.join("note")).unwrap();
            let mut buffer = vec![0; 10];
            let count = file.read_at(&mut buffer, 0).unwrap();
            assert_eq!(&buffer[..count], bytes);
        }
        assert_eq!(filesystem.read_dir(folder).unwrap(), ["note"]);
    });
}

#[test]
fn a_published_secret_is_readable_to_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    on_both(|filesystem, folder| {
        for bytes in [&b"first"[..], b"2nd"] {
            filesystem
                .publish_private(folder, OsStr::new("secret"), bytes)
                .unwrap();
            let file = filesystem.open_read(&folder.join("secret")).unwrap();
            assert_eq!(file.len().unwrap(), bytes.len() as u64);
        }
        assert_eq!(filesystem.read_dir(folder).unwrap(), ["secret"]);
    });
    let folder = tempfile::tempdir().unwrap();
    RealFilesystem
        .publish_private(folder.path(), OsStr::new("secret"), b"s")
        .unwrap();
    let metadata = std::fs::metadata(folder.path().join("secret")).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_lock_excludes_until_it_is_dropped() {
    on_both(|filesystem, folder| {
        let path = folder.join("lock");
        let held = filesystem.lock_exclusive(&path).unwrap();
        assert_eq!(
            filesystem.lock_exclusive(&path).unwrap_err().kind(),
            ErrorKind::WouldBlock
        );
        drop(held);
        drop(filesystem.lock_exclusive(&path).unwrap());
    });
}

#[test]
fn a_sequential_writer_appends() {
    on_both(|filesystem, folder| {
        let file = filesystem.create_new(&folder.join("file")).unwrap();
        let mut writer = SequentialWriter::new(Arc::clone(&file));
        writer.write_all(b"ab").unwrap();
        writer.write_all(b"cd").unwrap();
        writer.flush().unwrap();
        assert_eq!(writer.written_bytes(), 4);
        let mut buffer = [0; 4];
        writer.into_file().read_exact_at(&mut buffer, 0).unwrap();
        assert_eq!(&buffer, b"abcd");
    });
}

#[test]
fn what_is_written_in_pieces_is_whole() {
    on_both(|filesystem, folder| {
        let file = filesystem.create_new(&folder.join("file")).unwrap();
        let bytes = some_bytes(3 * PIECE_BYTES + 5);
        let (head, rest) = bytes.split_at(7);
        file.write_all_paced_at(head, 0).unwrap();
        file.write_all_paced_at(rest, 7).unwrap();
        assert_eq!(file.len().unwrap(), bytes.len() as u64);
        let mut read = vec![0; bytes.len()];
        file.read_exact_at(&mut read, 0).unwrap();
        assert!(read == bytes);
    });
}

#[test]
fn each_piece_is_sent_to_the_disk_and_its_failure_told() {
    let path = Path::new("/file");
    let bytes = some_bytes(4 * PIECE_BYTES - 5);
    let piece_bytes = usize::try_from(PIECE_BYTES).unwrap();
    for nth in 1..=4 {
        let faulty = FaultyFilesystem::new();
        let mut writer = SequentialWriter::new(faulty.create_new(path).unwrap());
        faulty.sync_dir(Path::new("/")).unwrap();
        writer.write_all(&bytes[..10]).unwrap();
        faulty.fail_nth(Operation::WriteOut, nth, Fault::Io);
        let result = writer.write_all(&bytes[10..]);
        // The last piece is left to the sync.
        assert_eq!(result.is_ok(), nth == 4, "{nth}");
        let nth = usize::try_from(nth).unwrap();
        let written = faulty.contents(path).unwrap().len();
        assert_eq!(written, bytes.len().min(nth * piece_bytes));
    }
}

#[test]
fn what_was_sent_to_the_disk_is_not_durable() {
    let faulty = FaultyFilesystem::new();
    let path = Path::new("/file");
    let file = faulty.create_new(path).unwrap();
    faulty.sync_dir(Path::new("/")).unwrap();
    file.write_all_paced_at(&some_bytes(2 * PIECE_BYTES), 0)
        .unwrap();
    faulty.crash(Crash::LoseUnsynced);
    assert!(faulty.contents(path).unwrap().is_empty());
}

/// Bytes none of which is zero.
fn some_bytes(len: u64) -> Vec<u8> {
    (0..len).map(|at| at.to_le_bytes()[0] | 1).collect()
}

#[test]
fn free_space_and_kind_are_told() {
    let folder = tempfile::tempdir().unwrap();
    assert!(RealFilesystem.free_bytes(folder.path()).unwrap() > 0);
    RealFilesystem.filesystem_kind(folder.path()).unwrap();
    let faulty = FaultyFilesystem::new();
    assert_eq!(
        faulty.filesystem_kind(Path::new("/")).unwrap(),
        FilesystemKind::Memory
    );
}
