//! Where a request comes from, as browsers tell it: pages of other sites that a browser on this machine shows can send
//! requests here too.

use std::net::IpAddr;

use hyper::{
    HeaderMap,
    header::{self, HeaderName},
};

/// Whether a browser sends it for a page that is not ours. Programs that are no browsers say nothing of it.
pub fn is_foreign(headers: &HeaderMap) -> bool {
    let origin = text(headers, header::ORIGIN);
    let site = text(headers, HeaderName::from_static("sec-fetch-site"));
    if origin.is_none() && site.is_none() {
        return false;
    }
    let host = text(headers, header::HOST).unwrap_or_default();
    !has_own_name(headers)
        || origin.is_some_and(|origin| origin != format!("http://{host}"))
        || site.is_some_and(|site| !matches!(site, "same-origin" | "none"))
}

/// Whether `Host` is an address, or a name that always means this machine. A name of somebody else's that leads here
/// makes their page one of the same origin.
pub fn has_own_name(headers: &HeaderMap) -> bool {
    let Some(host) = text(headers, header::HOST) else { return false };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok()
}

/// A header's text. One that is no text counts as one that is unlike any other.
fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).map(|value| value.to_str().unwrap_or("?"))
}
