//! Answers that the router gives in the app's place, with Cloud Foundry's statuses, `X-Cf-RouterError` values and texts.

use super::body::ResponseBody;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};
use std::borrow::Cow;

/// Why an instance brought no response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Nothing listens there.
    Refused,
    /// It could not be connected to in time.
    ConnectTimedOut,
    /// The network has no way there, or what answered is no HTTP server.
    Unreachable,
    /// It closed the connection before a response began.
    BrokeOff,
    /// What it sent is no HTTP response.
    Malformed,
    /// No response began in the time allowed.
    TimedOut,
    /// The retry budget was used up.
    Budget,
}

impl Cause {
    const fn text(self) -> &'static str {
        match self {
            Self::Refused => "endpoint_failure (connection refused)",
            Self::ConnectTimedOut => "endpoint_failure (timed out connecting)",
            Self::Unreachable => "endpoint_failure (unreachable)",
            Self::BrokeOff => "endpoint_failure (EOF)",
            Self::Malformed => "endpoint_failure (malformed response)",
            Self::TimedOut => "endpoint_failure (timed out waiting for a response)",
            Self::Budget => "endpoint_failure (too many retries)",
        }
    }
}

/// Why a request got no answer of an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No route has this host and path.
    UnknownRoute,
    /// The request names an instance that its route does not have.
    UnknownInstance,
    /// The route has no instance that could take it.
    NoEndpoints,
    /// Every instance has as many requests as it may have.
    Full,
    /// An instance could not be reached, or broke off before a response began.
    EndpointFailure(Cause),
    /// `X-Cf-App-Instance` can't be read.
    AppInstanceHeader,
    /// `X-Cf-Process-Instance` can't be read.
    ProcessInstanceHeader,
    /// No host was named.
    EmptyHost,
    /// Two hosts were named.
    SeveralHosts,
    /// A transfer coding other than chunked.
    TransferCoding,
    /// `CONNECT`.
    ConnectMethod,
    /// An expectation other than `100-continue`.
    Expectation,
    /// The head is no HTTP, or could be read in two ways.
    Malformed,
    /// The head is too large, or has too many fields.
    HeadTooLarge,
    /// The head did not come in time.
    HeadTimedOut,
    /// The body is larger than the route allows.
    BodyTooLarge,
    /// The body stopped coming.
    BodyTimedOut,
    /// The body is not framed as HTTP asks.
    BodyMalformed,
    /// The client went away before it was answered.
    ClientGone,
}

/// The status of a request whose client went away before it was answered; nobody gets to see it.
pub const CLIENT_GONE: u16 = 499;

impl Refusal {
    /// Status, the value of `X-Cf-RouterError`, and the text.
    fn parts(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::UnknownRoute => (404, "unknown_route", "Requested route ('{host}') does not exist."),
            Self::UnknownInstance => (
                400,
                "unknown_route",
                "Requested instance does not exist for route ('{host}')",
            ),
            Self::NoEndpoints => (
                503,
                "no_endpoints",
                "Requested route ('{host}') has no available endpoints.",
            ),
            Self::Full => (503, "Connection Limit Reached", "Connection Limit Reached"),
            Self::EndpointFailure(cause) => (502, cause.text(), "Registered endpoint failed to handle the request."),
            Self::AppInstanceHeader => (
                400,
                "invalid_cf_app_instance_header",
                "Invalid X-Cf-App-Instance Header",
            ),
            Self::ProcessInstanceHeader => (
                400,
                "invalid_cf_process_instance_header",
                "Invalid X-Cf-Process-Instance Header",
            ),
            Self::EmptyHost => (400, "empty_host", "Request had empty Host header"),
            Self::HeadTooLarge => (
                431,
                "max-request-size-exceeded",
                "The request's header fields are too large or too many.",
            ),
            Self::ClientGone => (CLIENT_GONE, "endpoint_failure (context canceled)", "Client gone."),
            _ => self.own_parts(),
        }
    }

    /// Those that Cloud Foundry's router has no name for.
    const fn own_parts(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::SeveralHosts => (400, "ambiguous_host", "Request names more than one host."),
            Self::TransferCoding => (501, "transfer_coding", "Only the chunked transfer coding is supported."),
            Self::ConnectMethod => (
                405,
                "connect_method",
                "This is no forward proxy: CONNECT is not allowed.",
            ),
            Self::Expectation => (417, "expectation", "Only the expectation 100-continue is supported."),
            Self::HeadTimedOut => (408, "request_timeout", "The request's head did not come in time."),
            Self::BodyTooLarge => (413, "max-body-size-exceeded", "The request's body is too large."),
            Self::BodyTimedOut => (408, "request_timeout", "The request's body did not come in time."),
            Self::BodyMalformed => (400, "malformed_body", "The request's body is not framed correctly."),
            _ => (400, "malformed_request", "The request is malformed or ambiguous."),
        }
    }

    /// The value of `X-Cf-RouterError`.
    pub fn name(self) -> &'static str {
        self.parts().1
    }

    /// The status.
    pub fn status(self) -> u16 {
        self.parts().0
    }

    /// Whether what follows on the connection can't be trusted to be where it seems.
    const fn ends_connection(self) -> bool {
        matches!(
            self,
            Self::SeveralHosts
                | Self::TransferCoding
                | Self::EmptyHost
                | Self::Malformed
                | Self::HeadTooLarge
                | Self::HeadTimedOut
                | Self::BodyTooLarge
                | Self::BodyTimedOut
                | Self::BodyMalformed
                | Self::ConnectMethod
        )
    }

    const fn cache_control(self) -> &'static str {
        match self {
            Self::EmptyHost => "public,max-age=2",
            _ => "no-cache, no-store",
        }
    }

    /// The answer. `host` is shown where the text names the route.
    pub fn response(self, host: &str) -> Response<ResponseBody> {
        let (status, name, text) = self.parts();
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
        let text = if text.contains("{host}") {
            Cow::Owned(text.replace("{host}", host))
        } else {
            Cow::Borrowed(text)
        };
        let reason = status.canonical_reason().unwrap_or("Error");
        let mut response = Response::new(ResponseBody::full(format!("{} {reason}: {text}\n", status.as_u16())));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert("x-cf-routererror", HeaderValue::from_static(name));
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(self.cache_control()));
        if self.ends_connection() {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    #[tokio::test]
    async fn router_errors_have_the_names_statuses_and_texts_of_cloud_foundry() {
        for (refusal, status, name, text) in [
            (
                Refusal::UnknownRoute,
                404,
                "unknown_route",
                "404 Not Found: Requested route ('a.test') does not exist.\n",
            ),
            (
                Refusal::NoEndpoints,
                503,
                "no_endpoints",
                "503 Service Unavailable: Requested route ('a.test') has no available endpoints.\n",
            ),
            (
                Refusal::Full,
                503,
                "Connection Limit Reached",
                "503 Service Unavailable: Connection Limit Reached\n",
            ),
            (
                Refusal::EndpointFailure(Cause::Refused),
                502,
                "endpoint_failure (connection refused)",
                "502 Bad Gateway: Registered endpoint failed to handle the request.\n",
            ),
            (
                Refusal::EmptyHost,
                400,
                "empty_host",
                "400 Bad Request: Request had empty Host header\n",
            ),
            (
                Refusal::AppInstanceHeader,
                400,
                "invalid_cf_app_instance_header",
                "400 Bad Request: Invalid X-Cf-App-Instance Header\n",
            ),
        ] {
            let response = refusal.response("a.test");
            assert_eq!(response.status().as_u16(), status);
            assert_eq!(response.headers()["x-cf-routererror"], name);
            assert_eq!(response.headers()["x-content-type-options"], "nosniff");
            let cache = if refusal == Refusal::EmptyHost {
                "public,max-age=2"
            } else {
                "no-cache, no-store"
            };
            assert_eq!(response.headers()["cache-control"], cache);
            let body = response.into_body().collect().await.expect("whole").to_bytes();
            assert_eq!(body, text.as_bytes());
        }
    }
}
