//! Days and dates of the proleptic Gregorian calendar, in integers.

use std::fmt;

const MICROS_PER_SECOND: i64 = 1_000_000;
const SECONDS_PER_DAY: i64 = 86_400;
const MICROS_PER_DAY: i64 = SECONDS_PER_DAY * MICROS_PER_SECOND;

/// 0001-01-01T00:00:00Z.
pub(crate) const MIN_MICROS: i64 = -62_135_596_800 * MICROS_PER_SECOND;
/// 9999-12-31T23:59:59.999999Z.
pub(crate) const MAX_MICROS: i64 = 253_402_300_800 * MICROS_PER_SECOND - 1;

/// Whether a time's date has four digits of year: others make a table unopenable.
pub(crate) const fn in_range(micros: i64) -> bool {
    micros >= MIN_MICROS && micros <= MAX_MICROS
}

/// A day, counted from 1970-01-01 as Parquet's DATE does. Printed as `YYYY-MM-DD`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Day(i32);

impl Day {
    /// The UTC day of a time within the years 1 to 9999. Panics outside of them.
    #[expect(clippy::expect_used, reason = "callers check the range before")]
    pub(crate) fn of_micros(micros: i64) -> Self {
        assert!(
            in_range(micros),
            "times are checked before their day is asked for"
        );
        Self(i32::try_from(micros.div_euclid(MICROS_PER_DAY)).expect("9999 years fit i32 days"))
    }

    pub(crate) const fn number(self) -> i32 {
        self.0
    }
}

impl fmt::Display for Day {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil_of_days(i64::from(self.0));
        write!(formatter, "{year:04}-{month:02}-{day:02}")
    }
}

/// A time as Delta statistics have it: ISO 8601 with microseconds and `Z`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IsoTime(pub(crate) i64);

impl fmt::Display for IsoTime {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil_of_days(self.0.div_euclid(MICROS_PER_DAY));
        let in_day = self.0.rem_euclid(MICROS_PER_DAY);
        let seconds = in_day / MICROS_PER_SECOND;
        let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
        let micros = in_day % MICROS_PER_SECOND;
        write!(
            formatter,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z"
        )
    }
}

/// Year, month and day of a day counted from 1970-01-01.
///
/// Counts from 0000-03-01, so that the leap day ends a year, in eras of 400 years, each of 146,097
/// days. Months from March on have 31, 30, 31, 30, 31 days over and over: 153 in five.
const fn civil_of_days(days: i64) -> (i64, i64, i64) {
    const DAYS_PER_ERA: i64 = 146_097;
    const DAYS_FROM_YEAR_ZERO: i64 = 719_468;
    let shifted = days + DAYS_FROM_YEAR_ZERO;
    let era = shifted.div_euclid(DAYS_PER_ERA);
    let of_era = shifted.rem_euclid(DAYS_PER_ERA);
    // Takes out the leap days of 4 years, puts back those of 100 years, takes out that of 400.
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let (month, carried) = if from_march < 10 {
        (from_march + 3, 0)
    } else {
        (from_march - 9, 1)
    };
    (era * 400 + year_of_era + carried, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = MICROS_PER_DAY;

    #[test]
    fn every_day_of_the_years_1_to_9999_follows_the_calendar() {
        let leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let mut expected = (1, 1, 1);
        for day in MIN_MICROS / DAY..=MAX_MICROS.div_euclid(DAY) {
            assert_eq!(civil_of_days(day), expected);
            let (year, month, of_month) = expected;
            let length = match month {
                2 => 28 + i64::from(leap(year)),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            expected = if of_month < length {
                (year, month, of_month + 1)
            } else if month < 12 {
                (year, month + 1, 1)
            } else {
                (year + 1, 1, 1)
            };
        }
        assert_eq!(expected, (10_000, 1, 1));
    }

    #[test]
    fn the_day_of_a_time_before_1970_is_the_day_that_it_falls_in() {
        assert_eq!(Day::of_micros(-1).to_string(), "1969-12-31");
        assert_eq!(Day::of_micros(0).to_string(), "1970-01-01");
        assert_eq!(Day::of_micros(MIN_MICROS).to_string(), "0001-01-01");
        assert_eq!(Day::of_micros(MAX_MICROS).to_string(), "9999-12-31");
    }

    #[test]
    fn the_range_ends_where_years_stop_having_four_digits() {
        assert!(in_range(MIN_MICROS) && !in_range(MIN_MICROS - 1));
        assert!(in_range(MAX_MICROS) && !in_range(MAX_MICROS + 1));
    }

    #[test]
    fn times_print_with_all_six_digits() {
        assert_eq!(IsoTime(0).to_string(), "1970-01-01T00:00:00.000000Z");
        assert_eq!(IsoTime(-1).to_string(), "1969-12-31T23:59:59.999999Z");
        assert_eq!(
            IsoTime(1_709_210_096_000_007).to_string(),
            "2024-02-29T12:34:56.000007Z"
        );
        assert_eq!(
            IsoTime(MIN_MICROS).to_string(),
            "0001-01-01T00:00:00.000000Z"
        );
        assert_eq!(
            IsoTime(MAX_MICROS).to_string(),
            "9999-12-31T23:59:59.999999Z"
        );
    }
}
