//! The library of a client, as its `User-Agent` names it: `posthog-android/6.33.5`.
//!
//! Only session replay asks for it (`posthog-protocol.md` §3.9): all other events of SDKs say in
//! their properties who sent them.

/// Longest name with its version. Real ones have some 20 bytes; it is written to each snapshot.
const MAX_LIBRARY_BYTES: usize = 64;

/// What the names of all libraries begin with.
const PREFIX: &[u8] = b"posthog";

/// The library that a `User-Agent` begins with; `None` if that is no library of PostHog's.
pub fn library_of(user_agent: &[u8]) -> Option<String> {
    let product = user_agent
        .trim_ascii_start()
        .split(u8::is_ascii_whitespace)
        .next()?;
    let named = product
        .get(..PREFIX.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(PREFIX));
    let usable = product.len() <= MAX_LIBRARY_BYTES && product.iter().all(u8::is_ascii_graphic);
    (named && usable).then(|| String::from_utf8_lossy(product).into_owned())
}

/// The name and, if it says so, the version of a library.
pub(crate) fn name_and_version(library: &str) -> (&str, Option<&str>) {
    match library.split_once('/') {
        Some((name, version)) => (name, Some(version).filter(|version| !version.is_empty())),
        None => (library, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_is_what_a_user_agent_begins_with() {
        let longest = format!("posthog-{}", "x".repeat(MAX_LIBRARY_BYTES - 8));
        for (user_agent, library) in [
            ("posthog-android/6.33.5", Some("posthog-android/6.33.5")),
            (" posthog-dotnet/2.1 (Linux)", Some("posthog-dotnet/2.1")),
            ("PostHog-iOS", Some("PostHog-iOS")),
            (longest.as_str(), Some(longest.as_str())),
            (&format!("{longest}x"), None),
            ("Mozilla/5.0 posthog-android/1", None),
            ("posthoo/1", None),
            ("posthog-\u{e9}/1", None),
            ("", None),
        ] {
            assert_eq!(library_of(user_agent.as_bytes()).as_deref(), library);
        }
    }

    #[test]
    fn a_version_need_not_be_there() {
        assert_eq!(
            name_and_version("posthog-a/1/2"),
            ("posthog-a", Some("1/2"))
        );
        assert_eq!(name_and_version("posthog-a/"), ("posthog-a", None));
        assert_eq!(name_and_version("posthog-a"), ("posthog-a", None));
    }
}
