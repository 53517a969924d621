//! The salts of the days: one small file each, for as long as events of the day are taken.
//!
//! `cookieless/<day>.salt`, 28 bytes: magic `PSCLSA01` (8), salt (16), CRC-32C of the bytes before
//! it (4, little-endian). Readable to the owner only. Overwritten with zeros and removed once the
//! day is closed: deleting it is what makes ids of visitors anonymous.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use penstock_disk::{Filesystem, TEMPORARY_SUFFIX};
use penstock_model::{Code, Visit, VisitorIds};

use crate::day::{Day, is_open};
use crate::visitor::ids_of;

const MAGIC: &[u8; 8] = b"PSCLSA01";
const FILE_BYTES: usize = 28;
const SUFFIX: &str = ".salt";

/// A secret of one day.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Salt(pub(crate) [u8; 16]);

impl fmt::Debug for Salt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Salt")
    }
}

/// A salt can't be read, stored or deleted. Trying again may help.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {}", .path.display())]
pub struct SaltError {
    pub path: PathBuf,
    #[source]
    pub source: io::Error,
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> SaltError + use<> {
    let path = path.to_path_buf();
    move |source| SaltError { path, source }
}

/// What opening found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// Salts whose day was over; they are deleted.
    pub expired: usize,
    /// Names of files that hold no salt any more; they are deleted. Visitors of those days get other
    /// ids from now on.
    pub damaged: Vec<String>,
}

/// The salts of the open days.
pub struct Salts {
    filesystem: Arc<dyn Filesystem>,
    directory: PathBuf,
    /// At most one for each open day. Never locked over I/O.
    by_day: RwLock<BTreeMap<Day, Salt>>,
    /// Held while files are made or deleted.
    changing: Mutex<()>,
}

impl Salts {
    /// Reads the salts of `directory`, which need not be there yet, and deletes what is over.
    ///
    /// Durability: on `Ok`, all of that survives a power cut.
    pub fn open(
        filesystem: Arc<dyn Filesystem>,
        directory: &Path,
        now_us: i64,
    ) -> Result<(Self, OpenReport), SaltError> {
        let mut salts = BTreeMap::new();
        let mut report = OpenReport::default();
        let there = filesystem.exists(directory).map_err(at(directory))?;
        let names = if there {
            filesystem.read_dir(directory).map_err(at(directory))?
        } else {
            Vec::new()
        };
        for name in &names {
            let path = directory.join(name);
            let Some(name) = name.to_str() else { continue };
            let day = name.strip_suffix(SUFFIX).and_then(Day::parse);
            let salt = match day {
                // Never used: it was being published.
                None if name.ends_with(TEMPORARY_SUFFIX) => None,
                None => continue,
                Some(day) if day.is_closed(now_us) => {
                    report.expired += 1;
                    None
                }
                Some(day) => {
                    let salt = read(&*filesystem, &path).map_err(at(&path))?;
                    if salt.is_none() {
                        report.damaged.push(name.to_owned());
                    }
                    salt.map(|salt| (day, salt))
                }
            };
            if let Some((day, salt)) = salt {
                salts.insert(day, salt);
            } else {
                wipe(&*filesystem, &path).map_err(at(&path))?;
            }
        }
        if there {
            // Names that a killed process left need not be durable yet, and nothing may be
            // acknowledged under a salt that is not.
            filesystem
                .create_dir_synced(directory)
                .map_err(at(directory))?;
            filesystem.sync_dir(directory).map_err(at(directory))?;
        }
        let opened = Self {
            filesystem,
            directory: directory.to_path_buf(),
            by_day: RwLock::new(salts),
            changing: Mutex::new(()),
        };
        Ok((opened, report))
    }

    /// The ids of a visit's visitor in a project. `Ok(Err(…))`: the event is refused, since its day
    /// is not open.
    ///
    /// Durability: on `Ok`, the salt survives a power cut, so what is acknowledged under these ids
    /// has them for the rest of the day. Errors: the salt of a new day can't be stored.
    ///
    /// Cost: a microsecond; for the first event of a day the making of a file and its syncs.
    pub fn ids_of(
        &self,
        project: &str,
        visit: &Visit<'_>,
        now_us: i64,
    ) -> Result<Result<VisitorIds, Code>, SaltError> {
        let day = Day::of(visit).filter(|(day, _)| is_open(*day, now_us));
        let Some((day, begun_us)) = day else {
            return Ok(Err(Code::CookielessTimestampOutOfRange));
        };
        let salt = self.of_day(day)?;
        Ok(Ok(ids_of(project, visit, salt, begun_us)))
    }

    /// The salt of an open day; made now if it is the first that is asked of that day.
    fn of_day(&self, day: Day) -> Result<Salt, SaltError> {
        if let Some(salt) = self.known(day) {
            return Ok(salt);
        }
        let _alone = self.changing.lock();
        if let Some(salt) = self.known(day) {
            return Ok(salt);
        }
        let salt = self.make(day)?;
        self.by_day.write().insert(day, salt);
        Ok(salt)
    }

    fn known(&self, day: Day) -> Option<Salt> {
        self.by_day.read().get(&day).copied()
    }

    fn make(&self, day: Day) -> Result<Salt, SaltError> {
        let path = self.path(day);
        let mut salt = [0; 16];
        let filled = rustix::rand::getrandom(&mut salt, rustix::rand::GetRandomFlags::empty())
            .map_err(|errno| at(&path)(errno.into()))?;
        assert_eq!(filled, salt.len(), "getrandom fills up to 256 bytes");
        self.filesystem
            .create_dir_synced(&self.directory)
            .map_err(at(&self.directory))?;
        let name = file_name(day);
        self.filesystem
            .publish_private(&self.directory, OsStr::new(&name), &encode(Salt(salt)))
            .map_err(at(&path))?;
        Ok(Salt(salt))
    }

    /// Deletes the salts of days that are over, and gives how many. Cheap if there are none.
    ///
    /// Durability: on `Ok` they are gone for good. On `Err` call again: none of what is left is used.
    pub fn expire(&self, now_us: i64) -> Result<usize, SaltError> {
        let closed = |salts: &BTreeMap<Day, Salt>| -> Vec<Day> {
            let days = salts.keys().copied();
            days.take_while(|day| day.is_closed(now_us)).collect()
        };
        if closed(&self.by_day.read()).is_empty() {
            return Ok(0);
        }
        let _alone = self.changing.lock();
        let closed = closed(&self.by_day.read());
        for day in &closed {
            let path = self.path(*day);
            wipe(&*self.filesystem, &path).map_err(at(&path))?;
        }
        self.filesystem
            .sync_dir(&self.directory)
            .map_err(at(&self.directory))?;
        let mut salts = self.by_day.write();
        for day in &closed {
            salts.remove(day);
        }
        Ok(closed.len())
    }

    /// Days that have a salt.
    pub fn count(&self) -> usize {
        self.by_day.read().len()
    }

    fn path(&self, day: Day) -> PathBuf {
        self.directory.join(file_name(day))
    }
}

impl fmt::Debug for Salts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Salts")
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

fn file_name(day: Day) -> String {
    format!("{day}{SUFFIX}")
}

fn encode(salt: Salt) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(FILE_BYTES);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&salt.0);
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    bytes
}

/// None if what is there is no salt.
fn read(filesystem: &dyn Filesystem, path: &Path) -> io::Result<Option<Salt>> {
    let file = filesystem.open_read(path)?;
    let mut bytes = [0; FILE_BYTES + 1];
    let count = file.read_at(&mut bytes, 0)?;
    let crc = crc32c::crc32c(&bytes[..24]).to_le_bytes();
    if count != FILE_BYTES || &bytes[..8] != MAGIC || bytes[24..28] != crc {
        return Ok(None);
    }
    let mut salt = [0; 16];
    salt.copy_from_slice(&bytes[8..24]);
    Ok(Some(Salt(salt)))
}

/// Removes a file whose contents must not be found again: zeros first, so that where a file system
/// writes in place, a free block tells nothing. One that is gone already is no error.
fn wipe(filesystem: &dyn Filesystem, path: &Path) -> io::Result<()> {
    match filesystem.open_read_write(path) {
        Ok(file) => {
            file.write_all_at(&[0; FILE_BYTES], 0)?;
            file.sync_all()?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    filesystem.remove_file(path)
}
