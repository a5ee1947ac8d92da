//! Routes: their addresses, and which domain of the platform a written route belongs to.

use super::{Target, missing};
use crate::client::wire::{Named, Platform, Route};
use crate::errors::Error;

/// A route as it is written: host, domain, path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    pub host: String,
    pub domain: DomainRef,
    pub path: String,
}

/// Guid and name of a domain.
pub type DomainRef = (String, String);

/// The address at which a route answers: at the router's port where the platform says it, else as the API's address is.
pub fn url(route: &Route, platform: &Platform, api: &str) -> String {
    let (scheme, port) = match platform.custom.router_port {
        Some(80) => ("http", String::new()),
        Some(443) => ("https", String::new()),
        Some(port) => ("http", format!(":{port}")),
        None if api.starts_with("http://") => ("http", String::new()),
        None => ("https", String::new()),
    };
    let (host, path) = route.url.split_at(route.url.find('/').unwrap_or(route.url.len()));
    format!("{scheme}://{host}{port}{path}")
}

/// Finds the domain that is meant by `text`, a domain or a whole route.
///
/// # Errors
/// Where no domain of the platform fits, or host or path are given twice.
pub async fn parse(target: &Target, text: &str, host: Option<&str>, path: Option<&str>) -> Result<Parts, Error> {
    let bare = text
        .split_once("://")
        .map_or(text, |(_, rest)| rest)
        .trim_end_matches('/');
    let (name, inline_path) = bare
        .split_once('/')
        .map_or((bare, None), |(name, path)| (name, Some(format!("/{path}"))));
    let name = name.split_once(':').map_or(name, |(name, _)| name).to_lowercase();
    let path = match (inline_path, path) {
        (Some(_), Some(_)) => return Err(Error::usage("the path is given twice")),
        (Some(path), None) => path,
        (None, Some(path)) => format!("/{}", path.trim_start_matches('/')),
        (None, None) => String::new(),
    };
    let candidates = candidates(&name);
    let domains = target.client.domains(&candidates).await?;
    // The longest domain wins: its own subdomains may be domains too.
    let domain = domains
        .into_iter()
        .filter(|domain| candidates.contains(&domain.name))
        .max_by_key(|domain| domain.name.len());
    let Some(Named { guid, name: found, .. }) = domain else {
        return Err(missing("domain", &name, "", &[]));
    };
    let inline_host = name
        .strip_suffix(&found)
        .map(|rest| rest.trim_end_matches('.'))
        .filter(|rest| !rest.is_empty());
    let host = match (inline_host, host) {
        (Some(_), Some(_)) => return Err(Error::usage("the host is given twice")),
        (Some(host), None) | (None, Some(host)) => host.to_lowercase(),
        (None, None) => String::new(),
    };
    Ok(Parts {
        host,
        domain: (guid, found),
        path,
    })
}

/// The name itself and the name without its first label.
fn candidates(name: &str) -> Vec<String> {
    let parent = name.split_once('.').map(|(_, parent)| parent.to_owned());
    std::iter::once(name.to_owned()).chain(parent).collect()
}

impl Parts {
    /// As people write it.
    pub fn name(&self) -> String {
        let dot = if self.host.is_empty() { "" } else { "." };
        format!("{}{dot}{}{}", self.host, self.domain.1, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn addresses_follow_the_router_or_the_api() {
        let route: Route = serde_json::from_value(json!({"guid": "r", "url": "a.localhost/x"})).expect("route");
        let none = Platform::default();
        let ours: Platform =
            serde_json::from_value(json!({"name": "paas", "build": "1.0.0", "custom": {"router_port": 8080}}))
                .expect("info");
        assert_eq!(url(&route, &ours, "http://127.0.0.1:8181"), "http://a.localhost:8080/x");
        assert_eq!(url(&route, &none, "https://api.test"), "https://a.localhost/x");
        assert_eq!(url(&route, &none, "http://api.test"), "http://a.localhost/x");
    }

    #[test]
    fn a_name_may_be_a_domain_or_a_host_below_one() {
        assert_eq!(candidates("a.b.c"), ["a.b.c", "b.c"]);
        assert_eq!(candidates("localhost"), ["localhost"]);
    }
}
