//! The note beside the log: what the tables had passed when a file of it was last let go
//! (`python/penstock/table/note.py`).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use penstock_segment::TableKind;

use super::table::Table;

/// What the note says of one table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TableNote {
    /// Entries that were synced.
    pub(super) versions: u64,
    pub(super) txns: BTreeMap<String, u64>,
}

pub(super) fn write(tables: &[Table]) -> Vec<u8> {
    let mut text = String::new();
    for table in tables {
        let (name, note) = (table.kind.name(), table.note());
        writeln!(text, "{name} {}", note.versions).unwrap();
        for (lane, position) in note.txns {
            writeln!(text, "{name} {lane} {position}").unwrap();
        }
    }
    text.into_bytes()
}

pub(super) fn read(bytes: &[u8], kind: TableKind) -> TableNote {
    let mut note = TableNote::default();
    for line in String::from_utf8_lossy(bytes).lines() {
        match line.split(' ').collect::<Vec<_>>()[..] {
            [name, versions] if name == kind.name() => note.versions = versions.parse().unwrap(),
            [name, lane, position] if name == kind.name() => {
                note.txns.insert(lane.to_owned(), position.parse().unwrap());
            }
            _ => {}
        }
    }
    note
}
