//! The protobuf of an export: `opentelemetry/proto/{trace,common,resource}/v1` at version 1.
//!
//! Messages are read where they lie. Field numbers stand beside each match.

use std::borrow::Cow;

use penstock_model::Refusal;

use super::super::lossy;
use super::any::{Any, Container};
use super::span::{Attribute, Attributes, Exception, Resource, Span, TakeSpan};
use crate::protobuf::{FIXED64, LENGTH_DELIMITED, Reader, VARINT};

/// `StatusCode.STATUS_CODE_ERROR`.
pub(super) const STATUS_ERROR: u64 = 2;

/// The value of one field.
#[derive(Clone, Copy, Debug)]
enum Field<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Other,
}

impl<'a> Field<'a> {
    fn bytes(self) -> Result<&'a [u8], Refusal> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => wrong_type(),
        }
    }

    fn varint(self) -> Result<u64, Refusal> {
        match self {
            Self::Varint(value) => Ok(value),
            _ => wrong_type(),
        }
    }

    fn fixed64(self) -> Result<u64, Refusal> {
        match self {
            Self::Fixed64(value) => Ok(value),
            _ => wrong_type(),
        }
    }
}

#[cold]
fn wrong_type<T>() -> Result<T, Refusal> {
    super::invalid("field of another wire type")
}

/// Goes over the fields of a message.
#[derive(Clone, Copy, Debug)]
struct Fields<'a>(Reader<'a>);

impl<'a> Fields<'a> {
    fn of(message: &'a [u8]) -> Self {
        Self(Reader { message, at: 0 })
    }

    /// The next field: its number and its value; `None` at the end.
    fn next(&mut self) -> Result<Option<(u64, Field<'a>)>, Refusal> {
        let reader = &mut self.0;
        if reader.at == reader.message.len() {
            return Ok(None);
        }
        let (number, wire_type) = reader.tag()?;
        let field = match wire_type {
            VARINT => Field::Varint(reader.varint()?),
            FIXED64 => {
                let place = reader.pass(8)?;
                let bytes = reader.message[place].first_chunk().copied();
                Field::Fixed64(u64::from_le_bytes(bytes.unwrap_or_default()))
            }
            LENGTH_DELIMITED => Field::Bytes(&reader.message[reader.bytes()?]),
            _ => {
                reader.skip(wire_type)?;
                Field::Other
            }
        };
        Ok(Some((number, field)))
    }
}

/// Hands out the spans of a serialized `ExportTraceServiceRequest`, in order.
pub(super) fn for_each_span(
    export: &[u8],
    repaired: &mut bool,
    take: TakeSpan<'_>,
) -> Result<(), Refusal> {
    let mut fields = Fields::of(export);
    while let Some((number, field)) = fields.next()? {
        if number == 1 {
            read_resource_spans(field.bytes()?, repaired, take)?;
        }
    }
    Ok(())
}

/// `ResourceSpans`. Its resource may stand behind its spans, so it is looked for first.
fn read_resource_spans(
    message: &[u8],
    repaired: &mut bool,
    take: TakeSpan<'_>,
) -> Result<(), Refusal> {
    let mut resource = Resource::default();
    let mut fields = Fields::of(message);
    while let Some((number, field)) = fields.next()? {
        if number == 1 {
            let mut inner = Fields::of(field.bytes()?);
            while let Some((number, field)) = inner.next()? {
                if number == 1 {
                    read_attribute(field.bytes()?, repaired, &mut resource.attributes)?;
                }
            }
        }
    }
    let mut fields = Fields::of(message);
    while let Some((number, field)) = fields.next()? {
        if number == 2 {
            read_scope_spans(field.bytes()?, &mut resource, repaired, take)?;
        }
    }
    Ok(())
}

/// `ScopeSpans`, likewise.
fn read_scope_spans<'a>(
    message: &'a [u8],
    resource: &mut Resource<'a>,
    repaired: &mut bool,
    take: TakeSpan<'_>,
) -> Result<(), Refusal> {
    resource.scope_version = Cow::Borrowed("");
    let mut fields = Fields::of(message);
    while let Some((number, field)) = fields.next()? {
        if number == 1 {
            let mut inner = Fields::of(field.bytes()?);
            while let Some((number, field)) = inner.next()? {
                if number == 2 {
                    resource.scope_version = lossy(field.bytes()?, repaired);
                }
            }
        }
    }
    let mut fields = Fields::of(message);
    while let Some((number, field)) = fields.next()? {
        if number == 2 {
            take(resource, &read_span(field.bytes()?, repaired)?)?;
        }
    }
    Ok(())
}

fn read_span<'a>(message: &'a [u8], repaired: &mut bool) -> Result<Span<'a>, Refusal> {
    let mut span = Span::default();
    let mut fields = Fields::of(message);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => span.trace_id = Cow::Borrowed(field.bytes()?),
            2 => span.span_id = Cow::Borrowed(field.bytes()?),
            4 => span.parent_span_id = Cow::Borrowed(field.bytes()?),
            5 => span.name = lossy(field.bytes()?, repaired),
            7 => span.start_ns = field.fixed64()?,
            8 => span.end_ns = field.fixed64()?,
            9 => read_attribute(field.bytes()?, repaired, &mut span.attributes)?,
            11 => {
                let exception = read_span_event(field.bytes()?, repaired)?;
                span.exception = exception.or(span.exception);
            }
            15 => {
                let mut status = Fields::of(field.bytes()?);
                while let Some((number, field)) = status.next()? {
                    match number {
                        2 => span.status_message = lossy(field.bytes()?, repaired),
                        3 => span.is_error = field.varint()? == STATUS_ERROR,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Ok(span)
}

/// `Span.Event`, as far as it tells of an exception.
fn read_span_event<'a>(
    message: &'a [u8],
    repaired: &mut bool,
) -> Result<Option<Exception<'a>>, Refusal> {
    let mut exception = Exception::default();
    let mut fields = Fields::of(message);
    while let Some((number, field)) = fields.next()? {
        match number {
            2 => exception.note_name(&lossy(field.bytes()?, repaired)),
            3 => {
                if let Some((key, value)) = read_key_value(field.bytes()?, repaired)? {
                    exception.note(&key, value);
                }
            }
            _ => {}
        }
    }
    Ok(exception.is_one().then_some(exception))
}

fn read_attribute<'a>(
    message: &'a [u8],
    repaired: &mut bool,
    attributes: &mut Attributes<'a>,
) -> Result<(), Refusal> {
    if let Some((key, value)) = read_key_value(message, repaired)? {
        attributes.add(Attribute { key, value });
    }
    Ok(())
}

/// `KeyValue`; `None` without a value.
fn read_key_value<'a>(
    message: &'a [u8],
    repaired: &mut bool,
) -> Result<Option<(Cow<'a, str>, Any<'a>)>, Refusal> {
    let mut key = Cow::Borrowed("");
    let mut value = None;
    let mut fields = Fields::of(message);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => key = lossy(field.bytes()?, repaired),
            2 => value = read_any(field.bytes()?, repaired)?,
            _ => {}
        }
    }
    Ok(value.map(|value| (key, value)))
}

/// `AnyValue`: of its alternatives the last one holds; `None` if there is none.
fn read_any<'a>(message: &'a [u8], repaired: &mut bool) -> Result<Option<Any<'a>>, Refusal> {
    let mut value = None;
    let mut fields = Fields::of(message);
    while let Some((number, field)) = fields.next()? {
        value = Some(match number {
            1 => Any::Text(lossy(field.bytes()?, repaired)),
            2 => Any::Bool(field.varint()? != 0),
            3 => Any::Int(field.varint()?.cast_signed()),
            4 => Any::Double(f64::from_bits(field.fixed64()?)),
            5 => Any::List(Container::Wire(field.bytes()?)),
            6 => Any::Map(Container::Wire(field.bytes()?)),
            7 => Any::Bytes(Cow::Borrowed(field.bytes()?)),
            _ => continue,
        });
    }
    Ok(value)
}

/// Goes over an `ArrayValue` or a `KeyValueList`.
#[derive(Debug)]
pub(super) struct Entries<'a> {
    fields: Fields<'a>,
    is_map: bool,
}

impl<'a> Entries<'a> {
    pub(super) fn new(message: &'a [u8], is_map: bool) -> Self {
        Self {
            fields: Fields::of(message),
            is_map,
        }
    }

    /// The next entry that has a value; its key is empty in a list.
    pub(super) fn next(
        &mut self,
        repaired: &mut bool,
    ) -> Result<Option<(Cow<'a, str>, Any<'a>)>, Refusal> {
        while let Some((number, field)) = self.fields.next()? {
            if number != 1 {
                continue;
            }
            let message = field.bytes()?;
            let entry = if self.is_map {
                read_key_value(message, repaired)?
            } else {
                read_any(message, repaired)?.map(|value| (Cow::Borrowed(""), value))
            };
            if entry.is_some() {
                return Ok(entry);
            }
        }
        Ok(None)
    }
}
