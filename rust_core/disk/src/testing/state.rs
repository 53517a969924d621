//! What the memory file system holds: what a reader sees, and what a power cut would leave.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::random::Random;

/// Smallest piece of a write that a power cut keeps or loses.
const SECTOR_BYTES: usize = 512;

/// What a crash leaves of that which was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// Nothing.
    LoseUnsynced,
    /// Everything, for now: the process died, the machine did not. What was not synced is still
    /// there to be read, and is lost by a power cut that follows.
    KeepUnsynced,
    /// A random part: some of the writes, in pieces, some of the renames and so on.
    KeepSome { seed: u64 },
}

/// A change of a file's contents that is not durable yet.
#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    SetLen(usize),
}

impl Change {
    fn apply(&self, contents: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => {
                let end = offset + bytes.len();
                if contents.len() < end {
                    contents.resize(end, 0);
                }
                contents[*offset..end].copy_from_slice(bytes);
            }
            Self::SetLen(len) => contents.resize(*len, 0),
        }
    }
}

/// The contents of a file, apart from its names.
#[derive(Debug, Default)]
pub(super) struct Inode {
    pub(super) seen: Vec<u8>,
    durable: Vec<u8>,
    changes: Vec<Change>,
}

impl Inode {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.seen);
        self.changes.push(change);
    }

    pub(super) fn write(&mut self, offset: usize, bytes: Vec<u8>) {
        self.change(Change::Write { offset, bytes });
    }

    pub(super) fn set_len(&mut self, len: usize) {
        self.change(Change::SetLen(len));
    }

    pub(super) fn sync(&mut self) {
        for change in self.changes.drain(..) {
            change.apply(&mut self.durable);
        }
    }

    /// A failed sync: readers still see the changes, yet no later sync will make them durable.
    pub(super) fn fail_sync(&mut self) {
        self.changes.clear();
    }

    /// Changes bits on the medium itself, as rot does.
    pub(super) fn flip(&mut self, offset: usize, mask: u8) {
        for contents in [&mut self.seen, &mut self.durable] {
            if let Some(byte) = contents.get_mut(offset) {
                *byte ^= mask;
            }
        }
    }

    fn crash(&mut self, crash: Crash, random: &mut Random) {
        if matches!(crash, Crash::KeepSome { .. }) {
            self.keep_some(random);
        }
        self.changes.clear();
        self.seen.clone_from(&self.durable);
    }

    fn keep_some(&mut self, random: &mut Random) {
        for change in self.changes.drain(..) {
            match &change {
                Change::SetLen(_) => {
                    if random.once_in(2) {
                        change.apply(&mut self.durable);
                    }
                }
                Change::Write { offset, bytes } => match random.next() % 4 {
                    0 => {}
                    1 => change.apply(&mut self.durable),
                    _ => {
                        let mut start = 0;
                        while start < bytes.len() {
                            // Sectors of the device, not of the write.
                            let to_border = SECTOR_BYTES - (offset + start) % SECTOR_BYTES;
                            let end = bytes.len().min(start + to_border);
                            if random.once_in(2) {
                                let piece = bytes[start..end].to_vec();
                                Change::Write {
                                    offset: offset + start,
                                    bytes: piece,
                                }
                                .apply(&mut self.durable);
                            }
                            start = end;
                        }
                    }
                },
            }
        }
    }
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Directory,
    File(usize),
}

/// A change of names that is not durable yet.
#[derive(Clone, Debug)]
enum NameChange {
    Add(PathBuf, Node),
    Remove(PathBuf),
    Rename { to: PathBuf, node: Node },
}

impl NameChange {
    fn directory(&self) -> Option<&Path> {
        match self {
            Self::Add(path, _) | Self::Remove(path) => path.parent(),
            Self::Rename { to, .. } => to.parent(),
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, Node>) {
        match self {
            Self::Add(path, node) => {
                names.insert(path.clone(), *node);
            }
            Self::Remove(path) => {
                names.remove(path);
            }
            Self::Rename { to, node } => {
                // An earlier rename may have been lost, in which case the file has an older name
                // than the one it was renamed from. It never has two: a directory is journalled or
                // checked before it is used again.
                names.retain(|_, other| other != node);
                names.insert(to.clone(), *node);
            }
        }
    }
}

/// The whole file system.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) names: BTreeMap<PathBuf, Node>,
    durable_names: BTreeMap<PathBuf, Node>,
    name_changes: Vec<NameChange>,
    pub(super) inodes: Vec<Inode>,
    pub(super) locks: BTreeSet<PathBuf>,
    /// Handles of an earlier life are dead.
    pub(super) life: u64,
}

impl State {
    fn change_name(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.name_changes.push(change);
    }

    pub(super) fn add(&mut self, path: &Path, node: Node) {
        self.change_name(NameChange::Add(path.to_path_buf(), node));
    }

    pub(super) fn remove(&mut self, path: &Path) {
        self.change_name(NameChange::Remove(path.to_path_buf()));
    }

    pub(super) fn rename(&mut self, to: &Path, node: Node) {
        self.change_name(NameChange::Rename {
            to: to.to_path_buf(),
            node,
        });
    }

    pub(super) fn sync_dir(&mut self, directory: &Path) {
        let mut kept = Vec::new();
        for change in self.name_changes.drain(..) {
            if change.directory() == Some(directory) {
                change.apply(&mut self.durable_names);
            } else {
                kept.push(change);
            }
        }
        self.name_changes = kept;
    }

    /// Bytes that the files which have a name take.
    pub(super) fn used_bytes(&self) -> u64 {
        self.names
            .values()
            .map(|node| match node {
                Node::Directory => 0,
                Node::File(inode) => self.inodes[*inode].seen.len() as u64,
            })
            .sum()
    }

    pub(super) fn crash(&mut self, crash: Crash) {
        self.locks.clear();
        self.life += 1;
        if crash == Crash::KeepUnsynced {
            return;
        }
        let seed = if let Crash::KeepSome { seed } = crash {
            seed
        } else {
            0
        };
        let mut random = Random::new(seed);
        for change in std::mem::take(&mut self.name_changes) {
            if matches!(crash, Crash::KeepSome { .. }) && random.once_in(2) {
                change.apply(&mut self.durable_names);
            }
        }
        for inode in &mut self.inodes {
            inode.crash(crash, &mut random);
        }
        self.names = self
            .durable_names
            .iter()
            .filter(|(path, _)| {
                // A lost directory takes with it what was in it.
                path.ancestors().skip(1).all(|level| {
                    level.parent().is_none()
                        || self.durable_names.get(level) == Some(&Node::Directory)
                })
            })
            .map(|(path, node)| (path.clone(), *node))
            .collect();
        self.durable_names.clone_from(&self.names);
    }
}
