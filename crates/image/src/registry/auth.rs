//! What registries want to know before they answer, and how it is said.

use super::Credentials;
use base64::Engine as _;
use model::Secret;
use serde::Deserialize;

/// Longest text of a registry that is shown.
const SHOWN: usize = 300;

/// What a registry asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// Name and password.
    Basic,
    /// A token that somebody else gives.
    Bearer {
        /// Address of who does.
        realm: String,
        /// What the token is to be for.
        service: Option<String>,
    },
}

impl Challenge {
    /// Reads one `WWW-Authenticate`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once(' ').unwrap_or((text, ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service) = (None, None);
        for (name, value) in parameters(rest) {
            match name {
                name if name.eq_ignore_ascii_case("realm") => realm = Some(value),
                name if name.eq_ignore_ascii_case("service") => service = Some(value),
                _ => {}
            }
        }
        realm.map(|realm| Self::Bearer { realm, service })
    }
}

/// `name="value"` with commas between, also within the values.
fn parameters(mut rest: &str) -> Vec<(&str, String)> {
    let mut all = Vec::new();
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim_matches([' ', ',']);
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(',').unwrap_or((after, "")),
        };
        all.push((name, value.to_owned()));
        rest = after;
    }
    all
}

/// `Authorization` by name and password.
pub(super) fn basic(credentials: &Credentials) -> Secret {
    let pair = format!("{}:{}", credentials.username, credentials.password.expose());
    let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
    Secret::new(format!("Basic {encoded}"))
}

#[derive(Deserialize)]
struct Given {
    token: Option<Secret>,
    access_token: Option<Secret>,
}

/// `Authorization` by what a token server answers.
pub(super) fn token(text: &[u8]) -> Option<Secret> {
    let given: Given = serde_json::from_slice(text).ok()?;
    let token = given.token.or(given.access_token)?;
    let plain = !token.expose().is_empty() && token.expose().chars().all(|c| c.is_ascii_graphic());
    plain.then(|| Secret::new(format!("Bearer {}", token.expose())))
}

#[derive(Deserialize)]
struct Errors {
    errors: Vec<Detail>,
}

#[derive(Deserialize)]
struct Detail {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// What a registry says of an error, harmless and short.
pub(super) fn detail(text: &[u8]) -> String {
    let text = match serde_json::from_slice::<Errors>(text) {
        Ok(Errors { errors }) => errors
            .iter()
            .map(|error| format!("{} {}", error.code, error.message).trim().to_owned())
            .collect::<Vec<_>>()
            .join(", "),
        Err(_) => String::from_utf8_lossy(text).into_owned(),
    };
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(SHOWN)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Challenge::Bearer {
                realm: realm.to_owned(),
                service: service.map(str::to_owned),
            })
        };
        for (text, expected) in [
            ("Basic realm=\"x\"", Some(Challenge::Basic)),
            ("basic", Some(Challenge::Basic)),
            (
                r#"Bearer realm="https://a.example/t",service="r.example",scope="repository:x:pull,push""#,
                bearer("https://a.example/t", Some("r.example")),
            ),
            (
                r#"bearer Realm=https://a.example/t"#,
                bearer("https://a.example/t", None),
            ),
            (r#"Bearer service="x""#, None),
            ("Negotiate", None),
            ("", None),
            (r#"Bearer realm="#, bearer("", None)),
        ] {
            assert_eq!(Challenge::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn tokens_and_complaints_are_read() {
        assert_eq!(token(br#"{"token":"t"}"#), Some(Secret::new("Bearer t")));
        assert_eq!(token(br#"{"access_token":"a"}"#), Some(Secret::new("Bearer a")));
        assert_eq!(token(br#"{"token":"a\nb"}"#), None);
        assert_eq!(token(b"<html>"), None);
        let text = br#"{"errors":[{"code":"DENIED","message":"no \u001b[31m"}]}"#;
        assert_eq!(detail(text), "DENIED no  [31m");
        assert_eq!(detail(&[b'x'; 1000]).len(), SHOWN);
    }
}
