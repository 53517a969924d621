//! The `options` of an event of capture v1: what is known of them, each read leniently.

use crate::json::{Members, Value, slice};
use crate::verdict::text_of;

/// What an event asks for. `None` and absent leave it to the properties.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) cookieless_mode: Option<bool>,
    pub(super) disable_skew_correction: Option<bool>,
    pub(super) process_person_profile: Option<bool>,
    /// A string, or a whole number.
    pub(super) product_tour_id: Value,
    /// They are neither an object nor null, or one that is known can't be read and counts as absent.
    pub(super) unreadable: bool,
    /// The mode is there and can't be read: it may have been meant.
    pub(super) cookieless_mode_unreadable: bool,
}

/// The option can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Unreadable;

/// Reads options. Unknown ones are ignored; of duplicates the last one counts.
///
/// Each is read by itself: an event that is refused for one of them may still be of cookieless mode,
/// and must be kept as such.
pub(super) fn read(text: &str, value: Value) -> Options {
    let mut options = Options::default();
    if value.is_null(text.as_bytes()) {
        return options;
    }
    if !value.is_object(text.as_bytes()) {
        options.unreadable = true;
        return options;
    }
    // Duplicates first: one that can't be read may stand before one that can.
    let mut found = [Value::ABSENT; 4];
    for (key, value) in Members::new(text.as_bytes(), value) {
        let place = match &*Members::key_text(text, key) {
            "cookieless_mode" => 0,
            "disable_skew_correction" => 1,
            "process_person_profile" => 2,
            "product_tour_id" => 3,
            _ => continue,
        };
        found[place] = value;
    }
    let mode = read_bool(text, found[0]);
    options.cookieless_mode_unreadable = mode.is_err();
    options.cookieless_mode = mode.unwrap_or_default();
    let skew = read_bool(text, found[1]);
    options.disable_skew_correction = skew.unwrap_or_default();
    let profile = read_bool(text, found[2]);
    options.process_person_profile = profile.unwrap_or_default();
    let tour = read_id(text, found[3]);
    options.product_tour_id = tour.unwrap_or(Value::ABSENT);
    options.unreadable = [mode, skew, profile].iter().any(Result::is_err) || tour.is_err();
    options
}

/// True, false, a string that says so, or a number; `None` if absent or null.
fn read_bool(text: &str, value: Value) -> Result<Option<bool>, Unreadable> {
    let bytes = text.as_bytes();
    match value.kind(bytes) {
        0 | b'n' => return Ok(None),
        b't' => return Ok(Some(true)),
        b'f' => return Ok(Some(false)),
        _ => {}
    }
    if value.is_number(bytes) {
        let number = slice(text, value.start(), value.end()).parse::<f64>();
        return number
            .map(|number| Some(number != 0.0))
            .map_err(|_| Unreadable);
    }
    let said = text_of(text, value).ok_or(Unreadable)?;
    match said.trim().to_ascii_lowercase().as_str() {
        "true" | "1" => Ok(Some(true)),
        "false" | "0" => Ok(Some(false)),
        _ => Err(Unreadable),
    }
}

/// A string or a whole number as it stands; absent if it is null.
fn read_id(text: &str, value: Value) -> Result<Value, Unreadable> {
    let bytes = text.as_bytes();
    if value.is_null(bytes) {
        return Ok(Value::ABSENT);
    }
    let digits = slice(text, value.start(), value.end());
    let is_whole = || digits.parse::<i64>().is_ok() || digits.parse::<u64>().is_ok();
    if value.is_string(bytes) || (value.is_number(bytes) && is_whole()) {
        Ok(value)
    } else {
        Err(Unreadable)
    }
}
