//! Compressed bodies, undone into one buffer that grows up to the limit.

use penstock_model::{Code, Refusal};

use super::raw::{self, BrotliEnd, Inflate, MemberEnd, Unbrotli, Unzstd, Wrapping, ZstdEnd};
use super::sniff::{GZIP_MAGIC, ZSTD_MAGIC};

/// Deflate makes at most 1,032 bytes of one (a match of 258 bytes in two bits), so a size hint
/// beyond it is a lie.
const MAX_DEFLATE_RATIO: usize = 1_032;

/// First size of an output buffer when nothing better is known.
const MIN_OUTPUT_BYTES: usize = 4 << 10;

/// The same for a larger body; JSON of events shrinks 5 to 12 times.
const FIRST_RATIO: usize = 4;

/// The size that the last member of a gzip body claims for itself.
pub(super) fn gzip_size_hint(payload: &[u8]) -> usize {
    let claimed = payload
        .last_chunk::<4>()
        .map_or(0, |bytes| u32::from_le_bytes(*bytes));
    (claimed as usize).min(payload.len().saturating_mul(MAX_DEFLATE_RATIO))
}

/// The decompressors of one thread, made when first needed and used again and again. Brotli's are
/// made for each body: they hold up to 16 MiB, and hardly anybody sends it.
#[derive(Debug, Default)]
pub(crate) struct Decompressors {
    inflate: Option<Inflate>,
    zstd: Option<Unzstd>,
}

impl Decompressors {
    fn inflater(&mut self) -> Result<&mut Inflate, Refusal> {
        match &mut self.inflate {
            Some(inflate) => Ok(inflate),
            none => Ok(none.insert(Inflate::new()?)),
        }
    }

    /// Undoes all members of a gzip body.
    pub(super) fn gunzip(&mut self, payload: &[u8], max_bytes: usize) -> Result<Vec<u8>, Refusal> {
        let inflate = self.inflater()?;
        let mut output = first_buffer(gzip_size_hint(payload), max_bytes);
        let mut rest = payload;
        loop {
            match inflate.append_member(Wrapping::Gzip, rest, &mut output) {
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

    /// Undoes the HTTP coding `deflate`: zlib's wrapping, or none at all as many clients have it.
    pub(super) fn inflate(&mut self, payload: &[u8], max_bytes: usize) -> Result<Vec<u8>, Refusal> {
        let inflate = self.inflater()?;
        let wrappings = if has_zlib_head(payload) {
            &[Wrapping::Zlib, Wrapping::None][..]
        } else {
            &[Wrapping::None]
        };
        for wrapping in wrappings {
            let mut output = first_buffer(payload.len().saturating_mul(FIRST_RATIO), max_bytes);
            loop {
                match inflate.append_member(*wrapping, payload, &mut output) {
                    MemberEnd::Whole { .. } => return Ok(output),
                    MemberEnd::NoSpace => grow(&mut output, max_bytes)?,
                    MemberEnd::Bad => break,
                }
            }
        }
        let detail = "the body is cut short or damaged";
        Err(Refusal::new(Code::InvalidDeflate, detail))
    }

    /// Undoes all frames of a zstd body.
    pub(super) fn unzstd(&mut self, payload: &[u8], max_bytes: usize) -> Result<Vec<u8>, Refusal> {
        let unzstd = match &mut self.zstd {
            Some(unzstd) => unzstd,
            none => none.insert(Unzstd::new()?),
        };
        let guessed = payload.len().saturating_mul(FIRST_RATIO);
        let claimed = raw::zstd_size_hint(payload).unwrap_or(guessed);
        // A claim costs nothing; believe as much of it as a typical body can hold.
        let believed = claimed.min(payload.len().saturating_mul(64));
        let mut output = first_buffer(believed, max_bytes);
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

/// Undoes a brotli stream.
pub(super) fn unbrotli(payload: &[u8], max_bytes: usize) -> Result<Vec<u8>, Refusal> {
    let mut unbrotli = Unbrotli::new();
    let mut output = first_buffer(payload.len().saturating_mul(FIRST_RATIO), max_bytes);
    let mut rest = payload;
    loop {
        let (read_bytes, end) = unbrotli.append(rest, &mut output);
        rest = &rest[read_bytes..];
        match end {
            BrotliEnd::Stream => return Ok(output),
            BrotliEnd::NoSpace => grow(&mut output, max_bytes)?,
            BrotliEnd::Bad => {
                let detail = "the body is cut short or damaged";
                return Err(Refusal::new(Code::InvalidBrotli, detail));
            }
        }
    }
}

/// Whether the bytes begin as RFC 1950 says: method 8, a window that there is, a sum that fits.
fn has_zlib_head(payload: &[u8]) -> bool {
    let Some([method, flags]) = payload.first_chunk::<2>() else {
        return false;
    };
    method & 0x0f == 8 && method >> 4 <= 7 && u16::from_be_bytes([*method, *flags]) % 31 == 0
}

fn first_buffer(hint: usize, max_bytes: usize) -> Vec<u8> {
    Vec::with_capacity(hint.max(MIN_OUTPUT_BYTES).min(max_bytes))
}

/// Makes room for more output: doubles up to the limit, past it refuses.
fn grow(output: &mut Vec<u8>, max_bytes: usize) -> Result<(), Refusal> {
    let capacity = output.capacity();
    if capacity >= max_bytes {
        return Err(too_large(max_bytes));
    }
    let wanted = capacity.saturating_mul(2).min(max_bytes);
    output.reserve_exact(wanted - output.len());
    Ok(())
}

#[cold]
pub(super) fn too_large(max_bytes: usize) -> Refusal {
    let detail = format!("more than {max_bytes} bytes");
    Refusal::new(Code::DecompressedTooLarge, detail)
}
