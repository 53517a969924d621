//! Splits a `multipart/form-data` body (RFC 7578) into its parts: slices of the body.
//!
//! By hand: the crates for it (multer, multipart-rs) read from an asynchronous stream and copy
//! every part into a buffer of their own, while here the whole body lies in memory already and
//! finding a delimiter is one search.

use std::borrow::Cow;

use memchr::memmem::{Finder, find};
use penstock_model::{Code, Refusal};

use super::content_type::parameter;

/// Parts of one body. An event has some ten properties that are worth a part of their own.
const MAX_PARTS: usize = 256;

/// Head of one part; clients write about 100 bytes.
const MAX_HEAD_BYTES: usize = 8 << 10;

const LINE_END: &[u8] = b"\r\n";
const HEAD_END: &[u8] = b"\r\n\r\n";

/// One part of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part<'a> {
    head: &'a [u8],
    pub(super) data: &'a [u8],
}

impl<'a> Part<'a> {
    /// The value of the first header with this name; `None` also if it is no UTF-8.
    pub(super) fn header(&self, name: &str) -> Option<&'a str> {
        let mut rest = self.head;
        while !rest.is_empty() {
            let end = find(rest, LINE_END).unwrap_or(rest.len());
            let (line, after) = rest.split_at(end);
            rest = after.strip_prefix(LINE_END).unwrap_or(after);
            let Some(colon) = memchr::memchr(b':', line) else {
                continue;
            };
            if line[..colon]
                .trim_ascii()
                .eq_ignore_ascii_case(name.as_bytes())
            {
                return std::str::from_utf8(line[colon + 1..].trim_ascii()).ok();
            }
        }
        None
    }

    /// The name that its `Content-Disposition` gives it.
    pub(super) fn name(&self) -> Option<Cow<'a, str>> {
        parameter(self.header("content-disposition")?, "name")
    }
}

/// A line that stands between parts, with the line end before it.
#[derive(Clone, Copy, Debug)]
struct Delimiter {
    start: usize,
    /// Behind its own line end.
    end: usize,
    /// The one behind the last part.
    closes: bool,
}

/// Finds the delimiters of a body.
#[derive(Debug)]
struct Delimiters<'a> {
    body: &'a [u8],
    finder: Finder<'a>,
    line_len: usize,
}

impl Delimiters<'_> {
    /// The first delimiter whose line end is at `from` or behind it.
    fn next(&self, mut from: usize) -> Option<Delimiter> {
        loop {
            let start = from + self.finder.find(self.body.get(from..)?)?;
            if let Some(delimiter) = self.read(start, start + self.line_len) {
                return Some(delimiter);
            }
            // Data that only begins like one.
            from = start + LINE_END.len();
        }
    }

    /// What stands behind the boundary tells a delimiter from data.
    fn read(&self, start: usize, end: usize) -> Option<Delimiter> {
        let rest = self.body.get(end..)?;
        let closes = rest.starts_with(b"--");
        let padding = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t'));
        let padding = padding.count();
        if !closes && !rest[padding..].starts_with(LINE_END) {
            return None;
        }
        Some(Delimiter {
            start,
            end: end + if closes { 2 } else { padding + LINE_END.len() },
            closes,
        })
    }
}

/// Splits a body. What stands before the first delimiter and behind the last one is not looked at.
///
/// Errors: [`Code::InvalidMultipart`] if there is no delimiter, the closing one is missing (the body
/// was cut), a head has no end, or one of the limits is passed.
pub(super) fn split<'a>(body: &'a [u8], boundary: &str) -> Result<Vec<Part<'a>>, Refusal> {
    let line = [b"\r\n--", boundary.as_bytes()].concat();
    let delimiters = Delimiters {
        body,
        finder: Finder::new(&line),
        line_len: line.len(),
    };
    // The first one needs no line end before it.
    let first = body
        .starts_with(&line[LINE_END.len()..])
        .then(|| delimiters.read(0, line.len() - LINE_END.len()))
        .flatten();
    let Some(mut delimiter) = first.or_else(|| delimiters.next(0)) else {
        return invalid("there is no boundary in it");
    };
    let mut parts = Vec::new();
    while !delimiter.closes {
        // Its own line end may be the one before the next.
        let Some(next) = delimiters.next(delimiter.end - LINE_END.len()) else {
            return invalid("it is cut short: the closing boundary is missing");
        };
        if parts.len() == MAX_PARTS {
            return invalid(&format!("more than {MAX_PARTS} parts"));
        }
        let content = body.get(delimiter.end..next.start).unwrap_or_default();
        parts.push(read_part(content)?);
        delimiter = next;
    }
    Ok(parts)
}

fn read_part(content: &[u8]) -> Result<Part<'_>, Refusal> {
    if let Some(data) = content.strip_prefix(LINE_END) {
        return Ok(Part { head: b"", data });
    }
    let searched = &content[..content.len().min(MAX_HEAD_BYTES + HEAD_END.len())];
    let Some(end) = find(searched, HEAD_END) else {
        return invalid("a part has no end of its headers, or too many");
    };
    Ok(Part {
        head: &content[..end],
        data: &content[end + HEAD_END.len()..],
    })
}

pub(super) fn invalid<T>(detail: &str) -> Result<T, Refusal> {
    Err(Refusal::new(Code::InvalidMultipart, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(body: &str) -> Result<Vec<&str>, String> {
        let parts = split(body.as_bytes(), "b").map_err(|refusal| refusal.detail)?;
        let contents = parts.iter().map(|part| std::str::from_utf8(part.data));
        Ok(contents.map(Result::unwrap).collect())
    }

    #[test]
    fn parts_are_what_stands_between_delimiters() {
        for (body, expected) in [
            ("--b\r\n\r\none\r\n--b--", &["one"][..]),
            ("--b\r\nA: b\r\n\r\none\r\n--b--\r\n", &["one"]),
            (
                "before\r\n--b\r\n\r\n1\r\n--b \t\r\n\r\n2\r\n--b--after",
                &["1", "2"],
            ),
            ("--b\r\n\r\n\r\n--b--", &[""]),
            // Only looks like a delimiter: another boundary, no line end before it.
            (
                "--b\r\n\r\nx--b\r\n\r\n--bb\r\n--b-\r\n--b--",
                &["x--b\r\n\r\n--bb\r\n--b-"],
            ),
            ("--b\r\n\r\n\n--b\n\r\n--b--", &["\n--b\n"]),
            ("--b--", &[]),
        ] {
            assert_eq!(contents(body).unwrap(), expected, "{body:?}");
        }
    }

    #[test]
    fn a_body_that_was_cut_anywhere_is_refused() {
        let whole = "--b\r\nA: b\r\n\r\none\r\n--b\r\n\r\ntwo\r\n--b--";
        assert_eq!(contents(whole).unwrap(), ["one", "two"]);
        for len in 0..whole.len() {
            let cut = &whole.as_bytes()[..len];
            assert!(split(cut, "b").is_err(), "cut at {len}");
        }
    }

    #[test]
    fn parts_without_an_end_of_their_head_are_refused() {
        for body in [
            "--b\r\n--b--",
            "--b\r\nA: b\r\n--b--",
            "--b\r\nA: b\r\none\r\n--b--",
        ] {
            assert!(contents(body).unwrap_err().contains("headers"), "{body:?}");
        }
        let head = |bytes: usize| format!("--b\r\n{}\r\n\r\n\r\n--b--", "h".repeat(bytes));
        assert_eq!(contents(&head(MAX_HEAD_BYTES)).unwrap(), [""]);
        assert!(contents(&head(MAX_HEAD_BYTES + 1)).is_err());
    }

    #[test]
    fn parts_are_counted() {
        let of = |parts: usize| format!("{}--b--", "--b\r\n\r\n\r\n".repeat(parts));
        assert_eq!(contents(&of(MAX_PARTS)).unwrap().len(), MAX_PARTS);
        assert!(contents(&of(MAX_PARTS + 1)).unwrap_err().contains("256"));
    }

    #[test]
    fn headers_are_found_whatever_their_case() {
        let body = "--b\r\nX\r\ncontent-TYPE : text/plain \r\nContent-Type: no\r\n\
            Content-Disposition: form-data; filename=\"a; name=no\"; name=\"e \\\"1\\\"\"\r\n\r\n\r\n--b--";
        let parts = split(body.as_bytes(), "b").unwrap();
        assert_eq!(parts[0].header("Content-Type"), Some("text/plain"));
        assert_eq!(parts[0].header("content-encoding"), None);
        assert_eq!(parts[0].name().as_deref(), Some("e \"1\""));
    }
}
