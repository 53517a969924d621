//! What bytes turn out to be coded with.

use penstock_model::Coding;

use super::{base64, form};
use crate::utf8::looks_like_json;

pub(super) const GZIP_MAGIC: &[u8] = b"\x1f\x8b\x08";
pub(super) const ZSTD_MAGIC: &[u8] = b"\x28\xb5\x2f\xfd";

/// Times that base64 is undone: once around what compresses, once inside of it.
const MAX_BASE64_LAYERS: u8 = 2;

/// The outermost coding that is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// None.
    Plain,
    Form,
    /// The request says so.
    Base64,
    /// The letters are such; only what they stand for can tell.
    PerhapsBase64,
    Lz64,
    Gzip,
    Zstd,
    Deflate,
    Brotli,
}

/// What was undone already, or was found not to be there.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Undone {
    form: bool,
    compressed: bool,
    base64_layers: u8,
}

impl Undone {
    pub(super) fn note(&mut self, found: Found) {
        match found {
            Found::Plain => {}
            Found::Form => self.form = true,
            Found::Base64 | Found::PerhapsBase64 => self.base64_layers += 1,
            _ => self.compressed = true,
        }
    }

    pub(super) fn rule_out_base64(&mut self) {
        self.base64_layers = MAX_BASE64_LAYERS;
    }
}

/// Tells what to undo next.
pub(super) fn find(bytes: &[u8], hint: Coding, undone: Undone) -> Found {
    if !undone.compressed {
        if bytes.starts_with(GZIP_MAGIC) {
            return Found::Gzip;
        }
        if bytes.starts_with(ZSTD_MAGIC) {
            return Found::Zstd;
        }
        // Before a look for JSON: these have no magic, and brotli may begin with a bracket.
        match hint {
            Coding::Deflate => return Found::Deflate,
            Coding::Brotli => return Found::Brotli,
            _ => {}
        }
    }
    if looks_like_json(bytes) {
        return Found::Plain;
    }
    if !undone.form && form::looks_like_form(bytes) {
        return Found::Form;
    }
    if hint == Coding::Lz64 && !undone.compressed {
        return Found::Lz64;
    }
    if hint == Coding::Base64 && undone.base64_layers == 0 {
        return Found::Base64;
    }
    if undone.base64_layers < MAX_BASE64_LAYERS && base64::looks_like_base64(bytes) {
        return Found::PerhapsBase64;
    }
    match hint {
        Coding::Gzip if !undone.compressed => Found::Gzip,
        Coding::Zstd if !undone.compressed => Found::Zstd,
        _ => Found::Plain,
    }
}

/// Tells what compresses bytes that are no text. A proxy may have undone gzip or zstd and left the
/// header: without their magic they are not there.
pub(super) fn find_compression(bytes: &[u8], hint: Coding) -> Found {
    match hint {
        _ if bytes.starts_with(GZIP_MAGIC) => Found::Gzip,
        _ if bytes.starts_with(ZSTD_MAGIC) => Found::Zstd,
        Coding::Deflate => Found::Deflate,
        Coding::Brotli => Found::Brotli,
        _ => Found::Plain,
    }
}

/// Whether bytes that nobody has announced are something after all.
pub(super) fn is_readable(bytes: &[u8]) -> bool {
    let is_known = |bytes: &[u8]| {
        looks_like_json(bytes) || bytes.starts_with(GZIP_MAGIC) || bytes.starts_with(ZSTD_MAGIC)
    };
    // Letters alone say nothing: words and numbers are such as well.
    let is_base64 = || {
        base64::looks_like_base64(bytes)
            && base64::decode(bytes).is_some_and(|inner| is_known(&inner))
    };
    is_known(bytes) || is_base64()
}
