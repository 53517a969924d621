//! Calendar days, and how long events of one are taken.

use std::fmt;
use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ZonedDateTime};
use penstock_model::Visit;

/// How late an event may come, at least, where its day ends first (`posthog-protocol.md` §3.5).
pub const LAG: Duration = Duration::from_hours(72);

/// How far time zones are ahead of UTC, at most: on the Line Islands a day begins so much earlier.
const EARLIEST_ZONE: Duration = Duration::from_hours(14);

/// Names of time zones are shorter; a longer text is none.
const MAX_ZONE_NAME_BYTES: usize = 64;

const MICROS_A_DAY: i64 = 86_400_000_000;

/// A day of the calendar, the same all over the earth, where it does not begin everywhere at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day {
    /// Days since 1970-01-01.
    number: i32,
}

impl Day {
    /// The day of a visit where its visitor is, and when it began there: microseconds since the Unix
    /// epoch. None outside of the calendar.
    ///
    /// A zone that is not said, or unknown, is UTC, as in PostHog's service where a project has none.
    pub(crate) fn of(visit: &Visit<'_>) -> Option<(Self, i64)> {
        let instant = Timestamp::from_microsecond(visit.timestamp_us).ok()?;
        let local = ZonedDateTime::new(instant, zone(visit.time_zone));
        let begun = local.start_of_day().ok()?.timestamp().as_microsecond();
        Some((Self::of_date(local.date()), begun))
    }

    fn of_date(date: Date) -> Self {
        let epoch = Date::constant(1970, 1, 1);
        Self {
            number: date.since(epoch).map_or(0, |span| span.get_days()),
        }
    }

    /// Reads what [`fmt::Display`] writes.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let day = Self::of_date(text.parse().ok()?);
        (day.to_string() == text).then_some(day)
    }

    /// Its midnight in UTC, microseconds since the Unix epoch.
    fn begin_us(self) -> i64 {
        i64::from(self.number) * MICROS_A_DAY
    }

    /// When it begins somewhere on earth.
    fn opens_us(self) -> i64 {
        self.begin_us().saturating_sub(micros(EARLIEST_ZONE))
    }

    /// When no event of it is taken any more: as in PostHog's service, [`LAG`] behind the first
    /// midnight of UTC and the widest zone, which leaves the places where it ends last two days.
    fn closes_us(self) -> i64 {
        self.begin_us().saturating_add(micros(EARLIEST_ZONE + LAG))
    }

    /// Whether it is over, for good.
    pub(crate) fn is_closed(self, now_us: i64) -> bool {
        now_us >= self.closes_us()
    }
}

/// Whether events of a day are taken now. At most five days are open at once.
pub fn is_open(day: Day, now_us: i64) -> bool {
    now_us >= day.opens_us() && !day.is_closed(now_us)
}

impl fmt::Display for Day {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let date = Timestamp::from_microsecond(self.begin_us())
            .map(|instant| TimeZone::UTC.to_datetime(instant).date());
        match date {
            Ok(date) => write!(formatter, "{date}"),
            Err(_) => write!(formatter, "{}", self.number),
        }
    }
}

fn zone(name: Option<&str>) -> TimeZone {
    name.filter(|name| name.len() <= MAX_ZONE_NAME_BYTES)
        .and_then(|name| TimeZone::get(name).ok())
        .unwrap_or(TimeZone::UTC)
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
