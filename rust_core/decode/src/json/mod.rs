//! A one-pass JSON reader over text that is already known to be UTF-8.
//!
//! It materialises nothing: a value is the place of its text. It never recurses, so no input can
//! exhaust the stack (SEC-1), and it is as strict as RFC 8259 apart from lone surrogate escapes,
//! which it takes and reports.

mod cursor;
mod members;
mod scanner;
mod specials;
mod strings;
mod value;

pub(crate) use members::{Elements, Members};
pub(crate) use scanner::Scanner;
pub(crate) use strings::{Replaced, replace_lone_surrogates, slice, unescape};
pub(crate) use value::Value;

use penstock_model::{Code, Refusal};

/// Where and how a text breaks the rules of JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    at: u32,
    fault: Fault,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Fault {
    ExpectedValue,
    ExpectedKey,
    ExpectedColon,
    ExpectedCommaOrEnd,
    ControlCharacter,
    BadEscape,
    BadNumber,
    BadLiteral,
    UnclosedString,
    JunkAfterDocument,
}

impl SyntaxError {
    #[cold]
    pub(crate) fn new(at: usize, fault: Fault) -> Self {
        // Texts stay below 2^31 bytes (`request::MAX_TEXT_BYTES`).
        Self {
            at: u32::try_from(at).unwrap_or(u32::MAX),
            fault,
        }
    }
}

impl From<SyntaxError> for Refusal {
    /// Names the place and the fault, and nothing of the payload (SEC-2).
    fn from(error: SyntaxError) -> Self {
        let fault = match error.fault {
            Fault::ExpectedValue => "expected a value",
            Fault::ExpectedKey => "expected a key in double quotes",
            Fault::ExpectedColon => "expected a colon",
            Fault::ExpectedCommaOrEnd => "expected a comma or the end of the container",
            Fault::ControlCharacter => "control character in a string",
            Fault::BadEscape => "invalid escape in a string",
            Fault::BadNumber => "invalid number",
            Fault::BadLiteral => "invalid literal",
            Fault::UnclosedString => "string without an end",
            Fault::JunkAfterDocument => "characters after the document",
        };
        Self::new(Code::InvalidJson, format!("{fault} at byte {}", error.at))
    }
}
