//! Content coding: from bytes on the wire to the bytes of a text, capped.
//!
//! What the bytes are wins over what the request says of them: browsers send gzip without a word,
//! and proxies undo it and leave the header. Codings of text (a form, base64) may stand around one
//! that compresses, or inside of it; each is undone at most once, base64 twice.

mod base64;
mod compressed;
mod form;
mod lz64;
mod raw;
mod sniff;

use std::borrow::Cow;

use penstock_model::{BodyForm, Code, Coding, DecodeLimits, Refusal};

pub(crate) use compressed::Decompressors;
use sniff::{Found, Undone};

use crate::ai;
use crate::utf8::looks_like_json;

/// Guess for a compressed body that doesn't tell its size; JSON of events shrinks 5 to 12 times.
const GUESSED_RATIO: usize = 16;

/// Name of the outermost coding of `payload`, as decoding tells it: that of the `Content-Encoding`
/// where there is one, else `form`, `base64` or `lz64`.
pub fn coding_name(payload: &[u8], hint: Coding, form: &BodyForm) -> &'static str {
    let found = match form {
        BodyForm::Events => sniff::find(payload, hint, Undone::default()),
        _ => sniff::find_compression(payload, hint),
    };
    match found {
        Found::Plain => "identity",
        Found::Form => "form",
        Found::Base64 | Found::PerhapsBase64 => "base64",
        Found::Lz64 => "lz64",
        Found::Gzip => "gzip",
        Found::Zstd => "zstd",
        Found::Deflate => "deflate",
        Found::Brotli => "br",
    }
}

/// Guesses how many bytes `payload` becomes once its content coding is undone: what admission
/// counts. Reads only the sizes that the payload claims; decoding holds the limit in any case.
///
/// The length of the payload itself, of a body of events, says that it needs no room but its own.
pub fn expected_decoded_bytes(
    payload: &[u8],
    coding: Coding,
    form: &BodyForm,
    limits: &DecodeLimits,
) -> usize {
    if *form != BodyForm::Events {
        return ai::expected_bytes(payload, coding, form, limits);
    }
    let guessed = payload.len().saturating_mul(GUESSED_RATIO);
    let claimed = match sniff::find(payload, coding, Undone::default()) {
        Found::Plain => return payload.len(),
        // Less than the payload, which is held beside it.
        Found::Form => return payload.len().saturating_sub(form::LEAST_BYTES),
        Found::Base64 | Found::PerhapsBase64 => return payload.len() / 4 * 3,
        Found::Deflate | Found::Brotli if looks_like_json(payload) => return payload.len(),
        Found::Gzip => compressed::gzip_size_hint(payload),
        Found::Zstd => raw::zstd_size_hint(payload).unwrap_or(guessed),
        Found::Deflate | Found::Brotli | Found::Lz64 => guessed,
    };
    let max_bytes = limits.max_decompressed_bytes as usize;
    claimed.max(payload.len()).min(max_bytes)
}

/// The same for a payload in which no text stands around what compresses.
pub(crate) fn expected_decompressed_bytes(payload: &[u8], hint: Coding, max_bytes: usize) -> usize {
    let guessed = payload.len().saturating_mul(GUESSED_RATIO);
    let claimed = match sniff::find_compression(payload, hint) {
        Found::Gzip => compressed::gzip_size_hint(payload),
        Found::Zstd => raw::zstd_size_hint(payload).unwrap_or(guessed),
        Found::Deflate | Found::Brotli => guessed,
        _ => return payload.len(),
    };
    claimed.max(payload.len()).min(max_bytes)
}

impl Decompressors {
    /// Undoes what compresses `payload`, and no coding of text; borrows it if there was nothing.
    ///
    /// Errors: [`Code::DecompressedTooLarge`] past `max_bytes`, the code of a coding whose rules the
    /// bytes break.
    pub(crate) fn undo_compression<'a>(
        &mut self,
        payload: &'a [u8],
        hint: Coding,
        max_bytes: usize,
    ) -> Result<Cow<'a, [u8]>, Refusal> {
        Ok(Cow::Owned(match sniff::find_compression(payload, hint) {
            Found::Gzip => self.gunzip(payload, max_bytes)?,
            Found::Zstd => self.unzstd(payload, max_bytes)?,
            Found::Deflate => self.inflate(payload, max_bytes)?,
            Found::Brotli => compressed::unbrotli(payload, max_bytes)?,
            _ => return Ok(Cow::Borrowed(payload)),
        }))
    }

    /// Undoes the content coding of `payload`; borrows it if there was none.
    ///
    /// Errors: [`Code::DecompressedTooLarge`] past `max_bytes`, the code of a coding whose rules the
    /// bytes break, [`Code::MissingPayload`] for a form without `data`; output that came before a
    /// fault is never used. Memory stays at `max_bytes` and the payload, whatever that claims.
    pub(crate) fn undo<'a>(
        &mut self,
        payload: &'a [u8],
        hint: Coding,
        max_bytes: usize,
    ) -> Result<Cow<'a, [u8]>, Refusal> {
        let mut bytes = Cow::Borrowed(payload);
        let mut hint = hint;
        let mut undone = Undone::default();
        // Each turn undoes one of the few layers that there may be, or rules one out.
        loop {
            let found = sniff::find(&bytes, hint, undone);
            undone.note(found);
            bytes = Cow::Owned(match found {
                Found::Plain => break,
                Found::Form => {
                    let form = form::read(&bytes)?;
                    // A form that was sent on by a proxy may stand under another's header.
                    hint = form.coding.unwrap_or(hint);
                    form.data
                }
                Found::Base64 => base64::decode(&bytes)
                    .ok_or_else(|| Refusal::new(Code::InvalidBase64, "the data is no base64"))?,
                Found::PerhapsBase64 => match base64::decode(&bytes) {
                    Some(decoded) if sniff::is_readable(&decoded) => decoded,
                    _ => {
                        undone.rule_out_base64();
                        continue;
                    }
                },
                Found::Lz64 => lz64::decode(&bytes, max_bytes)?,
                Found::Gzip => self.gunzip(&bytes, max_bytes)?,
                Found::Zstd => self.unzstd(&bytes, max_bytes)?,
                Found::Deflate | Found::Brotli => {
                    let output = match found {
                        Found::Deflate => self.inflate(&bytes, max_bytes),
                        _ => compressed::unbrotli(&bytes, max_bytes),
                    };
                    match output {
                        // Undone on the way, with the header left as it was.
                        Err(refusal)
                            if refusal.code != Code::DecompressedTooLarge
                                && looks_like_json(&bytes) =>
                        {
                            continue;
                        }
                        output => output?,
                    }
                }
            });
        }
        if let Cow::Owned(output) = &mut bytes {
            // The text is kept until it is in the table; slack of up to an eighth isn't worth a
            // copy.
            if output.capacity() - output.len() > output.len() / 8 {
                output.shrink_to_fit();
            }
        }
        Ok(bytes)
    }
}
