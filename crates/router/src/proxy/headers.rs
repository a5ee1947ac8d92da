//! Which header fields pass, which are added, and what a request may not contain. Pure.

use super::refusal::Refusal;
use super::trace;
use crate::config::{ClientCert, ForwardedProto};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Uri, Version};
use std::fmt::Write as _;
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

/// Whom the request passed.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
/// Scheme that the client used.
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_REQUEST_START: HeaderName = HeaderName::from_static("x-request-start");

/// Named to app and client, the same in both.
pub const X_VCAP_REQUEST_ID: HeaderName = HeaderName::from_static("x-vcap-request-id");
const X_CF_APPLICATION_ID: HeaderName = HeaderName::from_static("x-cf-applicationid");
const X_CF_INSTANCE_ID: HeaderName = HeaderName::from_static("x-cf-instanceid");
const X_CF_INSTANCE_INDEX: HeaderName = HeaderName::from_static("x-cf-instanceindex");

/// Fields that a client can't have removed by listing them in `Connection`.
const PROTECTED: [HeaderName; 6] = [
    X_FORWARDED_FOR,
    X_FORWARDED_PROTO,
    X_FORWARDED_HOST,
    X_REQUEST_START,
    X_FORWARDED_CLIENT_CERT,
    header::UPGRADE,
];

/// Fields of responses that are between instance and router.
const NOT_FOR_CLIENTS: [HeaderName; 2] = [
    HeaderName::from_static("x-cf-app-instance"),
    HeaderName::from_static("x-cf-proxy-signature"),
];

/// The host name that a request is for, without port.
///
/// # Errors
/// What makes the request unfit to be passed on.
pub fn check(parts: &Parts) -> Result<String, Refusal> {
    if parts.method == Method::CONNECT && parts.extensions.get::<hyper::ext::Protocol>().is_none() {
        return Err(Refusal::ConnectMethod);
    }
    let expects = parts.headers.get_all(header::EXPECT).iter();
    if expects
        .into_iter()
        .any(|value| !value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
    {
        return Err(Refusal::Expectation);
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

/// Whether the client asks for another protocol on this connection. HTTP/2 is not one: clients that ask for it this way
/// go on with HTTP/1.1 where nothing comes of it. What has a body is not either.
pub fn wants_upgrade(parts: &Parts) -> bool {
    let upgrades = parts.headers.get_all(header::UPGRADE).iter();
    let length = parts.headers.get(header::CONTENT_LENGTH);
    parts.version == Version::HTTP_11
        && upgrades
            .into_iter()
            .any(|value| !value.as_bytes().eq_ignore_ascii_case(b"h2c"))
        && listed(&parts.headers).any(|token| token.eq_ignore_ascii_case("upgrade"))
        && !parts.headers.contains_key(header::TRANSFER_ENCODING)
        && length.is_none_or(|length| length.as_bytes().iter().all(|digit| *digit == b'0'))
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
    let protected = |name: &HeaderName| PROTECTED.contains(name) || trace::FIELDS.contains(name);
    for name in named.iter().filter(|name| !protected(name)) {
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

/// What the router knows of the hop that a request came by.
pub struct Hop<'a> {
    /// The client's address.
    pub client: IpAddr,
    /// Whether it came by TLS.
    pub tls: bool,
    /// The client's certificate, if it proved to have one: base64 of its DER.
    pub certificate: Option<&'a str>,
    /// The id that was given to the request.
    pub request_id: &'a HeaderValue,
    /// When it came.
    pub now_ms: i64,
    /// Whether the client asks for another protocol.
    pub upgrade: bool,
    /// What becomes of `X-Forwarded-Client-Cert`.
    pub client_cert: ClientCert,
    /// What becomes of `X-Forwarded-Proto`.
    pub proto: ForwardedProto,
}

/// Turns the head of a client's request into that of the request to an instance.
pub fn forward(parts: &mut Parts, host: &str, hop: &Hop<'_>) {
    let trailers = parts
        .headers
        .get_all(header::TE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|coding| coding.trim().eq_ignore_ascii_case("trailers"));
    strip_hop_by_hop(&mut parts.headers, hop.upgrade);
    if trailers {
        // Says that the client reads trailers, which gRPC asks for; HTTP/1.1 instances don't get it.
        parts.headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    let authority = parts.uri.authority().map(http::uri::Authority::as_str).unwrap_or(host);
    if !parts.headers.contains_key(header::HOST) {
        insert(&mut parts.headers, header::HOST, authority);
    }
    let target = parts.uri.path_and_query().cloned();
    parts.uri = target.map_or_else(|| Uri::from_static("/"), Uri::from);
    parts.version = Version::HTTP_11;
    let headers = &mut parts.headers;
    forwarded_for(headers, hop.client);
    let proto = match (hop.proto, hop.tls) {
        (ForwardedProto::Https, _) | (_, true) => "https",
        _ => "http",
    };
    if hop.proto != ForwardedProto::Keep || !headers.contains_key(X_FORWARDED_PROTO) {
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(proto));
    }
    if !headers.contains_key(X_FORWARDED_HOST) {
        insert(headers, X_FORWARDED_HOST, host);
    }
    if !headers.contains_key(X_REQUEST_START) {
        headers.insert(X_REQUEST_START, HeaderValue::from(hop.now_ms));
    }
    client_cert(headers, hop);
    headers.insert(X_VCAP_REQUEST_ID, hop.request_id.clone());
}

/// Adds the client's address to the end of the chain.
fn forwarded_for(headers: &mut HeaderMap, client: IpAddr) {
    let mut chain = String::new();
    for value in headers
        .get_all(X_FORWARDED_FOR)
        .iter()
        .filter_map(|value| value.to_str().ok())
    {
        chain.push_str(value);
        chain.push_str(", ");
    }
    let _ = write!(chain, "{client}");
    insert(headers, X_FORWARDED_FOR, &chain);
}

fn client_cert(headers: &mut HeaderMap, hop: &Hop<'_>) {
    match (hop.client_cert, hop.certificate) {
        (ClientCert::AlwaysForward, _) | (ClientCert::Forward, Some(_)) => {}
        (ClientCert::Forward, None) | (ClientCert::SanitizeSet, None) => {
            headers.remove(X_FORWARDED_CLIENT_CERT);
        }
        (ClientCert::SanitizeSet, Some(certificate)) => insert(headers, X_FORWARDED_CLIENT_CERT, certificate),
    }
}

/// Turns the head of an instance's response into that for the client.
pub fn answer(headers: &mut HeaderMap) {
    strip_hop_by_hop(headers, false);
    for name in &NOT_FOR_CLIENTS {
        headers.remove(name);
    }
}

/// Names the instance to the app.
pub fn name_instance(headers: &mut HeaderMap, endpoint: &crate::endpoint::Endpoint) {
    headers.insert(X_CF_APPLICATION_ID, id(endpoint.app.0));
    headers.insert(X_CF_INSTANCE_ID, id(endpoint.work.0));
    headers.insert(X_CF_INSTANCE_INDEX, HeaderValue::from(endpoint.index));
}

/// An id as the value of a field.
pub fn id(id: Uuid) -> HeaderValue {
    let mut text = Uuid::encode_buffer();
    let text = id.hyphenated().encode_lower(&mut text);
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// Whether a request may be sent twice without harm: by its method, or because its client says so.
pub fn is_idempotent(method: &Method, headers: &HeaderMap) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE)
        || headers.contains_key("idempotency-key")
        || headers.contains_key("x-idempotency-key")
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;
    use std::net::Ipv4Addr;

    static ID: HeaderValue = HeaderValue::from_static("an-id");

    const HOP: Hop<'_> = Hop {
        client: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9)),
        tls: false,
        certificate: None,
        request_id: &ID,
        now_ms: 17,
        upgrade: false,
        client_cert: ClientCert::SanitizeSet,
        proto: ForwardedProto::Keep,
    };

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
                ("connection", "close, X-Secret, X-Forwarded-For, TraceParent"),
                ("traceparent", "x"),
                ("x-secret", "1"),
                ("x-forwarded-for", "10.0.0.1"),
                ("keep-alive", "5"),
                ("upgrade", "h2c"),
                ("x-vcap-request-id", "mine"),
            ],
        );
        forward(&mut parts, "a.test", &HOP);
        assert_eq!(parts.uri, "/x?y=1");
        let value = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
        assert_eq!(value("x-secret"), None);
        assert_eq!(value("connection"), None);
        assert_eq!(value("traceparent"), Some("x"));
        assert_eq!(value("keep-alive"), None);
        assert_eq!(value("upgrade"), None);
        assert_eq!(value("x-forwarded-for"), Some("10.0.0.1, 192.0.2.9"));
        assert_eq!(value("x-forwarded-proto"), Some("http"));
        assert_eq!(value("x-request-start"), Some("17"));
        assert_eq!(value("x-vcap-request-id"), Some("an-id"));
    }

    #[test]
    fn the_scheme_is_kept_or_set_as_configured() {
        for (proto, tls, came, goes) in [
            (ForwardedProto::Keep, false, None, "http"),
            (ForwardedProto::Keep, true, None, "https"),
            (ForwardedProto::Keep, false, Some("https"), "https"),
            (ForwardedProto::Sanitize, false, Some("https"), "http"),
            (ForwardedProto::Sanitize, true, Some("http"), "https"),
            (ForwardedProto::Https, false, Some("http"), "https"),
        ] {
            let fields: Vec<_> = came.map(|value| ("x-forwarded-proto", value)).into_iter().collect();
            let mut parts = parts("/", &fields);
            forward(&mut parts, "a.test", &Hop { proto, tls, ..HOP });
            assert_eq!(parts.headers[X_FORWARDED_PROTO], goes, "{proto:?} {tls} {came:?}");
        }
    }

    #[test]
    fn certificates_of_clients_pass_as_configured() {
        let spoofed = Some("spoofed");
        for (client_cert, certificate, goes) in [
            (ClientCert::AlwaysForward, None, spoofed),
            (ClientCert::AlwaysForward, Some("real"), spoofed),
            (ClientCert::Forward, None, None),
            (ClientCert::Forward, Some("real"), spoofed),
            (ClientCert::SanitizeSet, None, None),
            (ClientCert::SanitizeSet, Some("real"), Some("real")),
        ] {
            let mut parts = parts("/", &[("x-forwarded-client-cert", "spoofed")]);
            forward(
                &mut parts,
                "a.test",
                &Hop {
                    client_cert,
                    certificate,
                    ..HOP
                },
            );
            let value = parts.headers.get(X_FORWARDED_CLIENT_CERT);
            assert_eq!(
                value.and_then(|value| value.to_str().ok()),
                goes,
                "{client_cert:?} {certificate:?}"
            );
        }
    }

    #[test]
    fn fields_between_instance_and_router_stay_there() {
        let mut parts = parts(
            "/",
            &[("x-cf-app-instance", "1"), ("x-cf-proxy-signature", "2"), ("x-a", "3")],
        );
        answer(&mut parts.headers);
        assert_eq!(parts.headers.len(), 1);
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
