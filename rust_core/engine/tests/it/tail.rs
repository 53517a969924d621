//! What a query's process reads of a log that is in use.

use std::collections::HashMap;

use penstock_engine::{TableKind, read_tail};

use crate::support::{Opened, batch, options, uuid};

#[test]
fn the_tail_holds_every_acknowledged_record_above_what_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let out = tempfile::tempdir().unwrap();
    let opened = Opened::open(options(folder.path())).started();
    for number in 0..10 {
        opened.stored(&batch(&[&uuid(number)]));
    }
    let read = read_tail(folder.path(), out.path(), &HashMap::new(), 1 << 20).unwrap();
    assert!(read.damage.is_empty(), "{:?}", read.damage);
    let (lane, first, last) = opened.engine.lanes()[0];
    assert_eq!(read.spans, vec![(lane, first, last)]);
    assert_eq!(read.files.len(), 1);
    assert_eq!(read.files[0].0, TableKind::Events);
    assert!(read.files[0].1.exists());
}

#[test]
fn a_directory_without_a_log_has_an_empty_tail() {
    let folder = tempfile::tempdir().unwrap();
    let out = tempfile::tempdir().unwrap();
    let read = read_tail(folder.path(), out.path(), &HashMap::new(), 1 << 20).unwrap();
    assert!(read.files.is_empty() && read.spans.is_empty());
}
