//! What a `Content-Type` says of a body, and parameters of headers like it.

use std::borrow::Cow;

use penstock_model::{BodyForm, Code, Endpoint, Refusal};

/// Longest boundary. RFC 2046 §5.1.1 allows 70 bytes; some writers make longer ones.
const MAX_BOUNDARY_BYTES: usize = 200;

/// Finds out how a body is written that came by `endpoint`.
///
/// Errors: [`Code::WrongContentType`] where the endpoint takes none such, or a form doesn't
/// say what parts it.
pub fn body_form(endpoint: Endpoint, content_type: &str) -> Result<BodyForm, Refusal> {
    let media_type = media_type(content_type);
    let is = |name: &str| media_type.eq_ignore_ascii_case(name);
    match endpoint {
        Endpoint::Ai if is("multipart/form-data") => {
            let boundary = parameter(content_type, "boundary")
                .filter(|boundary| is_boundary(boundary))
                .ok_or_else(|| unsupported("it names no usable boundary"))?;
            Ok(BodyForm::AiParts {
                boundary: boundary.into_owned(),
            })
        }
        Endpoint::Ai => Err(unsupported("it must be multipart/form-data")),
        Endpoint::AiOtel if is("application/x-protobuf") || is("application/protobuf") => {
            Ok(BodyForm::OtlpProtobuf)
        }
        Endpoint::AiOtel if is("application/json") => Ok(BodyForm::OtlpJson),
        Endpoint::AiOtel => Err(unsupported(
            "it must be application/x-protobuf or application/json",
        )),
        _ => Ok(BodyForm::Events),
    }
}

/// The `Content-Type` that [`body_form`] reads `form` from.
pub fn content_type(form: &BodyForm) -> String {
    match form {
        BodyForm::Events | BodyForm::OtlpJson => "application/json".to_owned(),
        BodyForm::OtlpProtobuf => "application/x-protobuf".to_owned(),
        BodyForm::AiParts { boundary } => {
            let mut quoted = String::with_capacity(boundary.len());
            for letter in boundary.chars() {
                if matches!(letter, '"' | '\\') {
                    quoted.push('\\');
                }
                quoted.push(letter);
            }
            format!("multipart/form-data; boundary=\"{quoted}\"")
        }
    }
}

#[cold]
fn unsupported(detail: &str) -> Refusal {
    Refusal::new(Code::WrongContentType, detail)
}

/// Printable ASCII, so that it ends neither its line nor its quotes by surprise.
fn is_boundary(boundary: &str) -> bool {
    (1..=MAX_BOUNDARY_BYTES).contains(&boundary.len())
        && boundary.bytes().all(|byte| matches!(byte, 0x20..=0x7e))
        && !boundary.ends_with(' ')
}

/// The part of a header before its parameters.
pub(crate) fn media_type(header: &str) -> &str {
    let end = header.find(';').unwrap_or(header.len());
    header.split_at(end).0.trim()
}

/// The first parameter of a header with this name: `; name=value` or `; name="value"` (RFC 9110
/// §5.6.6).
pub(super) fn parameter<'a>(header: &'a str, wanted: &str) -> Option<Cow<'a, str>> {
    let (_, mut rest) = header.split_once(';')?;
    loop {
        let (name, after) = rest.split_once('=')?;
        // A parameter without a value stands between semicolons.
        let name = name.rsplit(';').next().unwrap_or(name).trim();
        let (value, after) = read_value(after.trim_start());
        if name.eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        let (_, after) = after.split_once(';')?;
        rest = after;
    }
}

/// A value that `text` begins with, and what follows.
fn read_value(text: &str) -> (Cow<'_, str>, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(';').unwrap_or(text.len());
        let (token, after) = text.split_at(end);
        return (Cow::Borrowed(token.trim_end()), after);
    };
    let mut value = String::new();
    let mut letters = quoted.chars();
    // A quote that is missing ends with the header.
    while let Some(letter) = letters.next() {
        match letter {
            '"' => break,
            '\\' => value.extend(letters.next()),
            _ => value.push(letter),
        }
    }
    (Cow::Owned(value), letters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boundary(content_type: &str) -> Option<String> {
        match body_form(Endpoint::Ai, content_type) {
            Ok(BodyForm::AiParts { boundary }) => Some(boundary),
            Ok(other) => panic!("{content_type} is {other:?}"),
            Err(refusal) => {
                assert_eq!(refusal.code, Code::WrongContentType);
                None
            }
        }
    }

    #[test]
    fn a_form_names_its_boundary() {
        let long = "b".repeat(MAX_BOUNDARY_BYTES);
        for (content_type, expected) in [
            ("multipart/form-data; boundary=abc", Some("abc")),
            ("Multipart/Form-Data;BOUNDARY=\"a;b=c\"", Some("a;b=c")),
            (
                "multipart/form-data; charset=utf-8 ; boundary=----x ; a=b",
                Some("----x"),
            ),
            (
                r#"multipart/form-data; a="b; boundary=no"; boundary="q\"q""#,
                Some("q\"q"),
            ),
            ("multipart/form-data; flag; boundary=x", Some("x")),
            ("multipart/form-data", None),
            ("multipart/form-data; boundary=", None),
            ("multipart/form-data; boundary=\"\"", None),
            ("multipart/form-data; boundary=é", None),
            ("multipart/form-data; boundary=\"x \"", None),
            ("multipart/form-datax; boundary=x", None),
            ("multipart/mixed; boundary=x", None),
            ("application/json", None),
            ("", None),
        ] {
            assert_eq!(
                boundary(content_type).as_deref(),
                expected,
                "{content_type}"
            );
        }
        let of_len = |boundary: &str| format!("multipart/form-data; boundary={boundary}");
        assert_eq!(boundary(&of_len(&long)).as_deref(), Some(&*long));
        assert_eq!(boundary(&of_len(&(long + "b"))), None);
    }

    #[test]
    fn a_form_is_written_as_it_is_read() {
        for boundary in ["abc", "----x y", "a;b=\"c\\"] {
            let form = BodyForm::AiParts {
                boundary: boundary.to_owned(),
            };
            assert_eq!(body_form(Endpoint::Ai, &content_type(&form)), Ok(form));
        }
        for form in [BodyForm::OtlpProtobuf, BodyForm::OtlpJson] {
            assert_eq!(body_form(Endpoint::AiOtel, &content_type(&form)), Ok(form));
        }
    }

    #[test]
    fn otlp_is_protobuf_or_json() {
        for (content_type, form) in [
            ("application/x-protobuf", Some(BodyForm::OtlpProtobuf)),
            ("application/protobuf", Some(BodyForm::OtlpProtobuf)),
            ("Application/JSON; charset=utf-8", Some(BodyForm::OtlpJson)),
            ("text/plain", None),
            ("multipart/form-data; boundary=x", None),
            ("", None),
        ] {
            assert_eq!(
                body_form(Endpoint::AiOtel, content_type).ok(),
                form,
                "{content_type}"
            );
        }
        assert_eq!(
            body_form(Endpoint::E, "whatever").unwrap(),
            BodyForm::Events
        );
    }
}
