//! Bytes that can't be read, kept for a look (WAL-2).

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use penstock_disk::Filesystem;
use penstock_model::Position;

use crate::error::{Context, LogError};
use crate::names::{DAMAGED, damaged_name, parse_damaged};
use crate::repair::read_range;
use crate::report::Damage;
use crate::scan::BadRange;

/// What was kept aside, with the records that are missing.
pub(crate) type Kept = (PathBuf, (Position, Position));

/// Makes the folder for what is kept aside, durably.
pub(crate) fn make_folder(
    filesystem: &dyn Filesystem,
    directory: &Path,
) -> Result<PathBuf, LogError> {
    let aside = directory.join(DAMAGED);
    filesystem
        .create_dir_synced(&aside)
        .context("create", &aside)?;
    Ok(aside)
}

/// What was kept aside so far, as far as it tells of missing records.
pub(crate) fn list(filesystem: &dyn Filesystem, directory: &Path) -> Result<Vec<Kept>, LogError> {
    let aside = directory.join(DAMAGED);
    if !filesystem.exists(&aside).context("read", &aside)? {
        return Ok(Vec::new());
    }
    let names = filesystem.read_dir(&aside).context("list", &aside)?;
    let kept = names
        .iter()
        .filter_map(|name| parse_damaged(name).map(|positions| (aside.join(name), positions)));
    Ok(kept.collect())
}

/// Copies bad bytes of a file aside, unless that was done before.
///
/// Durability: on `Ok`, the copy survives a power cut.
pub(crate) fn keep(
    filesystem: &dyn Filesystem,
    directory: &Path,
    earlier: &[Kept],
    (path, sequence): (&Path, u64),
    bad: BadRange,
) -> Result<Damage, LogError> {
    let (first_position, last_position) = if bad.last > bad.after {
        (bad.after.next(), bad.last)
    } else {
        Default::default()
    };
    let name = damaged_name(
        sequence,
        (bad.start, bad.end),
        (first_position, last_position),
    );
    let aside = make_folder(filesystem, directory)?;
    let positions = (first_position, last_position);
    // Under another name if the file that held the records was moved aside as a whole.
    let earlier = earlier.iter().find(|(_, missing)| *missing == positions);
    let kept = earlier.map_or_else(|| aside.join(&name), |(path, _)| path.clone());
    let known = filesystem.exists(&kept).context("read", &kept)?;
    if !known {
        let bytes = read_range(filesystem, path, bad.start, bad.end).context("read", path)?;
        filesystem
            .publish(&aside, OsStr::new(&name), &bytes)
            .context("write", &kept)?;
    }
    Ok(Damage {
        file: path.display().to_string(),
        first_byte: bad.start,
        last_byte: bad.end.saturating_sub(1).max(bad.start),
        first_position,
        last_position,
        kept_aside: kept,
        known,
    })
}
