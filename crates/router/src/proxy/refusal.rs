//! Answers that the router gives in the app's place, with Cloud Foundry's `X-Cf-RouterError` values.

use super::body::ResponseBody;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};

/// Why a request got no answer of an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No route has this host and path.
    UnknownRoute,
    /// The route has no instance that could take it.
    NoEndpoints,
    /// An instance could not be reached, or broke off before a response began.
    EndpointFailure,
    /// An instance did not answer in time.
    EndpointTimeout,
    /// No host was named.
    EmptyHost,
    /// Two hosts were named.
    SeveralHosts,
    /// A transfer coding other than chunked.
    TransferCoding,
    /// `CONNECT`.
    ConnectMethod,
}

impl Refusal {
    /// Status, the value of `X-Cf-RouterError`, and the text.
    const fn parts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::UnknownRoute => (
                StatusCode::NOT_FOUND,
                "unknown_route",
                "Requested route does not exist.",
            ),
            Self::NoEndpoints => (
                StatusCode::SERVICE_UNAVAILABLE,
                "no_endpoints",
                "Requested route has no available endpoints.",
            ),
            Self::EndpointFailure => (
                StatusCode::BAD_GATEWAY,
                "endpoint_failure",
                "Registered endpoint failed to handle the request.",
            ),
            Self::EndpointTimeout => (
                StatusCode::GATEWAY_TIMEOUT,
                "endpoint_timeout",
                "Registered endpoint did not answer in time.",
            ),
            Self::EmptyHost => (StatusCode::BAD_REQUEST, "empty_host", "Request had empty Host header."),
            Self::SeveralHosts => (
                StatusCode::BAD_REQUEST,
                "ambiguous_host",
                "Request names more than one host.",
            ),
            Self::TransferCoding => (
                StatusCode::NOT_IMPLEMENTED,
                "transfer_coding",
                "Only the chunked transfer coding is supported.",
            ),
            Self::ConnectMethod => (
                StatusCode::METHOD_NOT_ALLOWED,
                "connect_method",
                "This is no forward proxy: CONNECT is not allowed.",
            ),
        }
    }

    /// The value of `X-Cf-RouterError`.
    pub const fn name(self) -> &'static str {
        self.parts().1
    }

    /// The answer. `host` is shown where the route is unknown.
    pub fn response(self, host: &str) -> Response<ResponseBody> {
        let (status, name, text) = self.parts();
        let text = if self == Self::UnknownRoute {
            format!("{status}: Requested route ('{host}') does not exist.\n")
        } else {
            format!("{status}: {text}\n")
        };
        let mut response = Response::new(ResponseBody::full(text));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert("x-cf-routererror", HeaderValue::from_static(name));
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store"));
        if matches!(self, Self::SeveralHosts | Self::TransferCoding | Self::EmptyHost) {
            // What follows on such a connection can't be trusted to be where it seems.
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
