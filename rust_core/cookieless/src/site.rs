//! The site that a host belongs to: visitors are told apart on each, and not between its parts.

use std::net::Ipv6Addr;

/// The ports that need no mention.
const USUAL_PORTS: [&str; 2] = ["80", "443"];

/// The part of a host's name that its owner registered, by the Public Suffix List, with the port if
/// that is an unusual one.
///
/// Addresses, and names without a dot, are their own site. A whole URL is taken too.
pub(crate) fn site_of(host: &str) -> String {
    let host = host.trim().to_ascii_lowercase();
    if let Ok(address) = host.parse::<Ipv6Addr>() {
        return format!("[{address}]");
    }
    let (_, rest) = host.split_once("://").unwrap_or(("", &host));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (_, authority) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (name, port) = match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (name, port),
        _ => (authority, ""),
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    let site = if is_address(name) {
        name
    } else {
        psl::domain_str(name).unwrap_or(name)
    };
    if port.is_empty() || USUAL_PORTS.contains(&port) {
        site.to_owned()
    } else {
        format!("{site}:{port}")
    }
}

fn is_address(name: &str) -> bool {
    name.starts_with('[') || name.parse::<std::net::Ipv4Addr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_one_owner_are_one_site() {
        for (host, site) in [
            ("example.com", "example.com"),
            ("www.example.com", "example.com"),
            ("a.b.EXAMPLE.com.", "example.com"),
            ("https://shop.example.com/cart?x=1@b:2#c", "example.com"),
            ("user:word@shop.example.com", "example.com"),
            ("shop.example.co.uk", "example.co.uk"),
            ("other.co.uk", "other.co.uk"),
            ("co.uk", "co.uk"),
            // Who gives names to others is a suffix too.
            ("ada.github.io", "ada.github.io"),
            ("example.com:443", "example.com"),
            ("www.example.com:8443", "example.com:8443"),
            ("localhost", "localhost"),
            ("localhost:3000", "localhost:3000"),
            ("192.0.2.1", "192.0.2.1"),
            ("192.0.2.1:8000", "192.0.2.1:8000"),
            ("2001:DB8::1", "[2001:db8::1]"),
            ("[2001:db8::1]", "[2001:db8::1]"),
            ("[2001:db8::1]:8000", "[2001:db8::1]:8000"),
            (" example.com ", "example.com"),
            ("www.bücher.example", "bücher.example"),
            ("", ""),
            ("...", ".."),
            (":", ""),
        ] {
            assert_eq!(site_of(host), site, "{host}");
        }
    }

    #[test]
    fn no_host_is_too_strange() {
        for host in [
            ".",
            "..a",
            "a..b",
            "://",
            "a://b://c",
            "[",
            "]:1",
            "\0.com",
            "@",
            "com.",
        ] {
            site_of(host);
        }
        site_of(&"a.".repeat(100_000));
    }
}
