//! Asks the processor for cache lines before they are needed.
//!
//! A read that a branch depends on ends the look-ahead when the branch goes the other way, which
//! lookups in a table do every fourth time; a line that was asked for is on its way all the same.

/// Asks for the cache line at an address. A hint: nothing is read, and any address is fine.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn prefetch(address: usize) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    let address = std::ptr::without_provenance(address);
    #[expect(unsafe_code, reason = "the intrinsic takes a pointer")]
    // SAFETY: a prefetch never faults, and SSE is part of every x86-64.
    unsafe {
        _mm_prefetch::<_MM_HINT_T0>(address);
    }
}

/// Elsewhere lookups wait for their lines.
#[cfg(not(target_arch = "x86_64"))]
#[inline]
pub(crate) fn prefetch(_address: usize) {}
