//! Options of an event of capture v1 by the oracle.

use serde_json::value::RawValue;

use super::super::raw::{is_null, kind, last, members_if_object, string};

/// What an event asks for. What can't be read is not asked for.
#[derive(Debug, Default)]
pub(super) struct Options<'a> {
    pub(super) cookieless_mode: Option<bool>,
    pub(super) disable_skew_correction: Option<bool>,
    pub(super) process_person_profile: Option<bool>,
    pub(super) product_tour_id: Option<&'a RawValue>,
    /// Something of it can't be read.
    pub(super) is_unreadable: bool,
    /// The mode is there, and is what can't be read.
    pub(super) is_mode_unreadable: bool,
}

pub(super) fn read(options: Option<&RawValue>) -> Options<'_> {
    let members = members_if_object(options);
    let named = |name| last(&members, &[name]);
    let mut is_unreadable = !matches!(kind(options), 0 | b'n' | b'{');
    let tour = named("product_tour_id").filter(|tour| !is_null(Some(tour)));
    let is_id = |tour: &&RawValue| kind(Some(tour)) == b'"' || is_whole(tour.get());
    is_unreadable |= !tour.as_ref().is_none_or(is_id);
    let truths = [
        "cookieless_mode",
        "disable_skew_correction",
        "process_person_profile",
    ];
    let [
        cookieless_mode,
        disable_skew_correction,
        process_person_profile,
    ] = truths.map(|name| {
        let truth = truth(named(name));
        is_unreadable |= truth.is_err();
        truth.unwrap_or_default()
    });
    Options {
        cookieless_mode,
        disable_skew_correction,
        process_person_profile,
        product_tour_id: tour.filter(is_id),
        is_unreadable,
        is_mode_unreadable: truth(named("cookieless_mode")).is_err(),
    }
}

fn is_whole(json: &str) -> bool {
    // What begins with `t` or `[` is no number either.
    let number = json.parse::<i128>().ok();
    number.is_some_and(|number| (i64::MIN.into()..=u64::MAX.into()).contains(&number))
}

fn truth(value: Option<&RawValue>) -> Result<Option<bool>, ()> {
    match kind(value) {
        0 | b'n' => return Ok(None),
        b't' => return Ok(Some(true)),
        b'f' => return Ok(Some(false)),
        b'-' | b'0'..=b'9' => {
            let number: f64 = value.unwrap().get().parse().unwrap();
            return Ok(Some(number != 0.0));
        }
        _ => {}
    }
    let said = string(value).ok_or(())?;
    match said.trim() {
        "1" => Ok(Some(true)),
        "0" => Ok(Some(false)),
        word if word.eq_ignore_ascii_case("true") => Ok(Some(true)),
        word if word.eq_ignore_ascii_case("false") => Ok(Some(false)),
        _ => Err(()),
    }
}
