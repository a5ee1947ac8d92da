//! Routes: their addresses, and which domain of the platform a written route belongs to.

use super::{Target, missing};
use crate::client::wire::{Links, Named, Route};
use crate::errors::Error;

/// Port of the router of a platform on this machine that does not say where its router is.
const LOCAL_ROUTER: u16 = 8080;

/// A route as it is written: host, domain, path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    pub host: String,
    pub domain: DomainRef,
    pub path: String,
}

/// Guid and name of a domain.
pub type DomainRef = (String, String);

/// The address at which a route answers.
pub fn url(route: &Route, links: &Links, api: &str) -> String {
    let router = links.router.as_ref().and_then(|link| url::Url::parse(&link.href).ok());
    let api = url::Url::parse(api).ok();
    let (scheme, port) = match (&router, &api) {
        (Some(router), _) => (router.scheme().to_owned(), router.port()),
        (None, Some(api)) if api.scheme() == "http" => ("http".to_owned(), Some(LOCAL_ROUTER)),
        _ => ("https".to_owned(), None),
    };
    let (host, path) = route
        .url
        .split_once('/')
        .map_or((route.url.as_str(), String::new()), |(host, path)| {
            (host, format!("/{path}"))
        });
    match port {
        Some(port) => format!("{scheme}://{host}:{port}{path}"),
        None => format!("{scheme}://{host}{path}"),
    }
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
        let none = Links::default();
        let links: Links =
            serde_json::from_value(json!({"router": {"href": "https://apps.test:8443"}})).expect("links");
        assert_eq!(url(&route, &none, "http://127.0.0.1:8181"), "http://a.localhost:8080/x");
        assert_eq!(url(&route, &none, "https://api.test"), "https://a.localhost/x");
        assert_eq!(
            url(&route, &links, "http://127.0.0.1:8181"),
            "https://a.localhost:8443/x"
        );
    }

    #[test]
    fn a_name_may_be_a_domain_or_a_host_below_one() {
        assert_eq!(candidates("a.b.c"), ["a.b.c", "b.c"]);
        assert_eq!(candidates("localhost"), ["localhost"]);
    }
}
