//! The ledger of a stopped, copied or running server: its book, and the log behind that.
//!
//! No lock is taken and nothing is written.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use penstock_model::{LaneId, Position};
use penstock_segment::TableKind;

use super::book::{Book, Entry};
use crate::directory::{self, Layout};
use crate::error::EngineError;
use crate::quarantine;
use crate::record;

/// Times that the book may change while the log is read. A server that lets files go writes it once
/// a cut, which takes longer than reading most logs.
const MAX_TRIES: u32 = 10;

/// What was received for one project.
#[derive(Clone, Debug, Default)]
pub struct LedgerLine {
    /// Empty: the projects beyond those that are told apart.
    pub project: String,
    /// Up to the position that was asked for.
    pub settled: Entry,
    /// Behind it.
    pub waiting: Entry,
}

/// The ledger as it was read.
#[derive(Clone, Debug, Default)]
pub struct LedgerRead {
    /// Records up to here were never counted.
    pub since: Position,
    /// The position that parts what is settled from what waits.
    pub passed: Position,
    /// By name.
    pub lines: Vec<LedgerLine>,
    /// Records whose context this release can't read: their events are in no line.
    pub unreadable_records: u64,
    /// Sentences that name what could not be read.
    pub damage: Vec<String>,
}

/// Reads the ledger below `data_directory`, of which `passed` says how far all tables are; the book
/// may know of more. Cost: reads what the log holds, and decodes no payload.
///
/// Errors: that is no data directory, or of a newer format; book or log can't be read; the book
/// changed over and over.
pub fn read_ledger(data_directory: &Path, passed: Position) -> Result<LedgerRead, EngineError> {
    let filesystem = crate::real_filesystem();
    let layout = Layout::new(data_directory);
    directory::check_existing(&*filesystem, &layout)?;
    if !filesystem.exists(&layout.wal())? {
        return Ok(LedgerRead::default());
    }
    for _ in 0..MAX_TRIES {
        let bytes = directory::read_ledger(&*filesystem, &layout)?;
        let book = match &bytes {
            Some(bytes) => Some(Book::decode(bytes).ok_or_else(unreadable)?),
            None => None,
        };
        let read = read_behind(&*filesystem, &layout, book, passed)?;
        // A file goes only after a newer book was written, so with this one all was still there.
        if directory::read_ledger(&*filesystem, &layout)? == bytes {
            return Ok(read);
        }
    }
    Err(EngineError::UnreadableRecord {
        record: "the ledger".to_owned(),
        reason: "it changes faster than the log can be read; try again".to_owned(),
    })
}

fn unreadable() -> EngineError {
    EngineError::UnreadableRecord {
        record: "the ledger".to_owned(),
        reason: "it is damaged or of another release; the next start begins it anew".to_owned(),
    }
}

fn read_behind(
    filesystem: &dyn penstock_disk::Filesystem,
    layout: &Layout,
    book: Option<Book>,
    passed: Position,
) -> Result<LedgerRead, EngineError> {
    let as_of = book.as_ref().map(|book| book.as_of);
    let passed = as_of.map_or(passed, |as_of| passed.max(as_of));
    let aside: HashSet<(LaneId, Position)> = quarantine::positions(filesystem, layout)?;
    let mut read = LedgerRead {
        passed,
        ..LedgerRead::default()
    };
    let mut lines: BTreeMap<Arc<str>, LedgerLine> = BTreeMap::new();
    let mut first = None;
    let wanted = |_: LaneId, position: Position| as_of.is_none_or(|as_of| position > as_of);
    let report = penstock_wal::read_tail(filesystem, &layout.wal(), &wanted, &mut |record| {
        first.get_or_insert(record.position);
        let Ok(stored) = record::decode(&record.context) else {
            read.unreadable_records += 1;
            return Ok(());
        };
        let line = lines.entry(Arc::from(stored.project.as_str())).or_default();
        let table = TableKind::of_accepted(stored.request.endpoint);
        let settled = record.position <= passed;
        let entry = if settled {
            &mut line.settled
        } else {
            &mut line.waiting
        };
        let set_aside = settled && aside.contains(&(record.lane, record.position));
        entry.add(table, stored.counts(), set_aside);
        Ok(())
    })
    .map_err(|error| EngineError::log(&error))?;
    read.damage = report.damage;
    read.since = match &book {
        Some(book) => book.since,
        None => first.map_or(passed, Position::previous),
    };
    for (project, entry) in book.into_iter().flat_map(|book| book.projects) {
        lines.entry(project).or_default().settled += entry;
    }
    read.lines = lines
        .into_iter()
        .map(|(project, line)| LedgerLine {
            project: project.to_string(),
            ..line
        })
        .collect();
    Ok(read)
}
