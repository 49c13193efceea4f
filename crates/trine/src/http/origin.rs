//! Who made the browser ask. A page of another site can send requests to
//! loopback; what it cannot do is choose the headers `Host` and `Origin`.
//!
//! - `Host` must be an address, `localhost` or the node's own name: a name that
//!   somebody else's name server points at this machine (DNS rebinding) is
//!   refused.
//! - `Origin`, if there is one, must be this very door; there is no CORS.
//!   `Sec-Fetch-Site` says the same where browsers send it.

use std::net::{Ipv6Addr, SocketAddr};

use hyper::HeaderMap;
use hyper::header::{HOST, HeaderName, ORIGIN};

/// Why a request is refused before anything else of it is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Foreign {
    /// No `Host`, two of them, or one that is neither an address nor
    /// `localhost` nor the node's name.
    #[error("the Host header names neither an address nor localhost nor this node")]
    Host,
    /// A page of another site asks.
    #[error("a page of another site may not ask")]
    Origin,
}

/// Newer browsers say from where a request comes relative to its target.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Refuses requests that a page of another site, or a name that is not ours,
/// brought here; `name` is the node's own.
///
/// # Errors
/// [`Foreign`].
pub fn check(headers: &HeaderMap, name: &str) -> Result<(), Foreign> {
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next().and_then(|host| host.to_str().ok()).ok_or(Foreign::Host)?;
    if hosts.next().is_some() || !is_ours(host, name) {
        return Err(Foreign::Host);
    }
    let ours = |origin: &str| {
        let host_of = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        host_of.is_some_and(|of| of.eq_ignore_ascii_case(host))
    };
    if headers.get_all(ORIGIN).iter().any(|origin| !origin.to_str().is_ok_and(ours)) {
        return Err(Foreign::Origin);
    }
    let same = |site: &str| matches!(site, "same-origin" | "none");
    if headers.get_all(SEC_FETCH_SITE).iter().any(|site| !site.to_str().is_ok_and(same)) {
        return Err(Foreign::Origin);
    }
    Ok(())
}

/// `127.0.0.1`, `10.0.0.1:7070`, `[::1]`, `[::1]:7070`, `localhost`,
/// `localhost:7070`, the node's name: nothing that somebody else's name server
/// decides.
fn is_ours(host: &str, own: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    };
    if port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return false;
    }
    let six = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    name.eq_ignore_ascii_case("localhost")
        || (!own.is_empty() && name.eq_ignore_ascii_case(own))
        || six.is_some_and(|six| six.parse::<Ipv6Addr>().is_ok())
        || format!("{name}:1").parse::<SocketAddr>().is_ok_and(|address| address.is_ipv4())
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn check_named(headers: &HeaderMap) -> Result<(), Foreign> {
        check(headers, "node1.example")
    }

    #[test]
    fn addresses_and_localhost_are_hosts_and_names_are_not() {
        for host in [
            "127.0.0.1",
            "127.0.0.1:7070",
            "[::1]",
            "[::1]:7070",
            "localhost",
            "LocalHost:1",
            "node1.example:1",
        ] {
            assert_eq!(check_named(&headers(&[("host", host)])), Ok(()), "{host}");
        }
        let foreign = [
            "",
            "evil.example",
            "evil.example:7070",
            "localhost.evil.example",
            "127.0.0.1.nip.io",
            "::1",
            "127.0.0.1:",
            "127.0.0.1:x",
            "127.0.0.1:70700",
            "[127.0.0.1]",
            "[::1",
            "127.1",
            "0x7f000001",
            "user@127.0.0.1",
            "127.0.0.1/",
        ];
        for host in foreign {
            assert_eq!(check_named(&headers(&[("host", host)])), Err(Foreign::Host), "{host}");
        }
        assert_eq!(check_named(&headers(&[])), Err(Foreign::Host));
        assert_eq!(
            check_named(&headers(&[("host", "localhost"), ("host", "localhost")])),
            Err(Foreign::Host)
        );
    }

    #[test]
    fn only_this_door_is_an_origin() {
        let with = |name, value| check_named(&headers(&[("host", "127.0.0.1:7070"), (name, value)]));
        assert_eq!(with("origin", "http://127.0.0.1:7070"), Ok(()));
        assert_eq!(with("sec-fetch-site", "none"), Ok(()));
        assert_eq!(with("sec-fetch-site", "same-origin"), Ok(()));
        for origin in
            ["null", "http://evil.example", "http://127.0.0.1", "http://127.0.0.1:8080", "127.0.0.1:7070"]
        {
            assert_eq!(with("origin", origin), Err(Foreign::Origin), "{origin}");
        }
        assert_eq!(with("sec-fetch-site", "cross-site"), Err(Foreign::Origin));
        assert_eq!(with("sec-fetch-site", "same-site"), Err(Foreign::Origin));
    }
}
