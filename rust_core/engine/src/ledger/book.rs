//! What all records up to one position came to, by project, and its file.
//!
//! Layout of the file, little endian, version 1:
//!
//! | bytes | what |
//! |---|---|
//! | 4 | `PSLG` |
//! | 1 | version of this layout |
//! | 8 | position behind which counting began |
//! | 8 | position up to which it reaches |
//! | 4 | number of projects |
//! | each 2 + n, 12 × 8 | project; accepted, duplicate, rejected of events, of recordings, and of what was set aside of both |
//! | 4 | CRC-32C of all that |

use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::sync::Arc;

use penstock_model::Position;
use penstock_segment::TableKind;

const MAGIC: [u8; 4] = *b"PSLG";
const LAYOUT_VERSION: u8 = 1;

/// Projects that are told apart; the rest share a line without a name. Names are at most 200 bytes, so
/// this is a file of 3 MB, and ten times what a server takes of unnamed ones by default.
pub(super) const MAX_PROJECTS: usize = 10_000;

/// Events by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub accepted: u64,
    pub duplicates: u64,
    pub rejected: u64,
}

impl Counts {
    /// How many events of each outcome one has and the other has not, added up.
    pub(super) const fn distance(self, other: Self) -> u64 {
        self.accepted
            .abs_diff(other.accepted)
            .saturating_add(self.duplicates.abs_diff(other.duplicates))
            .saturating_add(self.rejected.abs_diff(other.rejected))
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.accepted = self.accepted.saturating_add(other.accepted);
        self.duplicates = self.duplicates.saturating_add(other.duplicates);
        self.rejected = self.rejected.saturating_add(other.rejected);
    }
}

/// What was received for a project.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// By endpoints of events, with what is in quarantine.
    pub events: Counts,
    /// By endpoints of recordings, likewise.
    pub recordings: Counts,
    /// Of `events`, those whose records went to quarantine.
    pub events_aside: Counts,
    /// Of `recordings`, likewise.
    pub recordings_aside: Counts,
}

impl Entry {
    /// All that was received.
    pub fn received(&self) -> Counts {
        let mut counts = self.events;
        counts += self.recordings;
        counts
    }

    /// All that went to quarantine.
    pub fn aside(&self) -> Counts {
        let mut counts = self.events_aside;
        counts += self.recordings_aside;
        counts
    }

    /// Accepted for the table of recordings; of these, in quarantine.
    pub const fn accepted_recordings(&self) -> (u64, u64) {
        (self.recordings.accepted, self.recordings_aside.accepted)
    }

    pub(super) fn add(&mut self, table: TableKind, counts: Counts, aside: bool) {
        let (received, set_aside) = if table == TableKind::Recordings {
            (&mut self.recordings, &mut self.recordings_aside)
        } else {
            (&mut self.events, &mut self.events_aside)
        };
        *received += counts;
        if aside {
            *set_aside += counts;
        }
    }

    const fn parts(&self) -> [Counts; 4] {
        [
            self.events,
            self.recordings,
            self.events_aside,
            self.recordings_aside,
        ]
    }
}

impl AddAssign for Entry {
    fn add_assign(&mut self, other: Self) {
        self.events += other.events;
        self.recordings += other.recordings;
        self.events_aside += other.events_aside;
        self.recordings_aside += other.recordings_aside;
    }
}

/// The book; see the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Book {
    /// Records up to here were never counted: the ledger is younger than the log.
    pub(crate) since: Position,
    pub(crate) as_of: Position,
    pub(crate) projects: BTreeMap<Arc<str>, Entry>,
    /// Over all projects.
    pub(crate) total: Entry,
}

impl Book {
    /// An empty book that counts what comes behind `since`.
    pub(crate) fn begun(since: Position) -> Self {
        Self {
            since,
            as_of: since,
            ..Self::default()
        }
    }

    pub(crate) fn add(&mut self, project: &str, entry: &Entry) {
        self.total += *entry;
        if let Some(known) = self.projects.get_mut(project) {
            *known += *entry;
            return;
        }
        let name = if self.projects.len() < MAX_PROJECTS {
            project
        } else {
            ""
        };
        *self.projects.entry(Arc::from(name)).or_default() += *entry;
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(32 + 160 * self.projects.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.push(LAYOUT_VERSION);
        bytes.extend_from_slice(&self.since.get().to_le_bytes());
        bytes.extend_from_slice(&self.as_of.get().to_le_bytes());
        let named = self
            .projects
            .iter()
            .filter_map(|(name, entry)| Some((name, u16::try_from(name.len()).ok()?, entry)));
        let count = u32::try_from(named.clone().count()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&count.to_le_bytes());
        for (name, len, entry) in named {
            bytes.extend_from_slice(&len.to_le_bytes());
            bytes.extend_from_slice(name.as_bytes());
            for counts in entry.parts() {
                for number in [counts.accepted, counts.duplicates, counts.rejected] {
                    bytes.extend_from_slice(&number.to_le_bytes());
                }
            }
        }
        let checksum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads a book; `None` if it is damaged or of another layout.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, checksum) = bytes.split_last_chunk::<4>()?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*checksum) {
            return None;
        }
        let mut rest = body;
        if take::<4>(&mut rest)? != MAGIC || take::<1>(&mut rest)? != [LAYOUT_VERSION] {
            return None;
        }
        let since = Position::new(u64::from_le_bytes(take(&mut rest)?));
        let mut book = Self::begun(since);
        book.as_of = Position::new(u64::from_le_bytes(take(&mut rest)?));
        for _ in 0..u32::from_le_bytes(take(&mut rest)?) {
            let len = u16::from_le_bytes(take(&mut rest)?);
            let (name, behind) = rest.split_at_checked(len.into())?;
            rest = behind;
            let entry = Entry {
                events: take_counts(&mut rest)?,
                recordings: take_counts(&mut rest)?,
                events_aside: take_counts(&mut rest)?,
                recordings_aside: take_counts(&mut rest)?,
            };
            book.total += entry;
            book.projects
                .insert(Arc::from(str::from_utf8(name).ok()?), entry);
        }
        rest.is_empty().then_some(book)
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, behind) = rest.split_first_chunk::<N>()?;
    *rest = behind;
    Some(*head)
}

fn take_counts(rest: &mut &[u8]) -> Option<Counts> {
    Some(Counts {
        accepted: u64::from_le_bytes(take(rest)?),
        duplicates: u64::from_le_bytes(take(rest)?),
        rejected: u64::from_le_bytes(take(rest)?),
    })
}
