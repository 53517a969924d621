//! Reads the log from another process, without a lock, while it is written and its files are
//! released and recycled.
//!
//! Behind what the log itself says is synced, the first frame that is not whole ends its file: the
//! writer may be at work there. Before that it is damage, and is passed. A file that is recycled
//! under the reader changes its generation, so its frames stop being whole; what was read before is
//! genuine, since the generation is part of each frame's checksum. Pieces that are missing for this
//! reason were released, so the table has them; the caller finds that out by looking at the table
//! afterwards.

use std::io;
use std::path::Path;
use std::sync::Arc;

use penstock_disk::{File, Filesystem};
use penstock_model::{LaneId, Payload, Position};

use crate::error::{Context, LogError};
use crate::format::BLOCK;
use crate::names::{DAMAGED, FileName, log_path, parse_damaged};
use crate::repair::synced_mark;
use crate::scan::{BadRange, Bounds, FrameBlock, Identity, LiveFile, Piece, Scanner, identify};

/// A record seen in the log; not necessarily synced yet.
#[derive(Clone, Debug)]
pub struct TailRecord {
    pub lane: LaneId,
    pub position: Position,
    pub context: Vec<u8>,
    /// Shares the bytes of its whole commit group.
    pub payload: Payload,
}

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct TailReport {
    /// Lane, first and last position of what was read, in order. Passed positions count as read, so
    /// two spans with nothing missing between them touch.
    pub spans: Vec<(LaneId, Position, Position)>,
    /// Positions without a record for a known reason: given up, cut, or kept aside as damaged.
    pub passed: Vec<(Position, Position)>,
    /// Sentences that name bytes which can't be read, and which no opening has reported yet.
    pub damage: Vec<String>,
}

/// Reads all records in the log at `directory`, in order, one commit group at a time.
///
/// `above` says of a record whether it is wanted; others count as read. An error of `on_record`
/// ends the reading.
pub fn read_tail(
    filesystem: &dyn Filesystem,
    directory: &Path,
    above: &dyn Fn(LaneId, Position) -> bool,
    on_record: &mut dyn FnMut(TailRecord) -> io::Result<()>,
) -> Result<TailReport, LogError> {
    let mut tail = Tail {
        above,
        on_record,
        known: known_damage(filesystem, directory)?,
        report: TailReport::default(),
    };
    let files = live_files(filesystem, directory)?;
    for (index, (sequence, file, live)) in files.iter().enumerate() {
        let next = files.get(index + 1).map(|(_, _, next)| next);
        let expected = next
            .filter(|next| next.header_whole)
            .map(|next| next.previous);
        let path = log_path(directory, *sequence);
        tail.read_file(file, *sequence, live, expected)
            .context("read", &path)?;
    }
    Ok(tail.report)
}

fn known_damage(
    filesystem: &dyn Filesystem,
    directory: &Path,
) -> Result<Vec<(Position, Position)>, LogError> {
    let aside = directory.join(DAMAGED);
    if !filesystem.exists(&aside).context("read", &aside)? {
        return Ok(Vec::new());
    }
    let names = filesystem.read_dir(&aside).context("list", &aside)?;
    let mut known: Vec<_> = names
        .iter()
        .filter_map(|name| parse_damaged(name))
        .collect();
    known.sort_unstable();
    Ok(known)
}

type OpenFile = (u64, Arc<dyn File>, LiveFile);

fn live_files(filesystem: &dyn Filesystem, directory: &Path) -> Result<Vec<OpenFile>, LogError> {
    let mut files = Vec::new();
    for name in filesystem.read_dir(directory).context("list", directory)? {
        let Some(FileName::Log(sequence)) = FileName::parse(&name) else {
            continue;
        };
        let path = directory.join(name);
        let file = match filesystem.open_read(&path) {
            Ok(file) => file,
            // Released since the directory was read.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(LogError::new("open", &path, error)),
        };
        match identify(&*file, sequence).context("read", &path)? {
            Identity::Live(live) => files.push((sequence, file, live)),
            Identity::Released | Identity::Blank => {}
            Identity::Newer { .. } => {
                let error = io::Error::new(io::ErrorKind::Unsupported, "newer log format");
                return Err(LogError::new("read", &path, error));
            }
        }
    }
    files.sort_by_key(|(sequence, _, _)| *sequence);
    Ok(files)
}

struct Tail<'a> {
    above: &'a dyn Fn(LaneId, Position) -> bool,
    on_record: &'a mut dyn FnMut(TailRecord) -> io::Result<()>,
    known: Vec<(Position, Position)>,
    report: TailReport,
}

impl Tail<'_> {
    fn read_file(
        &mut self,
        file: &Arc<dyn File>,
        sequence: u64,
        live: &LiveFile,
        expected: Option<Position>,
    ) -> io::Result<()> {
        let (number, generation) = (live.sequence, live.generation);
        let mut scanner = Scanner::new(Arc::clone(file), number, generation, BLOCK, live.previous);
        // What is known to be synced was written before this looks: bad bytes in it are no write
        // under way. Of the last file only its own groups say how far that goes.
        let synced = expected.map_or_else(|| synced_mark(&**file, live), Ok)?;
        let bounds = Bounds {
            end: file.len()?,
            expected,
            synced,
        };
        let mut bad_ranges = Vec::new();
        loop {
            match scanner.next(bounds)? {
                Piece::Frames(block) => self.take_frames(live.lane, &block)?,
                Piece::Bad(bad) => bad_ranges.push(bad),
                Piece::End(_) => break,
            }
        }
        if bad_ranges.is_empty() {
            return Ok(());
        }
        // Missing bytes of a file that is no longer in the log mean nothing.
        let same = matches!(
            identify(&**file, sequence)?,
            Identity::Live(again) if again.generation == live.generation
        );
        if same {
            for bad in bad_ranges {
                self.note_damage(sequence, bad);
            }
        }
        Ok(())
    }

    fn take_frames(&mut self, lane: LaneId, block: &FrameBlock) -> io::Result<()> {
        for frame in &block.frames {
            self.join(lane, frame.previous, frame.position);
            if (self.above)(lane, frame.position) {
                (self.on_record)(TailRecord {
                    lane,
                    position: frame.position,
                    context: block.bytes.as_slice()[frame.context.clone()].to_vec(),
                    payload: block.bytes.slice(frame.payload.clone()),
                })?;
            }
        }
        Ok(())
    }

    /// Adds a record, and the passed positions before it, to what was read.
    fn join(&mut self, lane: LaneId, previous: Position, position: Position) {
        let mut first = previous.next();
        if first < position {
            self.report.passed.push((first, position.previous()));
        }
        if let Some((last_lane, _, last)) = self.report.spans.last_mut() {
            let reached = known_up_to(&self.known, *last);
            if reached >= previous {
                if previous > *last {
                    self.report.passed.push((last.next(), previous));
                    first = last.next();
                }
                if *last_lane == lane {
                    *last = position;
                    return;
                }
            }
        }
        self.report.spans.push((lane, first, position));
    }

    fn note_damage(&mut self, sequence: u64, bad: BadRange) {
        if known_up_to(&self.known, bad.after) >= bad.last {
            return;
        }
        self.report.damage.push(format!(
            "log file {sequence}: bytes {} to {} can't be read, records {} to {}",
            bad.start,
            bad.end,
            bad.after.next(),
            bad.last
        ));
    }
}

/// How far known damage reaches without a hole behind `last`.
fn known_up_to(known: &[(Position, Position)], last: Position) -> Position {
    known.iter().fold(last, |reached, (first, end)| {
        if *first <= reached.next() {
            reached.max(*end)
        } else {
            reached
        }
    })
}
