//! What both HTTP clients of the miner, of masters and of ann handlers, have in common.

use ureq::{Agent, Error, config::ConfigBuilder, typestate::AgentScope};
use url::{Host, Url};

/// A client that names itself, takes every status for an answer, and follows no redirect by itself. It uses a proxy
/// that the environment names; see [`is_loopback`].
pub fn client() -> ConfigBuilder<AgentScope> {
    Agent::config_builder()
        .user_agent(concat!("pktmine ", env!("CARGO_PKG_VERSION")))
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .max_response_header_size(16 << 10)
}

/// What went wrong, in words for a user.
pub fn reason(error: &Error) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("io: ").unwrap_or(&text);
    // What a TLS client meets that talks to a server without TLS.
    let remedy = if text.contains("InvalidContentType") { ": does it speak https? try http://" } else { "" };
    format!("{text}{remedy}")
}

/// Whether an address is on this machine, where no proxy can reach it.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}
