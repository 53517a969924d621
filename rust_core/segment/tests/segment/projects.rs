//! Names of projects, which strangers choose, as directories.

use std::collections::BTreeSet;
use std::path::{Component, Path};

use penstock_disk::{Filesystem, RealFilesystem};
use penstock_segment::SegmentFile;

use crate::checks::checked_file;
use crate::support::{Bench, NOON_US, accepted_at, record, refused};

fn project_of(file: &SegmentFile) -> &str {
    let (name, value) = &file.partition[0];
    assert_eq!(name, "project");
    value
}

/// Each is one directory below the table's, and reads back as it was.
#[test]
fn odd_projects_stay_inside_of_their_table_and_keep_their_names() {
    let odd_64 = "/".repeat(64);
    let projects = [
        ".",
        "..",
        "...",
        "/",
        "../..",
        "../../../etc/passwd",
        "%2F",
        "%2f",
        "%",
        "a=b",
        "=",
        "a b",
        " ",
        "a%20b",
        "日本",
        "é",
        "e\u{301}",
        "🦀",
        "12",
        "012",
        "-1",
        "1e5",
        "true",
        "null",
        "A",
        "a",
        ".hidden",
        "_delta_log",
        "project=x",
        "a\\b",
        "a\"b'c",
        "a\nb",
        "a*b?c",
        "a:b",
        "a&b#c+d",
        "\u{7f}\u{1}",
        &odd_64,
    ];
    let mut bench = Bench::partitioned();
    for (position, project) in (1..).zip(projects) {
        bench
            .append(&record(position, project, &accepted_at(&[NOON_US])))
            .unwrap();
    }
    let files = bench.builder.finish().unwrap();
    assert_eq!(files.len(), projects.len());
    let found: BTreeSet<&str> = files.iter().map(project_of).collect();
    assert_eq!(found, BTreeSet::from(projects));
    for file in &files {
        let levels: Vec<Component> = Path::new(&file.path).components().collect();
        assert_eq!(levels.len(), 3, "{}", file.path);
        assert!(
            levels
                .iter()
                .all(|level| matches!(level, Component::Normal(_))),
            "{}",
            file.path
        );
        let encoded = file
            .path
            .split('/')
            .next()
            .unwrap()
            .strip_prefix("project=")
            .unwrap();
        assert_eq!(decoded(encoded), project_of(file));
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-%".contains(&byte);
        assert!(encoded.bytes().all(plain), "{encoded}");
        checked_file(&RealFilesystem, bench.folder.path(), file);
    }
    let of_table = RealFilesystem
        .read_dir(&bench.folder.path().join("events"))
        .unwrap();
    assert_eq!(of_table.len(), projects.len(), "no two share a directory");
    assert_eq!(bench.files_on_disk().len(), projects.len());
}

/// Undoes percent-encoding as Delta's readers do.
fn decoded(text: &str) -> String {
    let mut bytes = text.bytes();
    let mut out = Vec::new();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
            let digits = std::str::from_utf8(&digits).unwrap();
            out.push(u8::from_str_radix(digits, 16).unwrap());
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).unwrap()
}

/// Hive's name for null: engines that read partition values from paths lose such a project's name.
#[test]
fn a_project_named_like_hives_null_is_encoded() {
    let mut bench = Bench::partitioned();
    let project = "__HIVE_DEFAULT_PARTITION__";
    bench
        .append(&record(1, project, &accepted_at(&[NOON_US])))
        .unwrap();
    let files = bench.builder.finish().unwrap();
    assert_eq!(project_of(&files[0]), project);
    let encoded = files[0].path.split('/').next().unwrap();
    assert!(!encoded.contains(project), "{encoded}");
    assert_eq!(decoded(encoded.strip_prefix("project=").unwrap()), project);
}

#[test]
fn a_project_that_no_directory_can_be_named_after_is_refused_and_the_cut_goes_on() {
    let mut bench = Bench::partitioned();
    // `project=` leaves 247 of 255 bytes; an odd one takes three.
    let cases = [
        ("", "segment_empty_project"),
        (&*"a".repeat(248), "segment_project_too_long"),
        (&*"/".repeat(83), "segment_project_too_long"),
    ];
    for (project, code) in cases {
        for batch in [accepted_at(&[NOON_US]), refused(1)] {
            let error = bench.append(&record(1, project, &batch)).unwrap_err();
            assert!(error.concerns_record());
            assert_eq!(error.code(), code);
        }
    }
    assert_eq!(bench.builder.rows(), 0);
    for (position, project) in (1..).zip(["a".repeat(247), "/".repeat(82)]) {
        bench
            .append(&record(position, &project, &accepted_at(&[NOON_US])))
            .unwrap();
    }
    let files = bench.builder.finish().unwrap();
    assert_eq!(files.len(), 2);
    for file in &files {
        checked_file(&RealFilesystem, bench.folder.path(), file);
    }
}
