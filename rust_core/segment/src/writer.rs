//! One Parquet file that is being written.

use std::io;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use penstock_disk::{CrashPoint, SequentialWriter};

use crate::schema::{Kind, arrow_schema, columns};
use crate::stats::FileStats;
use crate::storage::TableDirectory;
use crate::{Codec, Layout, SegmentError, SegmentOptions, TableKind};

/// What every file of a table has in common.
#[derive(Debug)]
pub(crate) struct FileFormat {
    schema: SchemaRef,
    properties: WriterProperties,
}

impl FileFormat {
    pub(crate) fn new(table: TableKind, layout: Layout, options: &SegmentOptions) -> Self {
        let compression = match options.codec {
            Codec::Zstd(level) => Compression::ZSTD(ZstdLevel::try_new(level).unwrap_or_default()),
            Codec::Lz4Raw => Compression::LZ4_RAW,
            Codec::None => Compression::UNCOMPRESSED,
        };
        let mut properties = WriterProperties::builder()
            .set_created_by(concat!("penstock version ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_compression(compression)
            .set_max_row_group_row_count(Some(options.row_group_rows.max(1)))
            .set_dictionary_enabled(false)
            // Page statistics cost a fifth of the speed (`measured.md` §4) and save little here.
            .set_statistics_enabled(EnabledStatistics::Chunk);
        for column in columns(table) {
            let path = match column.kind {
                Kind::Texts => ColumnPath::new(
                    [column.name, "list", "element"]
                        .map(ToOwned::to_owned)
                        .to_vec(),
                ),
                _ => ColumnPath::from(column.name),
            };
            properties = match column.kind {
                Kind::Repeated | Kind::Date | Kind::Texts => {
                    properties.set_column_dictionary_enabled(path, true)
                }
                Kind::Varied | Kind::Bool => properties,
                Kind::Opaque => {
                    properties.set_column_statistics_enabled(path, EnabledStatistics::None)
                }
                Kind::Time | Kind::Int | Kind::Long => {
                    properties.set_column_encoding(path, Encoding::DELTA_BINARY_PACKED)
                }
            };
        }
        Self {
            schema: arrow_schema(table, layout),
            properties: properties.build(),
        }
    }
}

/// Encodes batches of rows into one file.
pub(crate) struct FileWriter {
    arrow: ArrowWriter<SequentialWriter>,
    schema: SchemaRef,
    /// Relative to the table's directory.
    path: String,
}

impl std::fmt::Debug for FileWriter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("FileWriter")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl FileWriter {
    /// Starts the file `path`, just created as `output`.
    pub(crate) fn new(
        format: &FileFormat,
        table: &TableDirectory,
        path: String,
        output: SequentialWriter,
    ) -> Result<Self, SegmentError> {
        // Without Arrow's own schema in the metadata, dictionary columns read back as what they are
        // in Parquet: plain strings.
        let options = ArrowWriterOptions::new()
            .with_properties(format.properties.clone())
            .with_skip_arrow_metadata(true);
        let schema = SchemaRef::clone(&format.schema);
        let arrow = ArrowWriter::try_new_with_options(output, SchemaRef::clone(&schema), options)
            .map_err(|source| failed(table, &path, source))?;
        Ok(Self {
            arrow,
            schema,
            path,
        })
    }

    /// Encodes a batch. A full row group goes to the file.
    pub(crate) fn write(
        &mut self,
        table: &TableDirectory,
        columns: Vec<ArrayRef>,
    ) -> Result<(), SegmentError> {
        let written = RecordBatch::try_new(SchemaRef::clone(&self.schema), columns)
            .map_err(ParquetError::from)
            .and_then(|batch| self.arrow.write(&batch));
        written.map_err(|source| failed(table, &self.path, source))
    }

    /// Bytes that the encoder holds for the row group under way, its compression contexts apart.
    pub(crate) fn held_bytes(&self) -> usize {
        self.arrow.memory_size()
    }

    /// Writes what is held and the footer; returns the file's path and length in bytes.
    ///
    /// Durability: with `sync`, on `Ok` the contents survive a power cut; the name does after
    /// [`TableDirectory::sync_names`].
    pub(crate) fn close(
        mut self,
        table: &TableDirectory,
        stats: &FileStats,
        sync: bool,
    ) -> Result<(String, u64), SegmentError> {
        for (key, value) in metadata(stats) {
            self.arrow
                .append_key_value_metadata(KeyValue::new(key.to_owned(), value));
        }
        // Not `into_inner`, which turns the file's error at its last write into text: small files
        // have no other write.
        self.arrow
            .finish()
            .map_err(|source| failed(table, &self.path, source))?;
        let output = self.arrow.inner();
        let size_bytes = output.written_bytes();
        if sync {
            CrashPoint::SegmentFileWritten.pass();
            output
                .file()
                .sync_all()
                .map_err(|source| SegmentError::Storage {
                    path: table.path_of(&self.path),
                    source,
                })?;
        }
        Ok((self.path, size_bytes))
    }
}

/// Where the rows came from, for whoever has only the file.
fn metadata(stats: &FileStats) -> [(&'static str, String); 3] {
    let lanes: Vec<String> = stats.lanes().iter().map(ToString::to_string).collect();
    [
        (
            "penstock.first_position",
            stats.first_position().to_string(),
        ),
        ("penstock.lanes", lanes.join(",")),
        ("penstock.last_position", stats.last_position().to_string()),
    ]
}

/// The parquet crate wraps the errors of the file: they are taken out again, so that a full disk
/// is told from a failed encoding.
fn failed(table: &TableDirectory, path: &str, error: ParquetError) -> SegmentError {
    let path = table.path_of(path);
    match error {
        ParquetError::External(inner) => match inner.downcast::<io::Error>() {
            Ok(source) => SegmentError::Storage {
                path,
                source: *source,
            },
            Err(inner) => SegmentError::Encode {
                path,
                source: ParquetError::External(inner),
            },
        },
        source => SegmentError::Encode { path, source },
    }
}
