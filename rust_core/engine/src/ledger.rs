//! The ledger: every event that was received is accounted for.
//!
//! Events received = accepted + duplicates + rejected; of these, what waits in the log + what the
//! tables have + what is in quarantine. The truth about the first is the context of each record, so
//! nothing is counted that a crash could lose: the book says what all records up to one position
//! came to, the log has the others. The book is synced before a file of the log goes, and once a
//! record is in quarantine; at a start the records behind it are counted again as they are built.
//!
//! Two things are compared while the service runs, each counted on its own:
//!
//! - what the sink saw synced, and what the background was given to build;
//! - what a cut's records should have in the tables, by project, and the rows of its files.
//!
//! A difference is a bug or a loss: an alarm, and nothing else hangs on it.

mod book;
mod read;

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use penstock_disk::Filesystem;
use penstock_model::{Endpoint, LaneId, Position};
use penstock_segment::{ByTable, SegmentFile, TableKind};
use penstock_wal::LaneSpan;

pub(crate) use book::Book;
pub use book::{Counts, Entry};
pub use read::{LedgerLine, LedgerRead, read_ledger};

use crate::directory::{self, Layout};
use crate::journal::{Journal, LogLevel};
use crate::metrics::{gauge, header, line};
use crate::quarantine;
use crate::record::StoredContext;

/// Partition column whose value is the project.
const PROJECT_COLUMN: &str = "project";

/// What one record came to.
#[derive(Clone, Debug)]
pub(crate) struct Noted {
    pub(crate) project: Arc<str>,
    pub(crate) endpoint: Endpoint,
    pub(crate) counts: Counts,
    /// Tables that get its rows now; the others have them. `None`: it is in quarantine.
    pub(crate) tables: Option<ByTable<bool>>,
}

impl Noted {
    /// Whether a table gets a row of it now.
    pub(crate) fn has_rows(&self) -> bool {
        let counts = self.counts;
        self.tables.is_some_and(|tables| {
            (tables[TableKind::of_accepted(self.endpoint)] && counts.accepted > 0)
                || (tables[TableKind::Rejected] && counts.rejected > 0)
        })
    }

    /// What a record that was read from the log comes to.
    pub(crate) fn of(stored: &StoredContext, tables: Option<ByTable<bool>>) -> Self {
        Self {
            project: Arc::from(stored.project.as_str()),
            endpoint: stored.request.endpoint,
            counts: stored.counts(),
            tables,
        }
    }
}

/// What the records of one cut came to.
#[derive(Clone, Debug, Default)]
pub(crate) struct CutTally {
    entries: BTreeMap<Arc<str>, Entry>,
    /// Rows that its files must have. `rejected` is not parted by project.
    rows: BTreeMap<(TableKind, Arc<str>), u64>,
    aside: bool,
}

impl CutTally {
    /// Counts a record. One that the book had when it was opened (`booked`) is not entered again.
    pub(crate) fn add(&mut self, noted: &Noted, booked: bool) {
        let counts = noted.counts;
        let accepted_table = TableKind::of_accepted(noted.endpoint);
        if let Some(tables) = noted.tables {
            for (table, rows) in [
                (accepted_table, counts.accepted),
                (TableKind::Rejected, counts.rejected),
            ] {
                if tables[table] && rows > 0 {
                    let project = if table == TableKind::Rejected {
                        Arc::from("")
                    } else {
                        Arc::clone(&noted.project)
                    };
                    *self.rows.entry((table, project)).or_default() += rows;
                }
            }
        }
        if !booked {
            let aside = noted.tables.is_none();
            self.aside |= aside;
            self.entries
                .entry(Arc::clone(&noted.project))
                .or_default()
                .add(accepted_table, counts, aside);
        }
    }

    /// Whether a record of the cut went to quarantine.
    pub(crate) const fn has_aside(&self) -> bool {
        self.aside
    }

    /// By how many rows the files of the cut differ from what its records say.
    pub(crate) fn difference(&self, files: &[SegmentFile]) -> u64 {
        let mut left: BTreeMap<(TableKind, &str), i128> = BTreeMap::new();
        for ((table, project), rows) in &self.rows {
            *left.entry((*table, project)).or_default() += i128::from(*rows);
        }
        for file in files {
            let mut columns = file.partition.iter();
            let project = match columns.find(|(name, _)| name == PROJECT_COLUMN) {
                Some((_, project)) if file.table != TableKind::Rejected => project.as_str(),
                _ => "",
            };
            *left.entry((file.table, project)).or_default() -= i128::from(file.rows);
        }
        let difference: u128 = left.values().map(|rows| rows.unsigned_abs()).sum();
        u64::try_from(difference).unwrap_or(u64::MAX)
    }
}

/// Events of all records up to a position, since this opening.
#[derive(Clone, Copy, Debug, Default)]
struct Passage {
    up_to: Position,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Inner {
    book: Book,
    synced: Passage,
    read: Passage,
    /// What was synced when it was last looked: compared once the background is there.
    mark: Option<Passage>,
    rows_difference: u64,
    log_difference: u64,
    /// Records behind the book that were in quarantine when it was opened.
    aside: HashSet<Position>,
}

/// The ledger of one engine. Locked for a few additions a commit group, record or cut.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    inner: Mutex<Inner>,
}

impl Ledger {
    /// Begins with the book as it was found, the log's last position, and its records that are in
    /// quarantine.
    pub(crate) fn begin(&self, book: Book, durable: Position, mut aside: HashSet<Position>) {
        aside.retain(|position| *position > book.as_of);
        let passage = Passage {
            up_to: durable,
            counts: Counts::default(),
        };
        *self.inner.lock() = Inner {
            book,
            synced: passage,
            read: passage,
            aside,
            ..Inner::default()
        };
    }

    /// The position up to which the book counts.
    pub(crate) fn as_of(&self) -> Position {
        self.inner.lock().book.as_of
    }

    /// Whether a record is in quarantine since before this opening. One that all tables have passed
    /// is not set aside again, so nothing else tells.
    pub(crate) fn was_set_aside(&self, position: Position) -> bool {
        self.inner.lock().aside.contains(&position)
    }

    /// Counts the events of a synced group, whose last record stands at `up_to`.
    pub(crate) fn synced(&self, up_to: Position, counts: Counts) {
        let synced = &mut self.inner.lock().synced;
        synced.up_to = synced.up_to.max(up_to);
        synced.counts += counts;
    }

    /// Counts what the background found at `position` (nothing where there is no record), and
    /// compares when it is where the sink was. A record that is built again is not counted again.
    pub(crate) fn read(&self, position: Position, counts: Counts, journal: &Journal) {
        let mut inner = self.inner.lock();
        if position <= inner.read.up_to {
            return;
        }
        // What lies between is passed: the mark may stand there.
        if let Some(mark) = inner.mark.take_if(|mark| mark.up_to < position) {
            inner.compare(mark, journal);
        }
        inner.read.up_to = position;
        inner.read.counts += counts;
        if inner.mark.is_none() && inner.synced.up_to >= position {
            inner.mark = Some(inner.synced);
        }
        if let Some(mark) = inner.mark.take_if(|mark| mark.up_to == position) {
            inner.compare(mark, journal);
        }
    }

    /// Compares the files of a cut with what its records say.
    pub(crate) fn cut_made(&self, tally: &CutTally, files: &[SegmentFile], journal: &Journal) {
        let difference = tally.difference(files);
        if difference > 0 {
            let mut inner = self.inner.lock();
            let before = inner.difference();
            inner.rows_difference = inner.rows_difference.saturating_add(difference);
            inner.tell(before, "rows", journal);
        }
    }

    /// Enters a cut whose commits are durable. The same one again changes nothing.
    pub(crate) fn enter(&self, position: Position, tally: &CutTally) {
        let book = &mut self.inner.lock().book;
        // A cut below the book has nothing for it: its records were not noted.
        if position > book.as_of {
            book.as_of = position;
            for (project, entry) in &tally.entries {
                book.add(project, entry);
            }
        }
    }

    /// Publishes the book. Durability: synced on `Ok`.
    pub(crate) fn write(&self, filesystem: &dyn Filesystem, layout: &Layout) -> io::Result<()> {
        let bytes = self.inner.lock().book.encode();
        directory::write_ledger(filesystem, layout, &bytes)
    }

    /// Everything in the book, and by how much something differs.
    #[cfg(test)]
    pub(crate) fn look(&self) -> (Entry, u64) {
        let inner = self.inner.lock();
        (inner.book.total, inner.difference())
    }

    /// Appends the metrics to `out`.
    pub(crate) fn write_text(&self, out: &mut String) {
        let (total, difference) = {
            let inner = self.inner.lock();
            (inner.book.total, inner.difference())
        };
        let name = "penstock_ledger_events";
        header(
            out,
            name,
            "Events of all committed cuts, over restarts, by outcome.",
            "gauge",
        );
        let all = total.received();
        for (outcome, count) in [
            ("accepted", all.accepted),
            ("duplicate", all.duplicates),
            ("rejected", all.rejected),
        ] {
            line(out, name, &[("outcome", outcome)], count);
        }
        gauge(
            out,
            "penstock_ledger_quarantined_events",
            "Accepted events of these whose records were set aside instead.",
            total.aside().accepted,
        );
        gauge(
            out,
            "penstock_ledger_difference_events",
            "Events and rows since the start that are not where they should be: an alarm.",
            difference,
        );
    }
}

impl Inner {
    fn compare(&mut self, mark: Passage, journal: &Journal) {
        let before = self.difference();
        self.log_difference = mark.counts.distance(self.read.counts);
        self.tell(before, "log", journal);
    }

    const fn difference(&self) -> u64 {
        self.rows_difference.saturating_add(self.log_difference)
    }

    fn tell(&self, before: u64, place: &str, journal: &Journal) {
        let now = self.difference();
        if now > before {
            journal.add(
                LogLevel::Error,
                "ledger_difference",
                vec![
                    ("between", place.to_owned()),
                    ("events", now.to_string()),
                    ("position", self.read.up_to.to_string()),
                ],
            );
        }
    }
}

/// The records of a log that are in quarantine.
pub(crate) fn set_aside(
    filesystem: &dyn Filesystem,
    layout: &Layout,
    spans: &[LaneSpan],
) -> io::Result<HashSet<Position>> {
    let found = quarantine::positions(filesystem, layout)?;
    let in_log = |(lane, position): &(LaneId, Position)| {
        let mut spans = spans.iter();
        spans.any(|span| span.lane == *lane && (span.first..=span.last).contains(position))
    };
    Ok(found
        .into_iter()
        .filter(in_log)
        .map(|(_, position)| position)
        .collect())
}

/// Reads the book of a data directory whose log goes on at `next`, with records from `first`.
///
/// One that can't be read, or is of another log, is begun anew: events matter more than their count.
pub(crate) fn open_book(
    filesystem: &dyn Filesystem,
    layout: &Layout,
    first: Position,
    next: Position,
    journal: &Journal,
) -> io::Result<Book> {
    let anew = || Book::begun(first.previous());
    let Some(bytes) = directory::read_ledger(filesystem, layout)? else {
        return Ok(anew());
    };
    let reason = match Book::decode(&bytes) {
        Some(book) if book.as_of < next => return Ok(book),
        Some(_) => "it is of another log",
        None => "it is damaged or of another release",
    };
    let began = first.to_string();
    let fields = vec![("reason", reason.to_owned()), ("from_position", began)];
    journal.add(LogLevel::Error, "ledger_begun_anew", fields);
    Ok(anew())
}

#[cfg(test)]
mod tests;
