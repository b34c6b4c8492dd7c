//! Who may read and who may control.
//!
//! With a token, whoever shows it. Without one, reading is open, and control is for programs on this machine: pages of
//! other sites that a browser on it shows can send requests here too, and must not get through.

use std::{fmt, fs, path::Path, str::FromStr};

use hyper::{HeaderMap, header};
use subtle::ConstantTimeEq;

use super::Settings;
use crate::http_server::origin;

/// What clients must show as `Authorization: Bearer …`. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

/// A text that is no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The file that holds it cannot be read.
    #[error("the file with the token, {path}, cannot be read: {reason}")]
    Unreadable {
        /// The file.
        path: String,
        /// What the system says.
        reason: String,
    },
    /// It could not be sent in a header, or there is none.
    #[error(
        "a token is letters, digits and signs of ASCII without blanks, at least one; @FILE takes it from a file"
    )]
    Characters,
}

impl FromStr for Token {
    type Err = TokenError;

    /// Reads a token, or with `@` before it the name of a file that holds one.
    fn from_str(text: &str) -> Result<Self, TokenError> {
        let token = match text.strip_prefix('@') {
            Some(path) => fs::read_to_string(Path::new(path))
                .map_err(|e| TokenError::Unreadable { path: path.to_owned(), reason: e.to_string() })?
                .trim()
                .to_owned(),
            None => text.to_owned(),
        };
        let is_one = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        is_one.then_some(Self(token)).ok_or(TokenError::Characters)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(not shown)")
    }
}

impl Token {
    /// Whether a request shows it. How long that takes tells nothing of it but its length.
    fn is_shown(&self, headers: &HeaderMap) -> bool {
        let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.as_bytes().split_at_checked(7));
        shown.is_some_and(|(scheme, shown)| {
            scheme.eq_ignore_ascii_case(b"bearer ") && bool::from(shown.ct_eq(self.0.as_bytes()))
        })
    }
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// It shows no token, or the wrong one.
    Token,
    /// Nobody may control.
    ReadOnly,
    /// It comes from a page of another site.
    OtherSite,
    /// Its content type is one that pages of other sites can send without asking.
    ContentType,
}

impl Denied {
    /// One line that says why and what to do.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Token => "Unauthorized: send the token as \"Authorization: Bearer TOKEN\"",
            Self::ReadOnly => "Forbidden: the API is read-only; --http-control lets it control the miner",
            Self::OtherSite => {
                "Forbidden: pages of other sites, and other names of this machine, need a token (--http-token)"
            }
            Self::ContentType => "Unsupported Media Type: send it as application/json",
        }
    }

    /// The HTTP status.
    pub fn status(self) -> u16 {
        match self {
            Self::Token => 401,
            Self::ReadOnly | Self::OtherSite => 403,
            Self::ContentType => 415,
        }
    }
}

/// Whether a request may read.
pub fn may_read(settings: &Settings, headers: &HeaderMap) -> Result<(), Denied> {
    match &settings.token {
        Some(token) if !token.is_shown(headers) => Err(Denied::Token),
        _ => Ok(()),
    }
}

/// Whether a request may control the miner.
pub fn may_control(settings: &Settings, headers: &HeaderMap) -> Result<(), Denied> {
    may_read(settings, headers)?;
    if !settings.control {
        return Err(Denied::ReadOnly);
    }
    // A browser adds no token by itself: who has it may.
    if settings.token.is_none() {
        if !origin::has_own_name(headers) || origin::is_foreign(headers) {
            return Err(Denied::OtherSite);
        }
        let content_type =
            headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let content_type = content_type.split(';').next().unwrap_or_default().trim();
        if !content_type.eq_ignore_ascii_case("application/json") {
            return Err(Denied::ContentType);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderName;

    use super::*;

    fn settings(token: Option<&str>, control: bool) -> Settings {
        let token = token.map(|text| text.parse().expect("a token"));
        Settings { listen: ([127, 0, 0, 1], 4048).into(), token, control, cards: Vec::new() }
    }

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), value.parse().expect("a header"))
        };
        list.iter().map(pair).collect()
    }

    #[test]
    fn only_the_whole_token_opens() {
        let closed = settings(Some("s3cret"), false);
        for (value, expected) in [
            ("Bearer s3cret", Ok(())),
            ("bearer s3cret", Ok(())),
            ("Bearer s3cre", Err(Denied::Token)),
            ("Bearer s3crets", Err(Denied::Token)),
            ("Bearer ", Err(Denied::Token)),
            ("Basic s3cret", Err(Denied::Token)),
            ("s3cret", Err(Denied::Token)),
        ] {
            assert_eq!(may_read(&closed, &headers(&[("authorization", value)])), expected, "{value}");
        }
        assert_eq!(may_read(&closed, &headers(&[])), Err(Denied::Token));
        assert_eq!(may_read(&settings(None, false), &headers(&[])), Ok(()));
        assert_eq!(format!("{:?}", closed.token), "Some(Token(not shown))");
    }

    #[test]
    fn pages_of_other_sites_control_nothing() {
        let open = settings(None, true);
        let json = ("content-type", "application/json; charset=utf-8");
        let own = ("host", "127.0.0.1:4048");
        for (list, expected) in [
            (vec![json, own], Ok(())),
            (vec![json, ("host", "localhost:4048"), ("origin", "http://localhost:4048")], Ok(())),
            (vec![json, ("host", "[::1]:4048"), ("sec-fetch-site", "same-origin")], Ok(())),
            (vec![json, own, ("origin", "https://evil.example")], Err(Denied::OtherSite)),
            (vec![json, own, ("origin", "null")], Err(Denied::OtherSite)),
            (vec![json, own, ("origin", "http://127.0.0.1:8080")], Err(Denied::OtherSite)),
            (vec![json, own, ("sec-fetch-site", "cross-site")], Err(Denied::OtherSite)),
            // A name that its owner lets lead to this machine.
            (
                vec![json, ("host", "evil.example:4048"), ("origin", "http://evil.example:4048")],
                Err(Denied::OtherSite),
            ),
            (vec![json], Err(Denied::OtherSite)),
            // What a form can send.
            (vec![own, ("content-type", "text/plain")], Err(Denied::ContentType)),
            (vec![own], Err(Denied::ContentType)),
        ] {
            assert_eq!(may_control(&open, &headers(&list)), expected, "{list:?}");
        }
        let with_token = settings(Some("t"), true);
        let dashboard = [("authorization", "Bearer t"), ("origin", "https://dashboard.example")];
        assert_eq!(may_control(&with_token, &headers(&dashboard)), Ok(()));
        assert_eq!(may_control(&with_token, &headers(&[json, own])), Err(Denied::Token));
        assert_eq!(may_control(&settings(None, false), &headers(&[json, own])), Err(Denied::ReadOnly));
    }

    #[test]
    fn a_token_may_be_in_a_file_and_is_never_empty() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        fs::write(&path, "abc\n").expect("it can be written");
        let named = format!("@{}", path.display());
        assert_eq!(named.parse(), Ok(Token("abc".into())));
        fs::write(&path, "\n").expect("it can be written");
        assert_eq!(named.parse::<Token>(), Err(TokenError::Characters));
        assert!(matches!("@/nowhere/token".parse::<Token>(), Err(TokenError::Unreadable { .. })));
        for text in ["", "a b", "ä"] {
            assert_eq!(text.parse::<Token>(), Err(TokenError::Characters), "{text:?}");
        }
    }
}
