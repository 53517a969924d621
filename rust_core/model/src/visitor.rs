//! Visitors of a site that sets no cookie: what tells one from another, and the ids made of that.

/// What the SDK sends as `distinct_id` where it has none, in cookieless mode.
pub const COOKIELESS_DISTINCT_ID: &str = "$posthog_cookieless";

/// How ids begin that were made of a visit: recognised wherever they turn up, as PostHog's are.
pub const VISITOR_DISTINCT_ID_PREFIX: &str = "cookieless_";
pub const VISITOR_DEVICE_ID_PREFIX: &str = "cookielessd_";

/// What one event of cookieless mode says of its visitor. Personal: it is hashed, and not kept.
#[derive(Clone, Copy)]
pub struct Visit<'a> {
    /// When the event happened: microseconds since the Unix epoch.
    pub timestamp_us: i64,
    /// `$timezone`: the name of the visitor's time zone, in whose days ids change.
    pub time_zone: Option<&'a str>,
    /// `$ip`, else the address that the request came from.
    pub address: &'a str,
    /// `$host`, with port.
    pub host: &'a str,
    /// `$raw_user_agent`.
    pub user_agent: &'a str,
    /// `$cookieless_extra`; empty if there is none.
    pub extra: &'a str,
}

impl std::fmt::Debug for Visit<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // All of it is somebody's (SEC-2).
        formatter.debug_struct("Visit").finish_non_exhaustive()
    }
}

/// The ids of a visitor, for one day and one project. They need no escapes in JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VisitorIds {
    pub distinct_id: String,
    pub device_id: String,
    /// A UUID of version 7, of the beginning of the day.
    pub session_id: String,
}
