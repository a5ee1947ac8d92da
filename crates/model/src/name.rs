//! Names that users choose, parsed once at the edge. A value of these types is valid.

use serde::{Deserialize, Serialize};

/// Why a name was refused; says what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Nothing was given.
    #[error("{what} can't be blank")]
    Blank { what: &'static str },
    /// Longer than allowed.
    #[error("{what} is too long (maximum is {max} characters)")]
    TooLong { what: &'static str, max: usize },
    /// A character that is not allowed.
    #[error("{what} {rule}")]
    Characters { what: &'static str, rule: &'static str },
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident, $what:literal, $max:literal, $rule:literal, $check:expr;)+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name itself.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                let check: fn(&str) -> bool = $check;
                if text.is_empty() {
                    Err(InvalidName::Blank { what: $what })
                } else if text.chars().count() > $max {
                    Err(InvalidName::TooLong { what: $what, max: $max })
                } else if !check(&text) {
                    Err(InvalidName::Characters { what: $what, rule: $rule })
                } else {
                    Ok(Self(text))
                }
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::try_from(text.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }
    )+};
}

names! {
    /// An app's name: any printable text of 1 to 255 characters.
    AppName, "name", 255, "must contain only printable characters", |text| text.chars().all(|c| !c.is_control());
    /// A process type such as `web` or `worker`.
    ProcessType, "process type", 255, "may only contain letters, digits, hyphens and underscores", |text| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_' || b == b'.');
    /// The host part of a route: one DNS label or `*`.
    Hostname, "host", 63, "must be either \"*\" or contain only alphanumeric characters, \"_\", or \"-\"", |text| text == "*" || text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    /// A domain name such as `example.com`.
    DomainName, "name", 253, "does not comply with RFC 1035 standards", is_domain;
    /// The name of a stack, a root file system that apps run on.
    StackName, "stack", 64, "may only contain lower-case letters, digits, dots and hyphens", |text| text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.') && !text.starts_with('.');
    /// The name of an organisation or a space.
    TenantName, "name", 255, "must contain only printable characters", |text| text.chars().all(|c| !c.is_control());
}

fn is_domain(text: &str) -> bool {
    text.split('.').all(|label| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    })
}

/// The label that `text` becomes in a default route: lower-case, what DNS does not allow as hyphens, at most 63 long.
///
/// `None` where nothing usable is left.
#[must_use]
pub fn host_label(text: &str) -> Option<Hostname> {
    let label: String = text
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .take(63)
        .collect();
    label.trim_matches('-').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert!("my app".parse::<AppName>().is_ok());
        assert_eq!("".parse::<AppName>(), Err(InvalidName::Blank { what: "name" }));
        assert!("a\u{7}".parse::<AppName>().is_err());
        assert!("*".parse::<Hostname>().is_ok());
        assert!("a.b".parse::<Hostname>().is_err());
        assert!("apps.example.com".parse::<DomainName>().is_ok());
        assert!("-a.com".parse::<DomainName>().is_err());
        assert!("../etc".parse::<StackName>().is_err());
    }

    #[test]
    fn default_hosts_are_labels() {
        assert_eq!(host_label("My App_1").map(String::from).as_deref(), Some("my-app-1"));
        assert_eq!(host_label("***"), None);
        assert_eq!(host_label(&"x".repeat(90)).map(|h| h.as_str().len()), Some(63));
    }
}
