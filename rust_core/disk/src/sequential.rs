//! A file as a stream.

use std::io::{self, Write};
use std::sync::Arc;

use crate::File;

/// Writes a file from its start to its end; for writers that want `std::io::Write`.
///
/// Unbuffered: each call is a system call, and goes by [`File::write_all_paced_at`]. `flush` does
/// nothing, and nothing is durable before [`File::sync_data`].
#[derive(Debug)]
pub struct SequentialWriter {
    file: Arc<dyn File>,
    offset: u64,
}

impl SequentialWriter {
    /// Starts at the first byte of `file`.
    pub fn new(file: Arc<dyn File>) -> Self {
        Self { file, offset: 0 }
    }

    /// Bytes written so far.
    pub fn written_bytes(&self) -> u64 {
        self.offset
    }

    /// The file written to.
    pub fn file(&self) -> &Arc<dyn File> {
        &self.file
    }

    /// Gives the file back.
    pub fn into_file(self) -> Arc<dyn File> {
        self.file
    }
}

impl Write for SequentialWriter {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.file.write_all_paced_at(buffer, self.offset)?;
        self.offset += buffer.len() as u64;
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
