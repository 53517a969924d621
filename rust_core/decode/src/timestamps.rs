//! When an event happened: reading what clients write, and the protocol's corrections
//! (`posthog-protocol.md` §3.6).

/// Microseconds since the Unix epoch of the first and the last instant of the years 1 to 9999.
const RANGE_US: std::ops::RangeInclusive<i64> = -62_135_596_800_000_000..=253_402_300_799_999_999;

/// How far ahead of the receipt a timestamp may be, after correction.
const MAX_FUTURE_US: i64 = 23 * 3_600 * 1_000_000;

/// Numbers above this many digits are milliseconds, others seconds, as the protocol has it.
const MAX_SECONDS_DIGITS: usize = 11;

/// The clocks of a request, microseconds since the Unix epoch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clocks {
    pub(crate) received_at_us: i64,
    pub(crate) sent_at_us: Option<i64>,
}

/// What an event says of its time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Claim {
    /// Its timestamp, if it has a readable one.
    pub(crate) timestamp_us: Option<i64>,
    /// How long before the sending it happened.
    pub(crate) offset_ms: Option<i64>,
    pub(crate) ignore_sent_at: bool,
}

/// A time and what had to be done to get it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Computed {
    Plain(i64),
    /// More than 23 hours ahead: the time of receipt.
    InFuture(i64),
    /// Outside of the years 1 to 9999: the epoch.
    OutOfRange,
}

/// The event's time: the offset wins, then the timestamp corrected by the client clock's error,
/// then the time of receipt.
pub(crate) fn compute(claim: Claim, clocks: Clocks) -> Computed {
    let received = clocks.received_at_us;
    let time = if let Some(offset_ms) = claim.offset_ms {
        received.saturating_sub(offset_ms.saturating_mul(1_000))
    } else if let Some(timestamp) = claim.timestamp_us {
        match clocks.sent_at_us {
            Some(sent_at) if !claim.ignore_sent_at => {
                timestamp.saturating_sub(sent_at.saturating_sub(received))
            }
            _ => timestamp,
        }
    } else {
        received
    };
    let in_future = time > received.saturating_add(MAX_FUTURE_US);
    let time = if in_future { received } else { time };
    if !RANGE_US.contains(&time) {
        Computed::OutOfRange
    } else if in_future {
        Computed::InFuture(time)
    } else {
        Computed::Plain(time)
    }
}

/// Reads a time in any of the forms that clients are known to send. Microseconds since the Unix
/// epoch; finer digits are cut. `None` if it can't be read.
pub(crate) fn parse(text: &str) -> Option<i64> {
    let text = text.trim();
    let bytes = text.as_bytes();
    match bytes.first()? {
        b'-' | b'+' => parse_number(text),
        b'0'..=b'9' => parse_iso(bytes)
            .or_else(|| parse_slashed(bytes))
            .or_else(|| parse_number(text))
            .or_else(|| parse_rfc2822(text)),
        _ => parse_rfc2822(text),
    }
}

/// Reads Unix seconds or, from 12 digits on, milliseconds, with or without a fraction.
pub(crate) fn parse_number(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = whole.trim_start_matches(['-', '+']);
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if digits.is_empty()
        || digits.len() + 1 < whole.len()
        || !all_digits(digits)
        || !all_digits(fraction)
    {
        // JSON numbers may have an exponent.
        let value: f64 = text.parse().ok()?;
        let scale = if value.abs() >= 1e11 { 1e3 } else { 1e6 };
        #[expect(
            clippy::cast_possible_truncation,
            reason = "saturates, and is range-checked after"
        )]
        return value.is_finite().then_some((value * scale) as i64);
    }
    let is_seconds = digits.len() <= MAX_SECONDS_DIGITS;
    let unit_us = if is_seconds { 1_000_000 } else { 1_000 };
    // More digits than an i64 holds are as far off as the range allows: saturate.
    let whole_us = digits
        .parse::<i64>()
        .unwrap_or(i64::MAX)
        .saturating_mul(unit_us);
    let mut fraction_us = 0;
    let mut digit_us = unit_us / 10;
    for digit in fraction.bytes() {
        fraction_us += i64::from(digit - b'0') * digit_us;
        digit_us /= 10;
    }
    let time = whole_us.saturating_add(fraction_us);
    Some(if whole.starts_with('-') { -time } else { time })
}

/// Reads digits from the front of a text.
#[derive(Clone, Copy, Debug)]
struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    /// A number of `min` to `max` digits; at most 18, so that it fits.
    #[inline]
    fn digits(&mut self, min: usize, max: usize) -> Option<i64> {
        let mut value = 0;
        let mut count = 0;
        let mut rest = self.rest;
        while count < max
            && let Some((digit @ b'0'..=b'9', after)) = rest.split_first()
        {
            value = value * 10 + i64::from(digit - b'0');
            count += 1;
            rest = after;
        }
        if count < min {
            return None;
        }
        self.rest = rest;
        Some(value)
    }

    /// Passes one byte out of `bytes`.
    fn one_of(&mut self, bytes: &[u8]) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        if !bytes.contains(first) {
            return None;
        }
        self.rest = rest;
        Some(*first)
    }

    fn spaces(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }

    /// `H:M[:S[.fraction]]`, microseconds of the day. A leap second counts as the next second.
    fn time_of_day(&mut self, min_digits: usize) -> Option<i64> {
        let hour = self.digits(min_digits, 2)?;
        self.one_of(b":")?;
        let minute = self.digits(2, 2)?;
        let mut second = 0;
        let mut fraction_us = 0;
        if self.one_of(b":").is_some() {
            second = self.digits(2, 2)?;
            if self.one_of(b".,").is_some() {
                let mut digit_us = 100_000;
                let mut any = false;
                while let Some(digit) = self.digits(1, 1) {
                    any = true;
                    fraction_us += digit * digit_us;
                    digit_us /= 10;
                }
                if !any {
                    return None;
                }
            }
        }
        if hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        Some((hour * 3_600 + minute * 60 + second) * 1_000_000 + fraction_us)
    }

    /// `Z`, `+02`, `+0200`, `+02:00`, `UTC` or nothing, which means UTC; with nothing after it.
    fn offset_us(&mut self) -> Option<i64> {
        self.spaces();
        if self.rest.is_empty() || is_utc_name(self.rest) {
            return Some(0);
        }
        let sign = if self.one_of(b"+-")? == b'-' { -1 } else { 1 };
        let hours = self.digits(2, 2)?;
        let mut minutes = 0;
        if self.one_of(b":").is_some() || !self.rest.is_empty() {
            minutes = self.digits(2, 2)?;
        }
        if hours > 23 || minutes > 59 || !self.rest.is_empty() {
            return None;
        }
        Some(sign * (hours * 3_600 + minutes * 60) * 1_000_000)
    }
}

fn is_utc_name(name: &[u8]) -> bool {
    [&b"Z"[..], b"UTC", b"GMT", b"UT"]
        .iter()
        .any(|utc| name.eq_ignore_ascii_case(utc))
}

/// `YYYY-MM-DD`, alone or with a time behind `T`, `t`, `_` or white space, and an offset.
fn parse_iso(bytes: &[u8]) -> Option<i64> {
    let mut reader = Reader { rest: bytes };
    let year = reader.digits(4, 4)?;
    reader.one_of(b"-")?;
    let month = reader.digits(1, 2)?;
    reader.one_of(b"-")?;
    let day = reader.digits(1, 2)?;
    finish(reader, year, month, day, b"Tt_ ")
}

/// `YYYY/M/D` or, as in the United States, `M/D/YYYY`; alone or with a time.
fn parse_slashed(bytes: &[u8]) -> Option<i64> {
    let mut reader = Reader { rest: bytes };
    let first = reader.digits(1, 4)?;
    // By its length, not by where a slash stands: `12/1/2026` has one there too.
    let year_first = bytes
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count()
        == 4;
    reader.one_of(b"/")?;
    let second = reader.digits(1, 2)?;
    reader.one_of(b"/")?;
    if year_first {
        let day = reader.digits(1, 2)?;
        return finish(reader, first, second, day, b"Tt ");
    }
    let year = reader.digits(4, 4)?;
    finish(reader, year, first, second, b"Tt ")
}

/// Reads what follows the date: nothing, or one of `separators`, a time and an offset.
fn finish(
    mut reader: Reader<'_>,
    year: i64,
    month: i64,
    day: i64,
    separators: &[u8],
) -> Option<i64> {
    let date_us = date_us(year, month, day)?;
    if reader.rest.is_empty() {
        return Some(date_us);
    }
    reader.one_of(separators)?;
    reader.spaces();
    let time_us = reader.time_of_day(1)?;
    Some(date_us + time_us - reader.offset_us()?)
}

/// `Mon, 02 Jan 2006 15:04[:05] +0100`, the day of the week optional and not checked.
fn parse_rfc2822(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = [
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ];
    // Hours west of Greenwich of the zone names that RFC 2822 §4.3 lists.
    const ZONES: [(&str, i64); 8] = [
        ("EST", 5),
        ("EDT", 4),
        ("CST", 6),
        ("CDT", 5),
        ("MST", 7),
        ("MDT", 6),
        ("PST", 8),
        ("PDT", 7),
    ];
    let text = match text.split_once(',') {
        Some((weekday, rest)) if weekday.len() <= 9 => rest,
        Some(_) => return None,
        None => text,
    };
    let mut parts = text.split_ascii_whitespace();
    let day = Reader {
        rest: parts.next()?.as_bytes(),
    }
    .digits(1, 2)?;
    let month_name = parts.next()?;
    let month = MONTHS
        .iter()
        .position(|month| month_name.eq_ignore_ascii_case(month))?
        + 1;
    let year = Reader {
        rest: parts.next()?.as_bytes(),
    }
    .digits(4, 4)?;
    let mut time = Reader {
        rest: parts.next()?.as_bytes(),
    };
    let time_us = time.time_of_day(2)?;
    if !time.rest.is_empty() {
        return None;
    }
    let zone = parts.next()?;
    let offset_us = match ZONES
        .iter()
        .find(|(name, _)| zone.eq_ignore_ascii_case(name))
    {
        Some((_, hours_west)) => -hours_west * 3_600 * 1_000_000,
        None => Reader {
            rest: zone.as_bytes(),
        }
        .offset_us()?,
    };
    // A comment may follow: "(CET)".
    if parts.next().is_some_and(|part| !part.starts_with('(')) {
        return None;
    }
    Some(date_us(year, i64::try_from(month).ok()?, day)? + time_us - offset_us)
}

/// Microseconds from the epoch to midnight of a date of the proleptic Gregorian calendar.
fn date_us(year: i64, month: i64, day: i64) -> Option<i64> {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_in_month = match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=days_in_month).contains(&day) {
        return None;
    }
    // Days from civil, by Howard Hinnant: years begin in March, so the leap day comes last.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some((era * 146_097 + day_of_era - 719_468) * 86_400 * 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_767_225_600_000_000; // 2026-01-01T00:00:00Z
    const HOUR: i64 = 3_600_000_000;

    #[test]
    fn every_listed_form_is_read() {
        for (text, expected) in [
            // RFC 3339 with 0 to 9 decimals.
            ("2026-01-01T00:00:00Z", NOW),
            ("2026-01-01t00:00:00z", NOW),
            ("2026-01-01T00:00:00.1Z", NOW + 100_000),
            ("2026-01-01T00:00:00.123Z", NOW + 123_000),
            ("2026-01-01T00:00:00.123456+00:00", NOW + 123_456),
            ("2026-01-01T00:00:00.1234567+00:00", NOW + 123_456),
            ("2026-01-01T00:00:00.123456789Z", NOW + 123_456),
            // Offsets, also short.
            ("2026-01-01T02:00:00+02:00", NOW),
            ("2026-01-01T02:00:00+0200", NOW),
            ("2026-01-01T02:00:00+02", NOW),
            ("2025-12-31T18:30:00-05:30", NOW),
            ("2026-01-01 02:00:00 +02:00", NOW),
            // No zone means UTC.
            ("2026-01-01T00:00:00", NOW),
            ("2026-01-01T00:00:00.000000001", NOW),
            ("2026-01-01 00:00:00", NOW),
            ("2026-01-01 00:00:00 UTC", NOW),
            ("2026-01-01T00:00", NOW),
            ("2026-01-01", NOW),
            ("  2026-01-01 ", NOW),
            // Slashed dates.
            ("2026/01/01", NOW),
            ("2026/1/1 01:00:00", NOW + HOUR),
            ("1/1/2026", NOW),
            ("01/1/2026", NOW),
            ("1/01/2026", NOW),
            ("2026/1/1", NOW),
            ("01/01/2026 01:00", NOW + HOUR),
            // RFC 2822.
            ("Thu, 01 Jan 2026 00:00:00 +0000", NOW),
            ("Thu, 1 Jan 2026 01:00:00 +0100", NOW),
            ("1 Jan 2026 00:00:00 GMT", NOW),
            ("Wed, 31 Dec 2025 19:00:00 EST", NOW),
            ("Thu, 01 Jan 2026 01:00:00 +0100 (CET)", NOW),
            // Unix time as a text: seconds or milliseconds.
            ("1767225600", NOW),
            ("1767225600.25", NOW + 250_000),
            ("1767225600123", NOW + 123_000),
            ("1767225600123.456", NOW + 123_456),
            ("0", 0),
            ("-1", -1_000_000),
            ("1.7672256e9", NOW),
            // Old, far and odd, but dates.
            ("0001-01-01T00:00:00Z", *RANGE_US.start()),
            ("9999-12-31T23:59:59.999999Z", *RANGE_US.end()),
            ("0000-01-01", *RANGE_US.start() - 366 * 24 * HOUR),
            ("1969-12-31T23:59:59.5Z", -500_000),
            ("2024-02-29", 1_709_164_800_000_000),
            ("2026-01-01T23:59:60Z", NOW + 24 * HOUR),
        ] {
            assert_eq!(parse(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn anything_else_is_unreadable() {
        for text in [
            "",
            " ",
            "now",
            "yesterday",
            "2026",
            "20260101T000000Z",
            "2026-13-01",
            "2026-00-01",
            "2026-01-32",
            "2025-02-29",
            "1900-02-29",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:60:00Z",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00+2",
            "2026-01-01T00:00:00+24:00",
            "2026-01-01T00:00:00Zjunk",
            "2026-01-01T",
            "2026-01-01Z",
            "+012026-01-01T00:00:00Z",
            "2026/01",
            "13/13/2026",
            "Thu, 32 Jan 2026 00:00:00 +0000",
            "Thu, 01 Foo 2026 00:00:00 Z",
            "nan",
            "inf",
            "-",
            "1e999",
            "0x10",
            "٣",
            "🦔",
        ] {
            // A bare year reads as Unix seconds, as any number does.
            let expected = if text == "2026" {
                Some(2_026_000_000)
            } else {
                None
            };
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    fn at(timestamp_us: i64) -> Claim {
        Claim {
            timestamp_us: Some(timestamp_us),
            ..Claim::default()
        }
    }

    #[test]
    fn corrections_follow_the_protocol() {
        let plain = Clocks {
            received_at_us: NOW,
            sent_at_us: None,
        };
        let ahead = Clocks {
            received_at_us: NOW,
            sent_at_us: Some(NOW + HOUR),
        };
        let offset = Claim {
            timestamp_us: Some(5),
            offset_ms: Some(1_500),
            ignore_sent_at: false,
        };
        for (claim, clocks, expected) in [
            (Claim::default(), plain, Computed::Plain(NOW)),
            (Claim::default(), ahead, Computed::Plain(NOW)),
            (at(NOW - HOUR), plain, Computed::Plain(NOW - HOUR)),
            // The client's clock is an hour ahead.
            (at(NOW + HOUR), ahead, Computed::Plain(NOW)),
            (
                Claim {
                    ignore_sent_at: true,
                    ..at(NOW + HOUR)
                },
                ahead,
                Computed::Plain(NOW + HOUR),
            ),
            (offset, ahead, Computed::Plain(NOW - 1_500_000)),
            // At the limit and one over.
            (at(NOW + 23 * HOUR), plain, Computed::Plain(NOW + 23 * HOUR)),
            (at(NOW + 23 * HOUR + 1), plain, Computed::InFuture(NOW)),
            (at(i64::MAX), plain, Computed::InFuture(NOW)),
            (
                at(*RANGE_US.start()),
                plain,
                Computed::Plain(*RANGE_US.start()),
            ),
            (at(*RANGE_US.start() - 1), plain, Computed::OutOfRange),
            (at(i64::MIN), ahead, Computed::OutOfRange),
            (
                Claim {
                    offset_ms: Some(i64::MAX),
                    ..at(0)
                },
                plain,
                Computed::OutOfRange,
            ),
            (
                Claim {
                    offset_ms: Some(i64::MIN),
                    ..at(0)
                },
                plain,
                Computed::InFuture(NOW),
            ),
        ] {
            assert_eq!(compute(claim, clocks), expected, "{claim:?} {clocks:?}");
        }
    }

    #[test]
    fn the_range_ends_with_year_9999() {
        let end = Clocks {
            received_at_us: *RANGE_US.end() - 5,
            sent_at_us: None,
        };
        assert_eq!(
            compute(at(*RANGE_US.end()), end),
            Computed::Plain(*RANGE_US.end())
        );
        assert_eq!(compute(at(*RANGE_US.end() + 1), end), Computed::OutOfRange);
    }

    #[test]
    fn dates_agree_with_day_counting() {
        let mut expected = date_us(1, 1, 1).unwrap();
        assert_eq!(expected, *RANGE_US.start());
        for year in 1..=2_500 {
            for month in 1..=12 {
                for day in 1..=31 {
                    if let Some(date) = date_us(year, month, day) {
                        assert_eq!(date, expected);
                        expected += 24 * HOUR;
                    }
                }
            }
        }
    }
}
