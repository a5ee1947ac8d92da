//! Which header fields pass, which are added, and what a request may not contain. Pure.

use super::refusal::Refusal;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Uri, Version};
use std::net::IpAddr;
use uuid::Uuid;

/// Fields that concern one connection only.
const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_REQUEST_START: HeaderName = HeaderName::from_static("x-request-start");

/// Named to app and client, the same in both.
pub const X_VCAP_REQUEST_ID: HeaderName = HeaderName::from_static("x-vcap-request-id");
const X_CF_APPLICATION_ID: HeaderName = HeaderName::from_static("x-cf-applicationid");
const X_CF_INSTANCE_ID: HeaderName = HeaderName::from_static("x-cf-instanceid");
const X_CF_INSTANCE_INDEX: HeaderName = HeaderName::from_static("x-cf-instanceindex");

/// Fields that a client can't have removed by listing them in `Connection`.
const PROTECTED: [HeaderName; 5] = [
    X_FORWARDED_FOR,
    X_FORWARDED_PROTO,
    X_FORWARDED_HOST,
    X_REQUEST_START,
    HeaderName::from_static("x-forwarded-client-cert"),
];

/// The host name that a request is for, without port.
///
/// # Errors
/// What makes the request unfit to be passed on.
pub fn check(parts: &Parts) -> Result<String, Refusal> {
    if parts.method == Method::CONNECT {
        return Err(Refusal::ConnectMethod);
    }
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let (first, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return Err(Refusal::SeveralHosts);
    }
    let mut codings = parts.headers.get_all(header::TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next()
        && (codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked"))
    {
        return Err(Refusal::TransferCoding);
    }
    // The target's authority counts, as RFC 9112 3.2.2 says; it has to agree with Host, or two readers differ.
    let named = first
        .map(|value| value.to_str())
        .transpose()
        .map_err(|_| Refusal::EmptyHost)?;
    let authority = parts.uri.authority().map(http::uri::Authority::as_str);
    if let (Some(authority), Some(named)) = (authority, named)
        && !authority.eq_ignore_ascii_case(named)
    {
        return Err(Refusal::SeveralHosts);
    }
    let host = authority.or(named).unwrap_or_default();
    let host = without_port(host);
    if host.is_empty() {
        Err(Refusal::EmptyHost)
    } else {
        Ok(host.to_owned())
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}

/// Whether the client asks for another protocol on this connection.
pub fn wants_upgrade(parts: &Parts) -> bool {
    parts.version == Version::HTTP_11
        && parts.headers.contains_key(header::UPGRADE)
        && listed(&parts.headers).any(|token| token.eq_ignore_ascii_case("upgrade"))
}

fn listed(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

/// Takes out what concerns one connection only, and what `Connection` lists.
pub fn strip_hop_by_hop(headers: &mut HeaderMap, keep_upgrade: bool) {
    let named: Vec<HeaderName> = listed(headers).filter_map(|token| token.parse().ok()).collect();
    for name in named
        .iter()
        .filter(|name| !PROTECTED.contains(name) && **name != header::UPGRADE)
    {
        headers.remove(name);
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
    if keep_upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    } else {
        headers.remove(header::UPGRADE);
    }
}

/// Turns the head of a client's request into that of the request to an instance.
pub fn forward(parts: &mut Parts, host: &str, client: IpAddr, request_id: Uuid, now_ms: i128, upgrade: bool) {
    strip_hop_by_hop(&mut parts.headers, upgrade);
    let target = parts.uri.path_and_query().cloned();
    parts.uri = target.map_or_else(|| Uri::from_static("/"), Uri::from);
    parts.version = Version::HTTP_11;
    let headers = &mut parts.headers;
    if !headers.contains_key(header::HOST) {
        insert(headers, header::HOST, host);
    }
    let forwarded: Vec<_> = headers
        .get_all(X_FORWARDED_FOR)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .map(str::to_owned)
        .collect();
    let chain = forwarded
        .into_iter()
        .chain([client.to_string()])
        .collect::<Vec<_>>()
        .join(", ");
    insert(headers, X_FORWARDED_FOR, &chain);
    if !headers.contains_key(X_FORWARDED_PROTO) {
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("http"));
    }
    if !headers.contains_key(X_FORWARDED_HOST) {
        insert(headers, X_FORWARDED_HOST, host);
    }
    if !headers.contains_key(X_REQUEST_START) {
        insert(headers, X_REQUEST_START, &now_ms.to_string());
    }
    insert(headers, X_VCAP_REQUEST_ID, &request_id.to_string());
}

/// Names the instance to the app.
pub fn name_instance(headers: &mut HeaderMap, endpoint: &crate::endpoint::Endpoint) {
    insert(headers, X_CF_APPLICATION_ID, &endpoint.app.to_string());
    insert(headers, X_CF_INSTANCE_ID, &endpoint.work.to_string());
    insert(headers, X_CF_INSTANCE_INDEX, &endpoint.index.to_string());
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// Whether a request may be sent twice without harm.
pub fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;
    use std::net::Ipv4Addr;

    fn parts(uri: &str, headers: &[(&str, &str)]) -> Parts {
        let request = headers
            .iter()
            .fold(Request::builder().uri(uri), |request, (n, v)| request.header(*n, *v));
        request.body(()).expect("valid").into_parts().0
    }

    #[test]
    fn hosts_are_found_or_refused() {
        let host = |uri: &str, headers: &[(&str, &str)]| check(&parts(uri, headers));
        assert_eq!(host("/", &[("host", "a.test:8080")]).as_deref(), Ok("a.test"));
        assert_eq!(host("http://a.test/", &[("host", "a.test")]).as_deref(), Ok("a.test"));
        assert_eq!(
            host("http://a.test/", &[("host", "b.test")]),
            Err(Refusal::SeveralHosts)
        );
        assert_eq!(host("/", &[("host", "a"), ("host", "a")]), Err(Refusal::SeveralHosts));
        assert_eq!(host("/", &[]), Err(Refusal::EmptyHost));
        assert_eq!(host("/", &[("host", "")]), Err(Refusal::EmptyHost));
        assert_eq!(
            host("/", &[("host", "a"), ("transfer-encoding", "gzip, chunked")]),
            Err(Refusal::TransferCoding)
        );
    }

    #[test]
    fn connection_options_go_but_not_what_is_protected() {
        let mut parts = parts(
            "http://a.test/x?y=1",
            &[
                ("host", "a.test"),
                ("connection", "close, X-Secret, X-Forwarded-For"),
                ("x-secret", "1"),
                ("x-forwarded-for", "10.0.0.1"),
                ("keep-alive", "5"),
                ("upgrade", "h2c"),
                ("x-vcap-request-id", "mine"),
            ],
        );
        forward(
            &mut parts,
            "a.test",
            IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9)),
            Uuid::nil(),
            17,
            false,
        );
        assert_eq!(parts.uri, "/x?y=1");
        let value = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
        assert_eq!(value("x-secret"), None);
        assert_eq!(value("connection"), None);
        assert_eq!(value("keep-alive"), None);
        assert_eq!(value("upgrade"), None);
        assert_eq!(value("x-forwarded-for"), Some("10.0.0.1, 192.0.2.9"));
        assert_eq!(value("x-forwarded-proto"), Some("http"));
        assert_eq!(value("x-request-start"), Some("17"));
        assert_eq!(value("x-vcap-request-id"), Some("00000000-0000-0000-0000-000000000000"));
    }

    #[test]
    fn an_upgrade_keeps_its_two_fields() {
        let mut parts = parts(
            "/",
            &[("host", "a"), ("connection", "Upgrade"), ("upgrade", "websocket")],
        );
        assert!(wants_upgrade(&parts));
        strip_hop_by_hop(&mut parts.headers, true);
        assert_eq!(
            parts.headers.get("upgrade").map(HeaderValue::as_bytes),
            Some(&b"websocket"[..])
        );
        assert_eq!(
            parts.headers.get("connection").map(HeaderValue::as_bytes),
            Some(&b"upgrade"[..])
        );
    }
}
