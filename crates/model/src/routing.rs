//! What a route asks of routers, and what an app speaks to them: names and rules as CF has them. How an instance is
//! chosen then is the router's.

use crate::resource::Route;
use serde::{Deserialize, Serialize};

/// Longest name of a field of requests, in bytes.
const MAX_HEADER_BYTES: usize = 127;
/// What a bound on the load of hashed instances may be, in percent of the mean.
const BALANCE_PERCENT: std::ops::RangeInclusive<u16> = 110..=1000;

/// How an instance is chosen among those of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LoadBalancing {
    /// One after the other.
    RoundRobin,
    /// The one with the fewest requests in flight.
    LeastConnection,
    /// By the value of a field of the request, so that equal values meet the same instance.
    Hash,
}

/// What an instance speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 without TLS, from the first byte.
    Http2,
}

impl Protocol {
    /// Whether it is the one that holds where none is named.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// CF's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http2 => "http2",
        }
    }

    /// The protocol of this name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        [Self::Http1, Self::Http2].into_iter().find(|one| one.name() == name)
    }
}

impl LoadBalancing {
    const ALL: [Self; 3] = [Self::RoundRobin, Self::LeastConnection, Self::Hash];

    /// CF's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RoundRobin => "round-robin",
            Self::LeastConnection => "least-connection",
            Self::Hash => "hash",
        }
    }
}

/// What is set of a route; whatever is not is the routers' own default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteOptions {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loadbalancing: Option<LoadBalancing>,
    /// Field of the request by whose value [`LoadBalancing::Hash`] chooses; set with it, and with it alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash_header: Option<String>,
    /// How much of the mean load an instance may have before a hashed request goes to the next, in percent; 0 is no
    /// bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash_balance_percent: Option<u16>,
}

/// A change: each option by name, with what it is to be; `None` removes it.
pub type OptionsChange = Vec<(String, Option<String>)>;

impl RouteOptions {
    /// These options, changed.
    ///
    /// # Errors
    /// What is wrong, in words for whoever wrote it.
    pub fn changed(&self, change: &OptionsChange) -> Result<Self, String> {
        let mut options = self.clone();
        for (name, value) in change {
            let value = value.as_deref();
            match name.as_str() {
                "loadbalancing" => options.loadbalancing = value.map(loadbalancing).transpose()?,
                "hash_header" => options.hash_header = value.map(header).transpose()?,
                "hash_balance" => options.hash_balance_percent = value.map(balance).transpose()?,
                other => return Err(format!("Options Unknown field(s): '{other}'")),
            }
        }
        let hashes = options.loadbalancing == Some(LoadBalancing::Hash);
        if hashes && options.hash_header.is_none() {
            return Err("Options Hash header must be present when loadbalancing is set to hash".to_owned());
        }
        let named = change
            .iter()
            .any(|(name, value)| name.starts_with("hash_") && value.is_some());
        if !hashes && named {
            return Err("Options Hash header and Hash balance can only be set when loadbalancing is hash".to_owned());
        }
        if !hashes {
            // They went with the choice that they are of.
            (options.hash_header, options.hash_balance_percent) = (None, None);
        }
        Ok(options)
    }

    /// What is set, by name, as clients read it: all of it text.
    #[must_use]
    pub fn told(&self) -> Vec<(&'static str, String)> {
        let choice = self
            .loadbalancing
            .map(|choice| ("loadbalancing", choice.name().to_owned()));
        let header = self.hash_header.clone().map(|header| ("hash_header", header));
        let balance = self.hash_balance().map(|balance| ("hash_balance", balance.to_string()));
        [choice, header, balance].into_iter().flatten().collect()
    }

    /// How many times the mean load an instance may have before a hashed request goes to the next.
    #[must_use]
    pub fn hash_balance(&self) -> Option<f64> {
        self.hash_balance_percent.map(|percent| f64::from(percent) / 100.0)
    }
}

fn loadbalancing(text: &str) -> Result<LoadBalancing, String> {
    let found = LoadBalancing::ALL.into_iter().find(|one| one.name() == text);
    found.ok_or_else(|| {
        let all = LoadBalancing::ALL.map(LoadBalancing::name).join(", ");
        format!("Options Loadbalancing must be one of '{all}' if present")
    })
}

fn header(text: &str) -> Result<String, String> {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if !text.is_empty() && text.len() <= MAX_HEADER_BYTES && text.bytes().all(letter) {
        Ok(text.to_owned())
    } else {
        Err("Options Hash header must be the name of a header".to_owned())
    }
}

fn balance(text: &str) -> Result<u16, String> {
    let wrong = || "Options Hash balance must be either 0 or between 1.1 and 10.0".to_owned();
    let number: f64 = text.trim().parse().map_err(|_| wrong())?;
    if !(0.0..=10.0).contains(&number) {
        return Err(wrong());
    }
    // From 0 to 1000, as was just seen.
    let percent = (number * 100.0).round() as u16;
    if percent == 0 || BALANCE_PERCENT.contains(&percent) {
        Ok(percent)
    } else {
        Err(wrong())
    }
}

impl Route {
    /// Host name and path as a client writes them, such as `shop.example.com/cart`.
    #[must_use]
    pub fn url(&self) -> String {
        match &self.host {
            Some(host) => format!("{host}.{}{}", self.domain_name, self.path),
            None => format!("{}{}", self.domain_name, self.path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(changes: &[(&str, Option<&str>)]) -> OptionsChange {
        let one = |(name, value): &(&str, Option<&str>)| ((*name).to_owned(), value.map(ToOwned::to_owned));
        changes.iter().map(one).collect()
    }

    #[test]
    fn options_are_set_changed_and_removed() {
        let none = RouteOptions::default();
        let hash = [
            ("loadbalancing", Some("hash")),
            ("hash_header", Some("X-User")),
            ("hash_balance", Some("1.25")),
        ];
        let hashed = none.changed(&change(&hash)).expect("sound");
        let told = |name, text: &str| (name, text.to_owned());
        let all = [
            told("loadbalancing", "hash"),
            told("hash_header", "X-User"),
            told("hash_balance", "1.25"),
        ];
        assert_eq!(hashed.told(), all);
        let free = hashed.changed(&change(&[("hash_balance", None)])).expect("sound");
        assert_eq!(free.told(), all[..2]);
        // What belongs to a choice goes with it.
        let other = hashed
            .changed(&change(&[("loadbalancing", Some("least-connection"))]))
            .expect("sound");
        assert_eq!(other.told(), [told("loadbalancing", "least-connection")]);
        assert_eq!(hashed.changed(&change(&[("loadbalancing", None)])), Ok(none.clone()));
        assert_eq!(none.changed(&Vec::new()), Ok(none));
        let text = serde_json::to_string(&hashed).expect("serialises");
        assert_eq!(serde_json::from_str::<RouteOptions>(&text).expect("reads"), hashed);
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (changes, part) in [
            (
                &[("loadbalancing", Some("random"))][..],
                "must be one of 'round-robin, least-connection, hash'",
            ),
            (&[("gorilla", Some("1"))], "Unknown field(s): 'gorilla'"),
            (&[("gorilla", None)], "Unknown field(s)"),
            (&[("loadbalancing", Some("hash"))], "Hash header must be present"),
            (
                &[("hash_header", Some("X-User"))],
                "can only be set when loadbalancing is hash",
            ),
            (
                &[("loadbalancing", Some("round-robin")), ("hash_balance", Some("2"))],
                "can only be set",
            ),
            (
                &[("loadbalancing", Some("hash")), ("hash_header", Some("a b"))],
                "name of a header",
            ),
            (
                &[
                    ("loadbalancing", Some("hash")),
                    ("hash_header", Some("x")),
                    ("hash_balance", Some("1.05")),
                ],
                "1.1",
            ),
            (&[("hash_balance", Some("NaN"))], "between 1.1 and 10.0"),
            (&[("hash_balance", Some("-1"))], "between 1.1 and 10.0"),
        ] {
            let error = RouteOptions::default().changed(&change(changes)).expect_err("refused");
            assert!(error.contains(part), "{changes:?}: {error}");
        }
    }
}
