//! Values of attributes: scalars, lists and maps of one another, written as JSON without recursion.

use std::borrow::Cow;

use penstock_model::Refusal;

use super::{json, wire};
use crate::json::Value;
use crate::json_text::{push_display, push_hex, push_string};

/// Lists and maps inside of one another. Libraries of protobuf stop reading at 100 nested messages,
/// of which a list takes two and a map three.
const MAX_DEPTH: usize = 48;

/// Bytes of all lists and maps of one export, those inside of others counted again: JSON is gone
/// over again at each level. Eight levels of four mebibytes; without it 48 of them took a second.
pub(super) const MAX_NESTED_BYTES: usize = 32 << 20;

/// A value of an attribute.
#[derive(Clone, Debug)]
pub(super) enum Any<'a> {
    Text(Cow<'a, str>),
    Bool(bool),
    Int(i64),
    Double(f64),
    Bytes(Cow<'a, [u8]>),
    List(Container<'a>),
    Map(Container<'a>),
}

/// Where a list or map lies.
#[derive(Clone, Copy, Debug)]
pub(super) enum Container<'a> {
    /// A serialized `ArrayValue` or `KeyValueList`.
    Wire(&'a [u8]),
    /// Its array in a text.
    Json(&'a str, Value),
}

/// Goes over what is in a list or map.
#[derive(Debug)]
pub(super) enum Entries<'a> {
    Wire(wire::Entries<'a>),
    Json(json::Entries<'a>),
}

/// A list or map that is being written.
#[derive(Debug)]
struct Open<'a> {
    entries: Entries<'a>,
    is_map: bool,
    any: bool,
}

/// How writing a value ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    Whole,
    /// A part of it was written: it is nested too deeply.
    TooDeep,
}

impl<'a> Any<'a> {
    /// A text that is not empty.
    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    /// Appends the value as JSON, and takes what lists and maps it has off `nested_bytes`. Errors: it
    /// breaks its encoding.
    pub(super) fn write(
        &self,
        nested_bytes: &mut usize,
        repaired: &mut bool,
        out: &mut String,
    ) -> Result<Written, Refusal> {
        let mut open: Vec<Open<'a>> = Vec::new();
        let mut next = Some(Cow::Borrowed(self));
        loop {
            if let Some(value) = next.take() {
                let (container, is_map) = match &*value {
                    Self::List(container) => (*container, false),
                    Self::Map(container) => (*container, true),
                    scalar => {
                        scalar.write_scalar(out);
                        continue;
                    }
                };
                let Some(left) = nested_bytes.checked_sub(container.len()) else {
                    return Ok(Written::TooDeep);
                };
                *nested_bytes = left;
                if open.len() == MAX_DEPTH {
                    return Ok(Written::TooDeep);
                }
                out.push(if is_map { '{' } else { '[' });
                open.push(Open {
                    entries: container.entries(is_map),
                    is_map,
                    any: false,
                });
            }
            let Some(top) = open.last_mut() else {
                return Ok(Written::Whole);
            };
            let entry = match &mut top.entries {
                Entries::Wire(entries) => entries.next(repaired)?,
                Entries::Json(entries) => entries.next()?,
            };
            if let Some((key, value)) = entry {
                if top.any {
                    out.push(',');
                }
                top.any = true;
                if top.is_map {
                    push_string(out, &key);
                    out.push(':');
                }
                next = Some(Cow::Owned(value));
            } else {
                out.push(if top.is_map { '}' } else { ']' });
                open.pop();
            }
        }
    }

    fn write_scalar(&self, out: &mut String) {
        match self {
            Self::Text(text) => push_string(out, text),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Int(value) => out.push_str(&value.to_string()),
            // With an exponent where it is long, as JSON has it.
            Self::Double(value) if value.is_finite() => {
                push_display(out, format_args!("{value:?}"));
            }
            Self::Bytes(bytes) => {
                out.push('"');
                push_hex(out, bytes);
                out.push('"');
            }
            // JSON has no NaN and no infinity.
            Self::Double(_) | Self::List(_) | Self::Map(_) => out.push_str("null"),
        }
    }
}

impl<'a> Container<'a> {
    fn len(self) -> usize {
        match self {
            Self::Wire(message) => message.len(),
            Self::Json(_, array) => array.len(),
        }
    }

    fn entries(self, is_map: bool) -> Entries<'a> {
        match self {
            Self::Wire(message) => Entries::Wire(wire::Entries::new(message, is_map)),
            Self::Json(text, array) => Entries::Json(json::Entries::new(text, array, is_map)),
        }
    }
}
