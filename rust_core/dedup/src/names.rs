//! Names of files: `ids-<number>.log` and `run-<first>-<last>.run`, numbers as 16 hex digits.
//!
//! A run stands for all id logs numbered up to `last`, and for all runs within `first..=last`.

use std::path::{Path, PathBuf};

/// Numbers kept for one generation, for its id logs in turn: more than one only after failures.
const NUMBERS_PER_GENERATION: u64 = 1 << 16;

/// The last number of the generation that `number` belongs to.
pub(crate) const fn last_number(number: u64) -> u64 {
    number | (NUMBERS_PER_GENERATION - 1)
}

/// The first number of the generation that `number` belongs to.
pub(crate) const fn first_number(number: u64) -> u64 {
    number & !(NUMBERS_PER_GENERATION - 1)
}

/// What a name in the directory means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileName {
    IdLog(u64),
    Run { first: u64, last: u64 },
    Damaged,
    Temporary,
}

pub(crate) fn parse(name: &str) -> Option<FileName> {
    if let Some(digits) = name
        .strip_prefix("ids-")
        .and_then(|rest| rest.strip_suffix(".log"))
    {
        return number(digits).map(FileName::IdLog);
    }
    if let Some(digits) = name
        .strip_prefix("run-")
        .and_then(|rest| rest.strip_suffix(".run"))
    {
        let (first, last) = digits.split_once('-')?;
        let (first, last) = (number(first)?, number(last)?);
        return (first <= last).then_some(FileName::Run { first, last });
    }
    if name.strip_suffix(".damaged").is_some() {
        return Some(FileName::Damaged);
    }
    name.strip_suffix(".tmp").map(|_| FileName::Temporary)
}

fn number(digits: &str) -> Option<u64> {
    if digits.len() != 16 {
        return None;
    }
    u64::from_str_radix(digits, 16).ok()
}

pub(crate) fn id_log(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("ids-{number:016x}.log"))
}

pub(crate) fn run(directory: &Path, first: u64, last: u64) -> PathBuf {
    directory.join(format!("run-{first:016x}-{last:016x}.run"))
}

pub(crate) fn damaged(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(".damaged");
    PathBuf::from(name)
}
