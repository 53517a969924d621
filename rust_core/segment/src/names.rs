//! Names of partition directories and of files.
//!
//! ```text
//! events/project=<value>/date=YYYY-MM-DD/<lane>-<first position>-<suffix>.parquet
//! rejected/date=YYYY-MM-DD/<lane>-<first position>-<suffix>.parquet
//! recordings/project=<value>/date=YYYY-MM-DD/<lane>-<first position>-<suffix>.parquet
//! ```
//!
//! Lane: 32 hexadecimal digits. First position: 20 decimal digits, so that names sort. Suffix: 16
//! hexadecimal digits, unique in the process and random between processes; a file is never
//! overwritten even so. The whole range of positions stands in the file's metadata: its end is not
//! known when the file is named.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use penstock_model::{LaneId, Position};

/// Longest file name that Linux file systems take.
pub const MAX_NAME_BYTES: usize = 255;

/// What a null's directory is called: DuckDB takes it for null, unless it is encoded. Polars does
/// even so; readers of the table's log never.
const HIVE_NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// The directory of a partition column's value: `column=<value>`, percent-encoded but for letters,
/// digits, `_`, `.` and `-`.
///
/// A value of dots alone, or of Hive's name for null, is encoded whole. None if the name would be
/// longer than [`MAX_NAME_BYTES`] or the value is empty, which readers take for null.
pub fn partition_directory(column: &str, value: &str) -> Option<String> {
    if value.is_empty() {
        return None;
    }
    let reserved = value.bytes().all(|byte| byte == b'.') || value == HIVE_NULL;
    let mut name = format!("{column}=");
    for byte in value.bytes() {
        if (byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-')) && !reserved {
            name.push(char::from(byte));
        } else {
            const DIGITS: [char; 16] = [
                '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F',
            ];
            name.push('%');
            name.push(DIGITS[usize::from(byte >> 4)]);
            name.push(DIGITS[usize::from(byte & 15)]);
        }
    }
    (name.len() <= MAX_NAME_BYTES).then_some(name)
}

/// Makes file names of which none comes twice.
#[derive(Debug)]
pub(crate) struct FileNames {
    /// Random for each builder, from the seed that the standard library draws for hash tables.
    seed: u64,
}

impl FileNames {
    pub(crate) fn new() -> Self {
        Self {
            seed: RandomState::new().hash_one("segment"),
        }
    }

    /// A name for a file whose first row is of the record at `first`.
    pub(crate) fn next(&self, prefix: &str, lane: LaneId, first: Position) -> String {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        // Differs from all others of this builder; from those of other builders by chance of 2^-64.
        let suffix = COUNTER
            .fetch_add(1, Ordering::Relaxed)
            .wrapping_add(self.seed);
        let first = first.get();
        format!("{prefix}{lane}-{first:020}-{suffix:016x}.parquet")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partition_directories_keep_only_safe_characters_plain() {
        let cases = [
            ("Ab9_.-", "project=Ab9_.-"),
            ("a/b", "project=a%2Fb"),
            ("a=b", "project=a%3Db"),
            ("100%", "project=100%25"),
            ("a%20b", "project=a%2520b"),
            ("a b", "project=a%20b"),
            ("~", "project=%7E"),
            (
                "__HIVE_DEFAULT_PARTITION_",
                "project=__HIVE_DEFAULT_PARTITION_",
            ),
            (".", "project=%2E"),
            ("..", "project=%2E%2E"),
            ("../x", "project=..%2Fx"),
            (".a", "project=.a"),
            ("\0\n\"'\\", "project=%00%0A%22%27%5C"),
            ("日本", "project=%E6%97%A5%E6%9C%AC"),
        ];
        for (value, directory) in cases {
            assert_eq!(
                partition_directory("project", value).as_deref(),
                Some(directory)
            );
        }
    }

    #[test]
    fn sixty_four_odd_characters_fit_a_directory_name() {
        let name = partition_directory("project", &"/".repeat(64)).unwrap();
        assert_eq!(name.len(), "project=".len() + 3 * 64);
    }

    #[test]
    fn a_name_of_255_bytes_fits_and_one_more_does_not() {
        assert!(partition_directory("project", &"a".repeat(247)).is_some());
        assert!(partition_directory("project", &"a".repeat(248)).is_none());
        assert!(partition_directory("project", "").is_none());
    }

    #[test]
    fn file_names_never_come_twice() {
        let names = FileNames::new();
        let lane = LaneId::from_bytes([7; 16]);
        let first = names.next("", lane, Position::new(9));
        assert_ne!(first, names.next("", lane, Position::new(9)));
        let start = "07070707070707070707070707070707-00000000000000000009-";
        assert!(
            first.starts_with(start) && first.ends_with(".parquet"),
            "{first}"
        );
    }
}
