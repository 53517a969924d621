//! Memory for what is read of a log file, used again for the next group.
//!
//! A group has up to some megabytes. Given back after each and asked for anew, its pages were
//! cleared, mapped and unmapped every time.

use std::sync::Arc;

use parking_lot::Mutex;

/// A larger one is given back: a group of one huge request must not hold its memory for ever. Twice
/// the usual `max_group_bytes`.
const MAX_KEPT_BYTES: usize = 8 * 1024 * 1024;

/// Where a buffer goes when nobody reads it any more; one waits at most.
#[derive(Clone, Debug, Default)]
pub(crate) struct GroupBuffers(Arc<Mutex<Vec<u8>>>);

impl GroupBuffers {
    /// A buffer of `len` bytes; what is in them is of no meaning.
    pub(crate) fn take(&self, len: usize) -> GroupBuffer {
        let mut bytes = std::mem::take(&mut *self.0.lock());
        if bytes.len() < len {
            if bytes.capacity() < len {
                // What is in it need not be copied to where it moves.
                bytes.clear();
            }
            bytes.resize(len, 0);
        }
        GroupBuffer {
            bytes,
            len,
            home: self.clone(),
        }
    }

    fn put_back(&self, bytes: Vec<u8>) {
        if bytes.capacity() > MAX_KEPT_BYTES {
            return;
        }
        let mut kept = self.0.lock();
        if kept.capacity() < bytes.capacity() {
            *kept = bytes;
        }
    }
}

/// Bytes read of a log file; goes back when it is dropped.
#[derive(Debug)]
pub(crate) struct GroupBuffer {
    /// All of it was written once, so that nothing is cleared a second time.
    bytes: Vec<u8>,
    len: usize,
    home: GroupBuffers,
}

impl GroupBuffer {
    /// To be read into.
    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.len]
    }

    /// Cuts it to what was read.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

impl AsRef<[u8]> for GroupBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Drop for GroupBuffer {
    fn drop(&mut self) {
        self.home.put_back(std::mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_once_nobody_reads_it() {
        let buffers = GroupBuffers::default();
        let mut first = buffers.take(1_000);
        first.as_mut_slice().fill(7);
        first.truncate(10);
        assert_eq!(first.as_ref(), [7; 10]);
        let address = first.as_ref().as_ptr();
        let second = buffers.take(1_000);
        assert_ne!(second.as_ref().as_ptr(), address, "it is still read");
        drop(first);
        let third = buffers.take(100);
        assert_eq!(third.as_ref().as_ptr(), address);
        assert_eq!(third.len(), 100);
        drop((second, third));
        let larger = buffers.take(2_000);
        assert_eq!(larger.as_ref().len(), 2_000);
    }

    #[test]
    fn what_is_huge_is_given_back() {
        let buffers = GroupBuffers::default();
        drop(buffers.take(MAX_KEPT_BYTES + 1));
        assert_eq!(buffers.0.lock().capacity(), 0);
    }
}
