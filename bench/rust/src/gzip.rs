//! Gzip bodies by libdeflate: bodies for the load, and the bare codec as a reference row.

#![expect(unsafe_code, reason = "libdeflate is C")]

use std::ffi::c_void;
use std::ptr::NonNull;

use libdeflate_sys as sys;

/// Compresses whole bodies; keeps its state between calls.
#[derive(Debug)]
pub struct Compressor(NonNull<sys::libdeflate_compressor>);

impl Compressor {
    /// `level`: 1 to 12. SDKs use zlib's level 6; libdeflate's 6 gives about the same size.
    pub fn new(level: i32) -> Self {
        // SAFETY: takes any number; null says that the level is unknown or memory is short.
        let raw = unsafe { sys::libdeflate_alloc_compressor(level) };
        Self(expect_allocated(raw))
    }

    /// Appends the gzip member of `input` to `out`.
    pub fn compress(&mut self, input: &[u8], out: &mut Vec<u8>) {
        // SAFETY: the compressor is alive.
        let bound = unsafe { sys::libdeflate_gzip_compress_bound(self.0.as_ptr(), input.len()) };
        let start = out.len();
        out.resize(start + bound, 0);
        // SAFETY: both ranges are initialised, alive and as long as said, and do not overlap.
        let len = unsafe {
            sys::libdeflate_gzip_compress(
                self.0.as_ptr(),
                input.as_ptr().cast::<c_void>(),
                input.len(),
                out[start..].as_mut_ptr().cast::<c_void>(),
                bound,
            )
        };
        assert!(len > 0, "the bound was large enough");
        out.truncate(start + len);
    }
}

impl Drop for Compressor {
    fn drop(&mut self) {
        // SAFETY: allocated by `new` and freed once.
        unsafe {
            sys::libdeflate_free_compressor(self.0.as_ptr());
        }
    }
}

/// Decompresses one member; the lower bound of what decoding a gzip body costs.
#[derive(Debug)]
pub struct Decompressor(NonNull<sys::libdeflate_decompressor>);

impl Decompressor {
    pub fn new() -> Self {
        // SAFETY: no arguments; null says that memory is short.
        let raw = unsafe { sys::libdeflate_alloc_decompressor() };
        Self(expect_allocated(raw))
    }

    /// Writes the plain text over `out` and gives its length; None: `input` is not one whole
    /// member, or `out` is too small.
    pub fn decompress(&mut self, input: &[u8], out: &mut [u8]) -> Option<usize> {
        let mut len = 0;
        // SAFETY: both ranges are initialised, alive and as long as said; `len` is written on success.
        let result = unsafe {
            sys::libdeflate_gzip_decompress(
                self.0.as_ptr(),
                input.as_ptr().cast::<c_void>(),
                input.len(),
                out.as_mut_ptr().cast::<c_void>(),
                out.len(),
                &raw mut len,
            )
        };
        (result == sys::libdeflate_result_LIBDEFLATE_SUCCESS).then_some(len)
    }
}

impl Default for Decompressor {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Decompressor {
    fn drop(&mut self) {
        // SAFETY: allocated by `new` and freed once.
        unsafe {
            sys::libdeflate_free_decompressor(self.0.as_ptr());
        }
    }
}

#[expect(
    clippy::expect_used,
    reason = "a few kB at start; without them there is nothing to bench"
)]
fn expect_allocated<T>(raw: *mut T) -> NonNull<T> {
    NonNull::new(raw).expect("libdeflate allocates its state")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_comes_back_whole() {
        let body = b"penstock ".repeat(1000);
        let mut packed = Vec::new();
        Compressor::new(6).compress(&body, &mut packed);
        assert!(packed.len() < body.len() / 10);
        let mut plain = vec![0; body.len()];
        let mut decompressor = Decompressor::new();
        assert_eq!(
            decompressor.decompress(&packed, &mut plain),
            Some(body.len())
        );
        assert_eq!(plain, body);
        assert_eq!(decompressor.decompress(&packed[1..], &mut plain), None);
    }
}
