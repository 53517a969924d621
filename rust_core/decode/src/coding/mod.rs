//! Content coding: from bytes on the wire to the bytes of a text, capped.
//!
//! What the bytes are wins over what the request says of them: browsers send gzip without a word,
//! and proxies undo it and leave the header.

mod raw;

use std::borrow::Cow;

use penstock_model::{Code, Coding, DecodeLimits, Refusal};

use crate::utf8::looks_like_json;
use raw::{Gunzip, MemberEnd, Unzstd, ZstdEnd};

const GZIP_MAGIC: &[u8] = b"\x1f\x8b\x08";
const ZSTD_MAGIC: &[u8] = b"\x28\xb5\x2f\xfd";

/// Deflate makes at most 1,032 bytes of one (a match of 258 bytes in two bits), so a size hint
/// beyond it is a lie.
const MAX_DEFLATE_RATIO: usize = 1_032;

/// First size of an output buffer when nothing better is known.
const MIN_OUTPUT_BYTES: usize = 4 << 10;

/// Guess for a zstd body that doesn't tell its size; JSON of events shrinks 5 to 12 times.
const GUESSED_ZSTD_RATIO: usize = 16;

/// What a body turns out to be coded with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Identity,
    Gzip,
    Zstd,
}

fn find(payload: &[u8], hint: Coding) -> Found {
    if payload.starts_with(GZIP_MAGIC) {
        return Found::Gzip;
    }
    if payload.starts_with(ZSTD_MAGIC) {
        return Found::Zstd;
    }
    match hint {
        Coding::Gzip if !looks_like_json(payload) => Found::Gzip,
        Coding::Zstd if !looks_like_json(payload) => Found::Zstd,
        _ => Found::Identity,
    }
}

/// What `payload` is coded with, as decoding tells it; never [`Coding::Unspecified`].
pub fn coding_of(payload: &[u8], hint: Coding) -> Coding {
    match find(payload, hint) {
        Found::Identity => Coding::Identity,
        Found::Gzip => Coding::Gzip,
        Found::Zstd => Coding::Zstd,
    }
}

/// Guesses how many bytes `payload` becomes once its content coding is undone: what admission
/// counts. Reads only the sizes that the payload claims; decoding holds the limit in any case.
pub fn expected_decoded_bytes(payload: &[u8], coding: Coding, limits: &DecodeLimits) -> usize {
    let max_bytes = limits.max_decompressed_bytes as usize;
    match find(payload, coding) {
        Found::Identity => payload.len(),
        Found::Gzip => gzip_size_hint(payload).max(payload.len()).min(max_bytes),
        Found::Zstd => raw::zstd_size_hint(payload)
            .unwrap_or_else(|| payload.len().saturating_mul(GUESSED_ZSTD_RATIO))
            .max(payload.len())
            .min(max_bytes),
    }
}

/// The size that the last member of a gzip body claims for itself.
fn gzip_size_hint(payload: &[u8]) -> usize {
    let claimed = payload
        .last_chunk::<4>()
        .map_or(0, |bytes| u32::from_le_bytes(*bytes));
    (claimed as usize).min(payload.len().saturating_mul(MAX_DEFLATE_RATIO))
}

/// The decompressors of one thread, made when first needed and used again and again.
#[derive(Debug, Default)]
pub(crate) struct Decompressors {
    gzip: Option<Gunzip>,
    zstd: Option<Unzstd>,
}

impl Decompressors {
    /// Undoes the content coding of `payload`; borrows it if there was none.
    ///
    /// Errors: [`Code::DecompressedTooLarge`] past `max_bytes`, [`Code::InvalidGzip`] and
    /// [`Code::InvalidZstd`]; output that came before a fault is never used. Memory stays at
    /// `max_bytes`, whatever the payload claims.
    pub(crate) fn undo<'a>(
        &mut self,
        payload: &'a [u8],
        hint: Coding,
        max_bytes: usize,
    ) -> Result<Cow<'a, [u8]>, Refusal> {
        let mut output = match find(payload, hint) {
            Found::Identity => return Ok(Cow::Borrowed(payload)),
            Found::Gzip => self.gunzip(payload, max_bytes)?,
            Found::Zstd => self.unzstd(payload, max_bytes)?,
        };
        // The text is kept until it is in the table; slack of up to an eighth isn't worth a copy.
        if output.capacity() - output.len() > output.len() / 8 {
            output.shrink_to_fit();
        }
        Ok(Cow::Owned(output))
    }

    fn gunzip(&mut self, payload: &[u8], max_bytes: usize) -> Result<Vec<u8>, Refusal> {
        let gunzip = match &mut self.gzip {
            Some(gunzip) => gunzip,
            none => none.insert(Gunzip::new()?),
        };
        let first_bytes = gzip_size_hint(payload).max(MIN_OUTPUT_BYTES).min(max_bytes);
        let mut output = Vec::with_capacity(first_bytes);
        let mut rest = payload;
        loop {
            match gunzip.append_member(rest, &mut output) {
                MemberEnd::Whole { read_bytes } => rest = &rest[read_bytes..],
                MemberEnd::NoSpace => grow(&mut output, max_bytes)?,
                MemberEnd::Bad => {
                    let detail = "the body is cut short or damaged";
                    return Err(Refusal::new(Code::InvalidGzip, detail));
                }
            }
            // Anything behind a member that doesn't begin like another one is padding.
            if rest.len() < payload.len() && !rest.starts_with(GZIP_MAGIC) {
                return Ok(output);
            }
        }
    }

    fn unzstd(&mut self, payload: &[u8], max_bytes: usize) -> Result<Vec<u8>, Refusal> {
        let unzstd = match &mut self.zstd {
            Some(unzstd) => unzstd,
            none => none.insert(Unzstd::new()?),
        };
        let claimed = raw::zstd_size_hint(payload).unwrap_or(payload.len().saturating_mul(4));
        // A claim costs nothing; believe as much of it as a typical body can hold.
        let believed = claimed.min(payload.len().saturating_mul(64));
        let mut output = Vec::with_capacity(believed.max(MIN_OUTPUT_BYTES).min(max_bytes));
        let mut rest = payload;
        unzstd.begin()?;
        loop {
            let (read_bytes, end) = unzstd.append(rest, &mut output);
            rest = &rest[read_bytes..];
            match end {
                ZstdEnd::Frame if rest.starts_with(ZSTD_MAGIC) => unzstd.begin()?,
                ZstdEnd::Frame => return Ok(output),
                ZstdEnd::NoSpace => grow(&mut output, max_bytes)?,
                ZstdEnd::Bad => {
                    let detail = "the body is cut short, damaged or needs a window over 8 MiB";
                    return Err(Refusal::new(Code::InvalidZstd, detail));
                }
            }
        }
    }
}

/// Makes room for more output: doubles up to the limit, past it refuses.
fn grow(output: &mut Vec<u8>, max_bytes: usize) -> Result<(), Refusal> {
    let capacity = output.capacity();
    if capacity >= max_bytes {
        let detail = format!("more than {max_bytes} bytes");
        return Err(Refusal::new(Code::DecompressedTooLarge, detail));
    }
    let wanted = capacity.saturating_mul(2).min(max_bytes);
    output.reserve_exact(wanted - output.len());
    Ok(())
}
