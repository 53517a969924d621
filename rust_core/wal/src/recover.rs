//! What happens when a log is opened: everything whole is found, and made durable before anyone
//! sees it (WAL-1); what is torn is cut; what is damaged is reported and kept aside (WAL-2).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use penstock_disk::{CrashPoint, File, Filesystem};
use penstock_model::Position;

use crate::aside::{self, Kept};
use crate::error::{Context, LogError, OpenError};
use crate::format::{self, BLOCK, FRAME_HEADER_BYTES, FirstBlock};
use crate::index::{FileEntry, Index};
use crate::log::LogOptions;
use crate::names::{
    DAMAGED, FileName, damaged_name, log_path, parse_damaged_sequence, seal_name, spare_path,
};
use crate::repair::{copy_in_place, mark_again, rebuild_header, synced_mark};
use crate::report::{Damage, Recovery, TornTail};
use crate::scan::{
    BadRange, Bounds, FrameBlock, Identity, LiveFile, Piece, Remains, Scanner, Tail, has_bytes,
    identify, read_first_block, remains,
};
use crate::seal::{self, Seal};

/// What the log needs to go on.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) index: Index,
    pub(crate) recovery: Recovery,
    /// Positions up to here are taken or passed.
    pub(crate) passed: Position,
    /// Highest file number in use.
    pub(crate) last_sequence: u64,
    /// Released files that can be used again.
    pub(crate) spares: Vec<PathBuf>,
}

#[derive(Debug)]
struct Found {
    path: PathBuf,
    sequence: u64,
    file: Arc<dyn File>,
    live: LiveFile,
    /// Its seal, which agrees with it.
    seal: Option<Seal>,
}

/// A file with nothing to read, which is no released one either.
#[derive(Clone, Debug)]
struct Blank {
    path: PathBuf,
    sequence: u64,
    len: u64,
    remains: Remains,
}

/// Repairs the log in `directory` as opening it does, and opens nothing: damage is copied or moved
/// aside (WAL-2), a torn tail is cut, and what holds no record goes.
///
/// The caller holds the lock of the data directory.
/// Durability: on `Ok`, everything that the log gives back is synced. May be done again.
/// Seals are not believed. Cost: reads the whole log once.
pub fn repair(
    filesystem: &dyn Filesystem,
    directory: &Path,
    options: &LogOptions,
) -> Result<Recovery, OpenError> {
    Ok(recover(filesystem, directory, options, Seals::Ignored)?.recovery)
}

/// Whether a file with a seal is read all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seals {
    Believed,
    Ignored,
}

pub(crate) fn recover(
    filesystem: &dyn Filesystem,
    directory: &Path,
    options: &LogOptions,
    seals: Seals,
) -> Result<Recovered, OpenError> {
    filesystem
        .create_dir_synced(directory)
        .context("create", directory)?;
    let mut run = Run {
        filesystem,
        directory,
        options,
        live: Vec::new(),
        blanks: Vec::new(),
        seals: BTreeMap::new(),
        aside: Vec::new(),
        // What a table holds was synced here before.
        mark: options.minimum_next.previous(),
        last: None,
        out: Recovered {
            index: Index::default(),
            recovery: Recovery::default(),
            passed: Position::ZERO,
            last_sequence: 0,
            spares: Vec::new(),
        },
    };
    run.list()?;
    run.match_seals(seals)?;
    run.find_mark()?;
    run.scan_all()?;
    run.clear_blanks()?;
    filesystem.sync_dir(directory).context("sync", directory)?;
    CrashPoint::RecoveryLogRead.pass();
    run.finish();
    Ok(run.out)
}

struct Run<'a> {
    filesystem: &'a dyn Filesystem,
    directory: &'a Path,
    options: &'a LogOptions,
    live: Vec<Found>,
    blanks: Vec<Blank>,
    /// Whole seals by the number in their names; none where there is one that is not whole.
    seals: BTreeMap<u64, Option<Seal>>,
    /// What earlier openings kept aside.
    aside: Vec<Kept>,
    /// Everything up to here was synced before the log was last closed or killed.
    mark: Position,
    /// Last record accounted for, read or missing.
    last: Option<Position>,
    out: Recovered,
}

impl Run<'_> {
    fn list(&mut self) -> Result<(), OpenError> {
        let names = self
            .filesystem
            .read_dir(self.directory)
            .context("list", self.directory)?;
        for name in names {
            let path = self.directory.join(&name);
            match FileName::parse(&name) {
                Some(FileName::Spare(sequence)) => {
                    self.out.last_sequence = self.out.last_sequence.max(sequence);
                    let file = self.filesystem.open_read(&path).context("open", &path)?;
                    self.note_passed(&*file, &path)?;
                    self.keep_spare(path)?;
                }
                Some(FileName::Log(sequence)) => {
                    self.out.last_sequence = self.out.last_sequence.max(sequence);
                    self.look_at(path, sequence)?;
                }
                Some(FileName::Seal(sequence)) => {
                    let seal = seal::read(self.filesystem, &path)?;
                    self.seals.insert(sequence, seal);
                }
                Some(FileName::UnfinishedSeal) => self.remove(&path)?,
                None => {}
            }
        }
        self.aside = aside::list(self.filesystem, self.directory)?;
        for (_, (_, last)) in &self.aside {
            self.out.passed = self.out.passed.max(*last);
        }
        let aside = self.directory.join(DAMAGED);
        if self.filesystem.exists(&aside).context("read", &aside)? {
            for name in self.filesystem.read_dir(&aside).context("list", &aside)? {
                // A number that is used again would give a file that was kept aside a namesake.
                if let Some(sequence) = parse_damaged_sequence(&name) {
                    self.out.last_sequence = self.out.last_sequence.max(sequence);
                }
            }
        }
        // Zero-padded names sort by number; said again because all that follows depends on it.
        self.live.sort_by_key(|found| found.sequence);
        Ok(())
    }

    fn look_at(&mut self, path: PathBuf, sequence: u64) -> Result<(), OpenError> {
        let file = self
            .filesystem
            .open_read_write(&path)
            .context("open", &path)?;
        match identify(&*file, sequence).context("read", &path)? {
            Identity::Live(live) => self.live.push(Found {
                path,
                sequence,
                file,
                live,
                seal: None,
            }),
            Identity::Blank => {
                let remains = remains(&*file).context("read", &path)?;
                let len = file.len().context("read", &path)?;
                self.blanks.push(Blank {
                    path,
                    sequence,
                    len,
                    remains,
                });
            }
            Identity::Newer { version } => return Err(OpenError::NewerFormat { path, version }),
            Identity::Released => {
                // The crash came between the mark and the new name, and the mark may be in the page
                // cache only: the file must not be used again before it is durable.
                mark_again(&*file).context("release", &path)?;
                CrashPoint::RecoveryMarkedAgain.pass();
                self.note_passed(&*file, &path)?;
                let spare = spare_path(self.directory, sequence);
                self.filesystem
                    .rename(&path, &spare)
                    .context("rename", &path)?;
                self.keep_spare(spare)?;
            }
        }
        Ok(())
    }

    /// The records of a released file are not in the log; their positions were taken all the same.
    fn note_passed(&mut self, file: &dyn File, path: &Path) -> Result<(), LogError> {
        let block = read_first_block(file).context("read", path)?;
        if let FirstBlock::Header(header) = format::decode_header(&block) {
            self.out.passed = self.out.passed.max(header.first);
        }
        Ok(())
    }

    fn keep_spare(&mut self, path: PathBuf) -> Result<(), LogError> {
        if self.out.spares.len() < self.options.max_recycled_files {
            self.out.spares.push(path);
            return Ok(());
        }
        self.filesystem.remove_file(&path).context("remove", &path)
    }

    /// Gives each file its seal. What agrees with no file, or is not believed, is removed: what it
    /// says would have to be checked again and again.
    fn match_seals(&mut self, seals: Seals) -> Result<(), LogError> {
        let found = std::mem::take(&mut self.seals);
        for (sequence, seal) in found {
            let index = self
                .live
                .binary_search_by_key(&sequence, |found| found.sequence);
            let mut agreed = None;
            if let (Ok(index), Some(seal), Seals::Believed) = (index, seal, seals) {
                let file = &self.live[index];
                let len = file.file.len().context("read", &file.path)?;
                let next = self.live.get(index + 1).map(|next| next.live.previous);
                agreed = seal.agrees(&file.live, len, next).then_some((index, seal));
            }
            match agreed {
                Some((index, seal)) => self.live[index].seal = Some(seal),
                None => self.remove(&self.directory.join(seal_name(sequence)))?,
            }
        }
        Ok(())
    }

    /// Finds how far the log is known to be synced: in the newest file that says so.
    fn find_mark(&mut self) -> Result<(), LogError> {
        for found in self.live.iter().rev() {
            if let Some(seal) = &found.seal {
                // It was made when all of the file was synced.
                self.mark = self.mark.max(seal.last);
                break;
            }
            let mark = synced_mark(&*found.file, &found.live).context("read", &found.path)?;
            self.mark = self.mark.max(mark);
            if mark > Position::ZERO {
                break;
            }
        }
        Ok(())
    }

    fn scan_all(&mut self) -> Result<(), LogError> {
        let live = std::mem::take(&mut self.live);
        if let Some(oldest) = live.first() {
            self.report_blanks_before(oldest)?;
        }
        for (index, found) in live.iter().enumerate() {
            self.check_join(found)?;
            match &found.seal {
                Some(seal) => self.take_sealed(found, seal.clone())?,
                None => self.scan_file(found, live.get(index + 1))?,
            }
        }
        let newest = live.last().map_or(0, |found| found.sequence);
        self.report_blanks_behind(newest)?;
        if self.last.unwrap_or_default() < self.mark {
            let missing = self.mark;
            self.report_missing_file(self.out.last_sequence, missing)?;
        }
        Ok(())
    }

    /// Takes the first blank file that may hold records and has a number in the range.
    fn take_damaged_blank(&mut self, sequences: std::ops::Range<u64>) -> Option<Blank> {
        let index = self.blanks.iter().position(|blank| {
            blank.remains == Remains::Damaged && sequences.contains(&blank.sequence)
        })?;
        Some(self.blanks.remove(index))
    }

    /// Reports files before the oldest one that can be read. All that is sure is that they ended
    /// where that one begins; what tables hold of them is not lost.
    fn report_blanks_before(&mut self, oldest: &Found) -> Result<(), LogError> {
        let last = oldest.live.previous;
        let first = self.options.minimum_next.min(last);
        let first = if first.get() > 1 { first } else { last };
        while let Some(blank) = self.take_damaged_blank(0..oldest.sequence) {
            self.report_whole_file(&blank, (first, last))?;
        }
        Ok(())
    }

    /// Reports files behind the newest one that can be read. Nothing tells how many records were in
    /// them, so their positions are passed up to a limit that is surely behind them (WAL-3).
    fn report_blanks_behind(&mut self, newest: u64) -> Result<(), LogError> {
        while let Some(blank) = self.take_damaged_blank(newest..u64::MAX) {
            let after = self.last.unwrap_or_default().max(self.out.passed);
            // Before the file's first record stand at most those that were given up at once.
            let bytes = blank.len.saturating_add(self.options.max_queue_bytes);
            let last = self.mark.max(after).plus(bytes / FRAME_HEADER_BYTES as u64);
            self.last = Some(last);
            self.report_whole_file(&blank, (after.next(), last))?;
        }
        Ok(())
    }

    /// Reports the records between the files so far and this one, if there should be any.
    fn check_join(&mut self, found: &Found) -> Result<(), LogError> {
        match self.last {
            // The oldest file: what came before was released.
            None => self.last = Some(found.live.previous),
            Some(last) if found.live.header_whole && found.live.previous > last => {
                self.report_missing_file(found.sequence, found.live.previous)?;
            }
            Some(_) => {}
        }
        Ok(())
    }

    /// Records up to `last` should be in a file before `sequence`, which is gone.
    fn report_missing_file(&mut self, sequence: u64, last: Position) -> Result<(), LogError> {
        let path = log_path(self.directory, sequence);
        let after = self.last.unwrap_or_default();
        self.last = Some(last);
        self.report_damage(
            &path,
            sequence,
            BadRange {
                start: 0,
                end: 0,
                after,
                last,
            },
        )
    }

    /// Enters a file into the index by what its seal says. Damage in it is found by its reader.
    fn take_sealed(&mut self, found: &Found, seal: Seal) -> Result<(), LogError> {
        let disk_bytes = found.file.len().context("read", &found.path)?;
        self.last = Some(seal.last);
        self.out.recovery.sealed_files += 1;
        let entry = seal.into_entry(found.path.clone(), disk_bytes);
        self.out.index.files.push_back(entry);
        Ok(())
    }

    fn scan_file(&mut self, found: &Found, next: Option<&Found>) -> Result<(), LogError> {
        // The first group's word counts as much as that of the first block.
        let expected = next.map(|next| next.live.previous);
        let len = found.file.len().context("read", &found.path)?;
        let after = self.last.unwrap_or_default();
        let live = &found.live;
        let file = Arc::clone(&found.file);
        let mut scanner = Scanner::new(file, live.sequence, live.generation, BLOCK, after);
        let bounds = Bounds {
            end: len,
            expected,
            synced: self.mark,
        };
        let mut entry = FileEntry::new(
            found.path.clone(),
            live.sequence,
            live.generation,
            live.lane,
            (live.previous, live.first),
        );
        self.out.recovery.read_bytes += len;
        let mut unmarked = Vec::new();
        let mut bad_bytes = false;
        let tail = loop {
            match scanner.next(bounds).context("read", &found.path)? {
                Piece::Frames(block) => self.take_frames(&mut entry, &block, &mut unmarked),
                Piece::Bad(bad) => {
                    self.last = Some(bad.last);
                    bad_bytes = true;
                    self.report_bad_range(found, next, len, bad)?;
                }
                Piece::End(tail) => break tail,
            }
        };
        // A first block beside records that were synced can't be torn: it was written before.
        let synced = entry.records > 0 && entry.last <= self.mark;
        if !live.header_whole && !bad_bytes && synced {
            let bad = BadRange {
                start: 0,
                end: BLOCK,
                after: entry.previous,
                last: entry.previous,
            };
            self.report_damage(&found.path, found.sequence, bad)?;
        }
        if expected.is_none() {
            self.repair_last(found, tail, len, &unmarked)?;
        }
        if entry.records == 0 {
            self.retire(found)?;
        } else {
            entry.closed = true;
            entry.damaged = bad_bytes || !live.header_whole;
            entry.disk_bytes = found.file.len().context("read", &found.path)?;
            self.out.index.files.push_back(entry);
        }
        Ok(())
    }

    /// Reports bad bytes of a file. What is missing at its end was in the file behind it, if that
    /// is there and can't be read.
    fn report_bad_range(
        &mut self,
        found: &Found,
        next: Option<&Found>,
        len: u64,
        bad: BadRange,
    ) -> Result<(), LogError> {
        if let Some(next) = next
            && bad.end >= len
            && bad.last == next.live.previous
            && let Some(blank) = self.take_damaged_blank(found.sequence..next.sequence)
        {
            return self.report_whole_file(&blank, (bad.after.next(), bad.last));
        }
        self.report_damage(&found.path, found.sequence, bad)
    }

    fn take_frames(
        &mut self,
        entry: &mut FileEntry,
        block: &FrameBlock,
        unmarked: &mut Vec<(u64, u64, u64)>,
    ) {
        let (Some(first), Some(last)) = (block.frames.first(), block.frames.last()) else {
            return;
        };
        let records = block.frames.len() as u64;
        let end = block.base + last.end() as u64;
        entry.add(
            block.group_offset,
            (first.position, last.position),
            records,
            end,
        );
        self.last = Some(last.position);
        if last.position > self.mark {
            let again = block
                .frames
                .iter()
                .filter(|frame| frame.position > self.mark)
                .count();
            unmarked.push((block.group_offset.unwrap_or(block.base), end, again as u64));
        }
    }

    /// Makes the end of the newest file sure: cuts what is not whole, writes again what may be in
    /// the page cache only, and syncs.
    fn repair_last(
        &mut self,
        found: &Found,
        tail: Tail,
        len: u64,
        unmarked: &[(u64, u64, u64)],
    ) -> Result<(), LogError> {
        let mut torn_end = tail.torn_end;
        let fresh = found.live.released.is_none();
        if torn_end.is_none()
            && fresh
            && has_bytes(&*found.file, tail.offset, len).context("read", &found.path)?
        {
            // In a file that was never recycled, nothing but a torn group can stand here.
            torn_end = Some(len);
        }
        if let Some(torn_end) = torn_end {
            self.out.recovery.torn_tail = Some(TornTail {
                file: found.path.display().to_string(),
                offset: tail.offset,
                cut_bytes: torn_end.saturating_sub(tail.offset),
            });
        }
        self.out.passed = self.out.passed.max(tail.promised);
        if len > tail.offset {
            found
                .file
                .set_len(tail.offset)
                .context("cut", &found.path)?;
        }
        if !unmarked.is_empty() || !found.live.header_whole {
            let header = rebuild_header(&found.live);
            found
                .file
                .write_all_at(&header, 0)
                .context("write", &found.path)?;
        }
        for (start, end, frames) in unmarked {
            copy_in_place(&*found.file, *start, *end).context("write", &found.path)?;
            self.out.recovery.rewritten_frames += frames;
        }
        CrashPoint::RecoveryTailRewritten.pass();
        found.file.sync_all().context("sync", &found.path)
    }

    /// A file without records: nobody needs it.
    fn retire(&mut self, found: &Found) -> Result<(), LogError> {
        self.filesystem
            .remove_file(&found.path)
            .context("remove", &found.path)
    }

    fn clear_blanks(&mut self) -> Result<(), LogError> {
        for blank in std::mem::take(&mut self.blanks) {
            match blank.remains {
                // Other files tell what is missing; these bytes are kept for a look (WAL-2).
                Remains::Damaged => self.report_whole_file(&blank, Default::default())?,
                Remains::TornWrite => {
                    self.out.recovery.torn_tail.get_or_insert(TornTail {
                        file: blank.path.display().to_string(),
                        offset: 0,
                        cut_bytes: blank.len,
                    });
                    self.remove(&blank.path)?;
                }
                Remains::Nothing => self.remove(&blank.path)?,
            }
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<(), LogError> {
        self.filesystem.remove_file(path).context("remove", path)
    }

    /// Reports a file of which nothing can be read, and moves it aside.
    ///
    /// Durability: on `Ok`, it has its new name after a power cut.
    fn report_whole_file(
        &mut self,
        blank: &Blank,
        (first, last): (Position, Position),
    ) -> Result<(), LogError> {
        let name = damaged_name(blank.sequence, (0, blank.len), (first, last));
        let aside = self.make_aside()?;
        let kept = aside.join(&name);
        self.filesystem
            .rename(&blank.path, &kept)
            .context("move aside", &blank.path)?;
        self.filesystem.sync_dir(&aside).context("sync", &aside)?;
        self.filesystem
            .sync_dir(self.directory)
            .context("sync", self.directory)?;
        self.out.recovery.damage.push(Damage {
            file: blank.path.display().to_string(),
            first_byte: 0,
            last_byte: blank.len.saturating_sub(1),
            first_position: first,
            last_position: last,
            kept_aside: kept,
            known: false,
        });
        Ok(())
    }

    fn make_aside(&self) -> Result<PathBuf, LogError> {
        aside::make_folder(self.filesystem, self.directory)
    }

    fn report_damage(&mut self, path: &Path, sequence: u64, bad: BadRange) -> Result<(), LogError> {
        let file = (path, sequence);
        let damage = aside::keep(self.filesystem, self.directory, &self.aside, file, bad)?;
        self.out.recovery.damage.push(damage);
        Ok(())
    }

    fn finish(&mut self) {
        let last = self.last.unwrap_or_default().max(self.mark);
        let recovery = &mut self.out.recovery;
        recovery.lanes = self.out.index.lanes();
        recovery.first = self
            .out
            .index
            .files
            .front()
            .map_or(Position::ZERO, |file| file.first);
        recovery.last = last;
        recovery.records = self.out.index.files.iter().map(|file| file.records).sum();
        self.out.passed = self.out.passed.max(last);
    }
}
