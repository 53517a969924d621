//! What the memory file system holds: what a reader sees, and what a power cut would leave.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

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
    Write { offset: usize, bytes: Arc<[u8]> },
    SetLen(usize),
}

impl Change {
    fn apply(&self, contents: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => write(contents, *offset, bytes),
            Self::SetLen(len) => contents.resize(*len, 0),
        }
    }
}

fn write(contents: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if contents.len() < end {
        contents.resize(end, 0);
    }
    contents[offset..end].copy_from_slice(bytes);
}

/// The contents of a file, apart from its names. A copy shares them until one of both changes.
#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    #[expect(clippy::rc_buffer, reason = "grows in place while nobody shares it")]
    pub(super) seen: Arc<Vec<u8>>,
    #[expect(clippy::rc_buffer, reason = "as above")]
    durable: Arc<Vec<u8>>,
    changes: Vec<Change>,
    /// A sync has failed: what readers see is more than `durable` and `changes`.
    lost_some: bool,
}

impl Inode {
    fn change(&mut self, change: Change) {
        change.apply(Arc::make_mut(&mut self.seen));
        self.changes.push(change);
    }

    pub(super) fn write(&mut self, offset: usize, bytes: Vec<u8>) {
        let bytes = bytes.into();
        self.change(Change::Write { offset, bytes });
    }

    pub(super) fn set_len(&mut self, len: usize) {
        self.change(Change::SetLen(len));
    }

    pub(super) fn sync(&mut self) {
        if self.lost_some {
            let durable = Arc::make_mut(&mut self.durable);
            for change in self.changes.drain(..) {
                change.apply(durable);
            }
        } else {
            self.changes.clear();
            self.durable = Arc::clone(&self.seen);
        }
    }

    /// A failed sync: readers still see the changes, yet no later sync will make them durable.
    pub(super) fn fail_sync(&mut self) {
        self.lost_some |= !self.changes.is_empty();
        self.changes.clear();
    }

    /// Changes bits on the medium itself, as rot does.
    pub(super) fn flip(&mut self, offset: usize, mask: u8) {
        for contents in [&mut self.seen, &mut self.durable] {
            if let Some(byte) = Arc::make_mut(contents).get_mut(offset) {
                *byte ^= mask;
            }
        }
    }

    /// True if a power cut could leave something else than what readers see.
    fn is_unsynced(&self) -> bool {
        self.lost_some || !self.changes.is_empty()
    }

    fn crash(&mut self, crash: Crash, random: &mut Random) {
        if !self.is_unsynced() {
            return;
        }
        if matches!(crash, Crash::KeepSome { .. }) {
            self.keep_some(random);
        }
        self.changes.clear();
        self.lost_some = false;
        self.seen = Arc::clone(&self.durable);
    }

    fn keep_some(&mut self, random: &mut Random) {
        let durable = Arc::make_mut(&mut self.durable);
        for change in self.changes.drain(..) {
            match &change {
                Change::SetLen(_) => {
                    if random.once_in(2) {
                        change.apply(durable);
                    }
                }
                Change::Write { offset, bytes } => match random.next() % 4 {
                    0 => {}
                    1 => change.apply(durable),
                    _ => {
                        let mut start = 0;
                        while start < bytes.len() {
                            // Sectors of the device, not of the write.
                            let to_border = SECTOR_BYTES - (offset + start) % SECTOR_BYTES;
                            let end = bytes.len().min(start + to_border);
                            if random.once_in(2) {
                                write(durable, offset + start, &bytes[start..end]);
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

/// What a path is known by: `/a/` names what `/a` does.
fn key(path: &Path) -> &OsStr {
    path.components().as_path().as_os_str()
}

/// All names, by the bytes of their whole path, which compare faster than paths do. Copies of a disk
/// share the texts.
#[derive(Clone, Debug, Default)]
pub(super) struct Names(BTreeMap<Arc<OsStr>, Node>);

impl Names {
    pub(super) fn get(&self, path: &Path) -> Option<Node> {
        self.0.get(key(path)).copied()
    }

    pub(super) fn contains(&self, path: &Path) -> bool {
        self.0.contains_key(key(path))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Path, Node)> {
        let names = self.0.iter();
        names.map(|(path, node)| (Path::new(&**path), *node))
    }

    /// Names below a directory, those in directories below it too, in the order of their bytes.
    pub(super) fn below(&self, directory: &Path) -> impl Iterator<Item = &Path> {
        // With its separator: a neighbour whose name is longer is not below.
        let prefix = directory.join("");
        let all: (Bound<&OsStr>, Bound<&OsStr>) =
            (Bound::Included(prefix.as_os_str()), Bound::Unbounded);
        let names = self.0.range::<OsStr, _>(all);
        let paths = names.map(|(path, _)| Path::new(&**path));
        let bytes = prefix.as_os_str().as_encoded_bytes().to_vec();
        paths.take_while(move |path| path.as_os_str().as_encoded_bytes().starts_with(&bytes))
    }
}

/// A change of names that is not durable yet.
#[derive(Clone, Debug)]
enum NameChange {
    Add(Arc<OsStr>, Node),
    Remove(Arc<OsStr>),
    Rename { to: Arc<OsStr>, node: Node },
}

impl NameChange {
    fn directory(&self) -> Option<&Path> {
        match self {
            Self::Add(path, _) | Self::Remove(path) => Path::new(&**path).parent(),
            Self::Rename { to, .. } => Path::new(&**to).parent(),
        }
    }

    fn apply(&self, Names(names): &mut Names) {
        match self {
            Self::Add(path, node) => {
                names.insert(Arc::clone(path), *node);
            }
            Self::Remove(path) => {
                names.remove(path);
            }
            Self::Rename { to, node } => {
                // An earlier rename may have been lost, in which case the file has an older name
                // than the one it was renamed from. It never has two: a directory is journalled or
                // checked before it is used again.
                names.retain(|_, other| other != node);
                names.insert(Arc::clone(to), *node);
            }
        }
    }
}

/// The whole file system. A copy shares contents and names until one of both changes.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) names: Arc<Names>,
    durable_names: Arc<Names>,
    name_changes: Vec<NameChange>,
    pub(super) inodes: Vec<Inode>,
    pub(super) locks: BTreeSet<PathBuf>,
    /// Handles of an earlier life are dead.
    pub(super) life: u64,
}

impl State {
    fn change_name(&mut self, change: NameChange) {
        change.apply(Arc::make_mut(&mut self.names));
        self.name_changes.push(change);
    }

    pub(super) fn add(&mut self, path: &Path, node: Node) {
        self.change_name(NameChange::Add(key(path).into(), node));
    }

    pub(super) fn remove(&mut self, path: &Path) {
        self.change_name(NameChange::Remove(key(path).into()));
    }

    pub(super) fn rename(&mut self, to: &Path, node: Node) {
        self.change_name(NameChange::Rename {
            to: key(to).into(),
            node,
        });
    }

    pub(super) fn sync_dir(&mut self, directory: &Path) {
        let durable_names = Arc::make_mut(&mut self.durable_names);
        self.name_changes.retain(|change| {
            let is_meant = change.directory() == Some(directory);
            if is_meant {
                change.apply(durable_names);
            }
            !is_meant
        });
    }

    /// True if a power cut could leave something else than what readers see.
    pub(super) fn is_unsynced(&self) -> bool {
        !self.name_changes.is_empty() || self.inodes.iter().any(Inode::is_unsynced)
    }

    /// Bytes that the files which have a name take.
    pub(super) fn used_bytes(&self) -> u64 {
        self.names
            .iter()
            .map(|(_, node)| match node {
                Node::Directory => 0,
                Node::File(inode) => self.inodes[inode].seen.len() as u64,
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
        let names_changed = !self.name_changes.is_empty();
        for change in std::mem::take(&mut self.name_changes) {
            if matches!(crash, Crash::KeepSome { .. }) && random.once_in(2) {
                change.apply(Arc::make_mut(&mut self.durable_names));
            }
        }
        for inode in &mut self.inodes {
            inode.crash(crash, &mut random);
        }
        if names_changed {
            self.settle_names();
        }
    }

    /// After a power cut: what is seen is what is durable.
    fn settle_names(&mut self) {
        let durable = &*self.durable_names;
        let is_reached = |path: &OsStr| {
            // A lost directory takes with it what was in it.
            Path::new(path).ancestors().skip(1).all(|level| {
                level.parent().is_none() || durable.get(level) == Some(Node::Directory)
            })
        };
        let mut names = durable.clone();
        names.0.retain(|path, _| is_reached(path));
        // Files without a name are gone; their numbers are not given out again.
        let mut named = vec![false; self.inodes.len()];
        for (_, node) in names.iter() {
            if let Node::File(inode) = node {
                named[inode] = true;
            }
        }
        for (inode, named) in self.inodes.iter_mut().zip(named) {
            if !named {
                *inode = Inode::default();
            }
        }
        self.names = Arc::new(names);
        self.durable_names = Arc::clone(&self.names);
    }
}
