//! The only file that names raw decompressors: libdeflate for gzip and deflate, libzstd for zstd, and
//! for brotli the decoder of its inventors in Rust.
//!
//! libdeflate because it undoes gzip at twice the speed of the safe implementations
//! (`measured.md` §2); its `_ex` call, which tells where a member ends, has no safe wrapper.
#![expect(
    unsafe_code,
    reason = "libdeflate's call for one member has no safe wrapper"
)]

use std::ptr::NonNull;

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use libdeflate_sys as sys;
use penstock_model::{Code, Refusal};
use zstd::zstd_safe;

/// Largest window of a zstd frame, as a power of two: 8 MiB, what RFC 8878 §3.1.1.1.2 asks decoders
/// to support. Each thread keeps one.
const MAX_WINDOW_LOG: u32 = 23;

/// A decompressor of libdeflate.
#[derive(Debug)]
pub(super) struct Inflate {
    raw: NonNull<sys::libdeflate_decompressor>,
}

// SAFETY: the decompressor is plain memory that only its owner touches; nothing of it is bound to
// the thread that made it.
unsafe impl Send for Inflate {}

/// What stands around deflated bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrapping {
    /// RFC 1952.
    Gzip,
    /// RFC 1950.
    Zlib,
    None,
}

/// How reading one member, or one stream, ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MemberEnd {
    /// Its output was appended; it took `read_bytes` of the input.
    Whole { read_bytes: usize },
    /// Nothing was appended: the output needs more capacity.
    NoSpace,
    /// Nothing was appended: no member, a damaged or a truncated one.
    Bad,
}

impl Inflate {
    pub(super) fn new() -> Result<Self, Refusal> {
        // SAFETY: takes no arguments; gives null if there is no memory.
        let raw = unsafe { sys::libdeflate_alloc_decompressor() };
        let raw = NonNull::new(raw).ok_or_else(no_memory)?;
        Ok(Self { raw })
    }

    /// Undoes the member at the start of `input` into the spare capacity of `output`.
    pub(super) fn append_member(
        &mut self,
        wrapping: Wrapping,
        input: &[u8],
        output: &mut Vec<u8>,
    ) -> MemberEnd {
        let decompress = match wrapping {
            Wrapping::Gzip => sys::libdeflate_gzip_decompress_ex,
            Wrapping::Zlib => sys::libdeflate_zlib_decompress_ex,
            Wrapping::None => sys::libdeflate_deflate_decompress_ex,
        };
        let spare = output.spare_capacity_mut();
        let spare_bytes = spare.len();
        let mut read_bytes = 0;
        let mut written_bytes = 0;
        // SAFETY: `raw` is a live decompressor that `&mut self` keeps to this call; both buffers are
        // given with their own lengths; libdeflate writes to the output only, so uninitialised
        // bytes are no problem; the two counters outlive the call.
        let result = unsafe {
            decompress(
                self.raw.as_ptr(),
                input.as_ptr().cast(),
                input.len(),
                spare.as_mut_ptr().cast(),
                spare_bytes,
                &raw mut read_bytes,
                &raw mut written_bytes,
            )
        };
        match result {
            sys::libdeflate_result_LIBDEFLATE_SUCCESS => {
                assert!(written_bytes <= spare_bytes && read_bytes <= input.len());
                let len = output.len() + written_bytes;
                // SAFETY: on success libdeflate has written the first `written_bytes` of the spare
                // capacity, and they fit in it.
                unsafe { output.set_len(len) };
                MemberEnd::Whole { read_bytes }
            }
            sys::libdeflate_result_LIBDEFLATE_INSUFFICIENT_SPACE => MemberEnd::NoSpace,
            _ => MemberEnd::Bad,
        }
    }
}

impl Drop for Inflate {
    fn drop(&mut self) {
        // SAFETY: `raw` came from `libdeflate_alloc_decompressor` and is freed here only.
        unsafe { sys::libdeflate_free_decompressor(self.raw.as_ptr()) };
    }
}

/// A zstd decompressor that works through a frame piece by piece.
pub(super) struct Unzstd {
    context: zstd_safe::DCtx<'static>,
}

impl std::fmt::Debug for Unzstd {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Unzstd").finish_non_exhaustive()
    }
}

/// Why a step of a zstd decompression ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ZstdEnd {
    /// The frame is complete.
    Frame,
    /// The output is full.
    NoSpace,
    /// Damaged, truncated, or with a window over the limit.
    Bad,
}

impl Unzstd {
    pub(super) fn new() -> Result<Self, Refusal> {
        let mut context = zstd_safe::DCtx::try_create().ok_or_else(no_memory)?;
        context
            .set_parameter(zstd_safe::DParameter::WindowLogMax(MAX_WINDOW_LOG))
            .map_err(|_| no_memory())?;
        Ok(Self { context })
    }

    /// Forgets what was left of an earlier body.
    pub(super) fn begin(&mut self) -> Result<(), Refusal> {
        self.context
            .reset(zstd_safe::ResetDirective::SessionOnly)
            .map(|_| ())
            .map_err(|_| no_memory())
    }

    /// Goes on with the frame, appending to the spare capacity of `output`. Tells how much of
    /// `input` was taken.
    pub(super) fn append(&mut self, input: &[u8], output: &mut Vec<u8>) -> (usize, ZstdEnd) {
        let mut input = zstd_safe::InBuffer::around(input);
        let capacity = output.capacity();
        let written = output.len();
        let mut output = zstd_safe::OutBuffer::around_pos(output, written);
        loop {
            let taken_before = (input.pos(), output.pos());
            let end = match self.context.decompress_stream(&mut output, &mut input) {
                Ok(0) => ZstdEnd::Frame,
                Ok(_) if output.pos() == capacity => ZstdEnd::NoSpace,
                // No progress with room left: the input has ended before the frame.
                Ok(_) if taken_before == (input.pos(), output.pos()) => ZstdEnd::Bad,
                Ok(_) => continue,
                Err(_) => ZstdEnd::Bad,
            };
            return (input.pos(), end);
        }
    }
}

/// The size that the first frame of a zstd body claims for itself.
pub(super) fn zstd_size_hint(payload: &[u8]) -> Option<usize> {
    let size = zstd_safe::get_frame_content_size(payload).ok()??;
    Some(usize::try_from(size).unwrap_or(usize::MAX))
}

/// A brotli decompressor for one stream, strict: windows of RFC 7932 only, at most 16 MiB.
pub(super) struct Unbrotli {
    state: BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>,
}

impl std::fmt::Debug for Unbrotli {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Unbrotli").finish_non_exhaustive()
    }
}

/// Why a step of a brotli decompression ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BrotliEnd {
    /// The stream is complete.
    Stream,
    /// The output is full.
    NoSpace,
    /// Damaged or truncated.
    Bad,
}

impl Unbrotli {
    pub(super) fn new() -> Self {
        let alloc = StandardAlloc::default;
        Self {
            state: BrotliState::new_strict(alloc(), alloc(), alloc()),
        }
    }

    /// Goes on with the stream, appending to the spare capacity of `output`. Tells how much of
    /// `input` was taken.
    pub(super) fn append(&mut self, input: &[u8], output: &mut Vec<u8>) -> (usize, BrotliEnd) {
        let mut written = output.len();
        // The decoder takes no memory without a value.
        output.resize(output.capacity(), 0);
        let mut available_in = input.len();
        let mut available_out = output.len() - written;
        let mut read_bytes = 0;
        let mut total = 0;
        let result = BrotliDecompressStream(
            &mut available_in,
            &mut read_bytes,
            input,
            &mut available_out,
            &mut written,
            output,
            &mut total,
            &mut self.state,
        );
        output.truncate(written);
        let end = match result {
            BrotliResult::ResultSuccess => BrotliEnd::Stream,
            BrotliResult::NeedsMoreOutput => BrotliEnd::NoSpace,
            BrotliResult::NeedsMoreInput | BrotliResult::ResultFailure => BrotliEnd::Bad,
        };
        (read_bytes, end)
    }
}

#[cold]
fn no_memory() -> Refusal {
    Refusal::new(Code::Overloaded, "no memory for a decompressor")
}
