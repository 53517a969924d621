//! The JSON of an export: protobuf's mapping, with ids in hexadecimal as OTLP has it. Names in
//! camel case or as in the message definitions; numbers of 64 bits as texts or as numbers.
//!
//! The text is scanned once; what was found good is gone over again for what lies in it.

use std::borrow::Cow;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use penstock_model::Refusal;

use super::any::{Any, Container};
use super::invalid;
use super::span::{Attribute, Attributes, Exception, Resource, Span, TakeSpan};
use super::wire::STATUS_ERROR;
use crate::json::{Elements, Members, Scanner, Value, slice};
use crate::utf8::byte_order_mark;

/// Of bytes in JSON: with or without padding, as protobuf's mapping takes it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Hands out the spans of an `ExportTraceServiceRequest`, in order.
pub(super) fn for_each_span(text: &str, take: TakeSpan<'_>) -> Result<(), Refusal> {
    let bytes = text.as_bytes();
    let mut scanner = Scanner::new(bytes, byte_order_mark(bytes), u32::MAX);
    let export = scanner.value(0)?;
    scanner.end()?;
    let reader = Text(text);
    for (key, value) in reader.members(export)? {
        if matches!(&*reader.name(key), "resourceSpans" | "resource_spans") {
            for element in reader.elements(value)? {
                reader.resource_spans(element, take)?;
            }
        }
    }
    Ok(())
}

/// A scanned text. `null` is what an absent value is.
#[derive(Clone, Copy, Debug)]
struct Text<'a>(&'a str);

impl<'a> Text<'a> {
    fn bytes(self) -> &'a [u8] {
        self.0.as_bytes()
    }

    fn name(self, key: Value) -> Cow<'a, str> {
        Members::key_text(self.0, key)
    }

    fn members(
        self,
        value: Value,
    ) -> Result<impl Iterator<Item = (Value, Value)> + use<'a>, Refusal> {
        if !value.is_null(self.bytes()) && !value.is_object(self.bytes()) {
            return invalid("something is no object");
        }
        let object = value.is_object(self.bytes());
        Ok(object
            .then(|| Members::new(self.0.as_bytes(), value))
            .into_iter()
            .flatten()
            .filter(move |(_, value)| !value.is_null(self.bytes())))
    }

    fn elements(self, value: Value) -> Result<impl Iterator<Item = Value> + use<'a>, Refusal> {
        self.check_array(value)?;
        Ok(Elements::new(self.0.as_bytes(), value))
    }

    fn check_array(self, value: Value) -> Result<(), Refusal> {
        if value.kind(self.bytes()) == b'[' {
            return Ok(());
        }
        invalid("something is no array")
    }

    fn string(self, value: Value) -> Result<Cow<'a, str>, Refusal> {
        if !value.is_string(self.bytes()) {
            return invalid("something is no text");
        }
        Ok(self.name(value))
    }

    /// A number, or a text of its digits.
    fn number(self, value: Value) -> Result<Cow<'a, str>, Refusal> {
        if value.is_number(self.bytes()) {
            return Ok(Cow::Borrowed(slice(self.0, value.start(), value.end())));
        }
        self.string(value)
    }

    fn id(self, value: Value) -> Result<Cow<'a, [u8]>, Refusal> {
        let text = self.string(value)?;
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let byte = |[high, low]: &[u8; 2]| u8::try_from(digit(*high)? << 4 | digit(*low)?).ok();
        let bytes: Option<Vec<u8>> = pairs.iter().map(byte).collect();
        match bytes {
            Some(bytes) if rest.is_empty() => Ok(Cow::Owned(bytes)),
            _ => invalid("an id is not hexadecimal"),
        }
    }

    fn nanoseconds(self, value: Value) -> Result<u64, Refusal> {
        let number = self.number(value)?;
        number
            .parse()
            .or_else(|_| invalid("a time is no number of nanoseconds"))
    }

    /// `ResourceSpans`: its resource may stand behind its spans.
    fn resource_spans(self, value: Value, take: TakeSpan<'_>) -> Result<(), Refusal> {
        let mut resource = Resource::default();
        for (key, value) in self.members(value)? {
            if self.name(key) == "resource" {
                for (key, value) in self.members(value)? {
                    if self.name(key) == "attributes" {
                        self.attributes(value, &mut resource.attributes)?;
                    }
                }
            }
        }
        for (key, value) in self.members(value)? {
            if matches!(&*self.name(key), "scopeSpans" | "scope_spans") {
                for element in self.elements(value)? {
                    self.scope_spans(element, &mut resource, take)?;
                }
            }
        }
        Ok(())
    }

    fn scope_spans(
        self,
        value: Value,
        resource: &mut Resource<'a>,
        take: TakeSpan<'_>,
    ) -> Result<(), Refusal> {
        resource.scope_version = Cow::Borrowed("");
        for (key, value) in self.members(value)? {
            if self.name(key) == "scope" {
                for (key, value) in self.members(value)? {
                    if self.name(key) == "version" {
                        resource.scope_version = self.string(value)?;
                    }
                }
            }
        }
        for (key, value) in self.members(value)? {
            if self.name(key) == "spans" {
                for element in self.elements(value)? {
                    take(resource, &self.span(element)?)?;
                }
            }
        }
        Ok(())
    }

    fn span(self, value: Value) -> Result<Span<'a>, Refusal> {
        let mut span = Span::default();
        for (key, value) in self.members(value)? {
            match &*self.name(key) {
                "traceId" | "trace_id" => span.trace_id = self.id(value)?,
                "spanId" | "span_id" => span.span_id = self.id(value)?,
                "parentSpanId" | "parent_span_id" => span.parent_span_id = self.id(value)?,
                "name" => span.name = self.string(value)?,
                "startTimeUnixNano" | "start_time_unix_nano" => {
                    span.start_ns = self.nanoseconds(value)?;
                }
                "endTimeUnixNano" | "end_time_unix_nano" => {
                    span.end_ns = self.nanoseconds(value)?;
                }
                "attributes" => self.attributes(value, &mut span.attributes)?,
                "events" => {
                    for element in self.elements(value)? {
                        let exception = self.span_event(element)?;
                        span.exception = exception.or(span.exception);
                    }
                }
                "status" => self.status(value, &mut span)?,
                _ => {}
            }
        }
        Ok(span)
    }

    fn status(self, value: Value, span: &mut Span<'a>) -> Result<(), Refusal> {
        for (key, value) in self.members(value)? {
            match &*self.name(key) {
                "message" => span.status_message = self.string(value)?,
                "code" => {
                    let code = self.number(value)?;
                    span.is_error = code == "STATUS_CODE_ERROR" || code.parse() == Ok(STATUS_ERROR);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn span_event(self, value: Value) -> Result<Option<Exception<'a>>, Refusal> {
        let mut exception = Exception::default();
        for (key, value) in self.members(value)? {
            match &*self.name(key) {
                "name" => exception.note_name(&self.string(value)?),
                "attributes" => {
                    for element in self.elements(value)? {
                        if let Some((key, value)) = self.key_value(element)? {
                            exception.note(&key, value);
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(exception.is_one().then_some(exception))
    }

    fn attributes(self, value: Value, attributes: &mut Attributes<'a>) -> Result<(), Refusal> {
        for element in self.elements(value)? {
            if let Some((key, value)) = self.key_value(element)? {
                attributes.add(Attribute { key, value });
            }
        }
        Ok(())
    }

    /// `KeyValue`; `None` without a value.
    fn key_value(self, value: Value) -> Result<Option<(Cow<'a, str>, Any<'a>)>, Refusal> {
        let mut name = Cow::Borrowed("");
        let mut any = None;
        for (key, value) in self.members(value)? {
            match &*self.name(key) {
                "key" => name = self.string(value)?,
                "value" => any = self.any(value)?,
                _ => {}
            }
        }
        Ok(any.map(|any| (name, any)))
    }

    /// `AnyValue`: of its alternatives the last one holds; `None` if there is none.
    fn any(self, value: Value) -> Result<Option<Any<'a>>, Refusal> {
        let mut any = None;
        for (key, value) in self.members(value)? {
            any = Some(match &*self.name(key) {
                "stringValue" | "string_value" => Any::Text(self.string(value)?),
                "boolValue" | "bool_value" => match value.kind(self.bytes()) {
                    b't' => Any::Bool(true),
                    b'f' => Any::Bool(false),
                    _ => return invalid("a boolean is none"),
                },
                "intValue" | "int_value" => self.int(value)?,
                "doubleValue" | "double_value" => self.double(value)?,
                "bytesValue" | "bytes_value" => {
                    let text = self.string(value)?;
                    match BASE64.decode(&*text) {
                        Ok(bytes) => Any::Bytes(Cow::Owned(bytes)),
                        Err(_) => return invalid("bytes are no base64"),
                    }
                }
                "arrayValue" | "array_value" => Any::List(self.container(value)?),
                "kvlistValue" | "kvlist_value" => Any::Map(self.container(value)?),
                _ => continue,
            });
        }
        Ok(any)
    }

    fn int(self, value: Value) -> Result<Any<'a>, Refusal> {
        let number = self.number(value)?;
        if let Ok(number) = number.parse() {
            return Ok(Any::Int(number));
        }
        // `1e3` and `1.0` are whole numbers to writers of JSON.
        match number.parse() {
            Ok(number) => Ok(Any::Double(number)),
            Err(_) => invalid("a whole number is none"),
        }
    }

    fn double(self, value: Value) -> Result<Any<'a>, Refusal> {
        let number = self.number(value)?;
        // Rust reads `NaN`, `Infinity` and `-Infinity` as the mapping writes them.
        match number.parse() {
            Ok(number) => Ok(Any::Double(number)),
            Err(_) => invalid("a number is none"),
        }
    }

    /// The array `values` of a list or map; absent if there is none.
    fn container(self, value: Value) -> Result<Container<'a>, Refusal> {
        let mut values = Value::ABSENT;
        for (key, value) in self.members(value)? {
            if self.name(key) == "values" {
                self.check_array(value)?;
                values = value;
            }
        }
        Ok(Container::Json(self.0, values))
    }
}

/// Goes over the values of a list or map.
#[derive(Debug)]
pub(super) struct Entries<'a> {
    text: Text<'a>,
    elements: Option<Elements<'a>>,
    is_map: bool,
}

impl<'a> Entries<'a> {
    /// `array` is an array of `text`, or absent.
    pub(super) fn new(text: &'a str, array: Value, is_map: bool) -> Self {
        Self {
            text: Text(text),
            elements: (!array.is_absent()).then(|| Elements::new(text.as_bytes(), array)),
            is_map,
        }
    }

    /// The next entry that has a value; its key is empty in a list.
    pub(super) fn next(&mut self) -> Result<Option<(Cow<'a, str>, Any<'a>)>, Refusal> {
        for element in self.elements.iter_mut().flatten() {
            let entry = if self.is_map {
                self.text.key_value(element)?
            } else {
                self.text.any(element)?.map(|any| (Cow::Borrowed(""), any))
            };
            if entry.is_some() {
                return Ok(entry);
            }
        }
        Ok(None)
    }
}
