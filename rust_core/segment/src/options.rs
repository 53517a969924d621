//! What a builder is opened with.

/// How column chunks are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// Levels 1 to 22; others are taken as 1.
    Zstd(i32),
    Lz4Raw,
    None,
}

/// Where files go, and which columns they hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// A table's directory: `project=…/date=…/…parquet`; the partition columns are in the path and
    /// not in the file. Files and directories are synced (TAB-2).
    Partitioned,
    /// One folder with a file or a few for each table, told apart by their names, all columns inside,
    /// for a query of its own process. Nothing is synced: such files are thrown away with the query.
    Flat,
}

/// Limits and encodings of a [`crate::CutBuilder`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentOptions {
    pub codec: Codec,
    /// Rows of a row group. 10 k to all rows: same speed and size (`measured.md` §4), so memory
    /// and pruning decide.
    pub row_group_rows: usize,
    /// Rows that go through the encoder at once. 8 k stay in the cache; 100 k cost 10–30 %.
    pub batch_rows: usize,
    /// Partitions held at once; past it the least recently used one's file is closed early.
    pub max_open_partitions: usize,
    /// Partitions with an encoder, and so a file, open at once; past it the least recently used
    /// one's file is closed early. Each holds a compression context for every column.
    pub max_open_files: usize,
    /// Bytes held by all partitions together; past it the largest one's file is closed early.
    pub max_buffered_bytes: usize,
    /// A refused event's text is cut to this, at a character's border.
    pub max_rejected_raw_bytes: usize,
}

impl SegmentOptions {
    pub const DEFAULT: Self = Self {
        codec: Codec::Zstd(1),
        row_group_rows: 100_000,
        batch_rows: 8_192,
        max_open_partitions: 2_000,
        max_open_files: 16,
        max_buffered_bytes: 64 << 20,
        max_rejected_raw_bytes: 64 << 10,
    };
}

impl Default for SegmentOptions {
    fn default() -> Self {
        Self::DEFAULT
    }
}
