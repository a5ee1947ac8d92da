//! What is known of a request that has ended, and its line in the order and with the names of Cloud Foundry's router.

use super::Query;
use crate::proxy::trace::Trace;
use http::header::HeaderValue;
use model::id::{AppId, WorkId};
use std::fmt::Write as _;
use std::net::{SocketAddr, SocketAddrV4};
use std::time::Duration;
use time::OffsetDateTime;
use time::macros::format_description;
use uuid::Uuid;

/// Longest value of a request's field in a line, in bytes; what is longer is cut.
const MAX_FIELD: usize = 2048;
/// Longest path with its query in a line, in bytes.
const MAX_PATH: usize = 8192;

/// A request that has ended.
#[derive(Debug, Clone)]
pub struct Record {
    /// When it came.
    pub at: OffsetDateTime,
    /// As the client named it.
    pub host: String,
    /// Its method.
    pub method: http::Method,
    /// What it asked for.
    pub uri: http::Uri,
    /// Version of HTTP that the client speaks.
    pub version: http::Version,
    /// The client's address.
    pub client: SocketAddr,
    /// Named to app and client.
    pub request_id: Uuid,
    /// Its trace.
    pub trace: Trace,
    /// `Referer`.
    pub referer: Option<HeaderValue>,
    /// `User-Agent`.
    pub user_agent: Option<HeaderValue>,
    /// `X-Forwarded-For` as the app got it.
    pub forwarded_for: Option<HeaderValue>,
    /// `X-Forwarded-Proto` as the app got it.
    pub forwarded_proto: Option<HeaderValue>,
    /// Name that the client asked for in the TLS handshake.
    pub sni: Option<std::sync::Arc<str>>,
    /// Status that the client got.
    pub status: u16,
    /// Body bytes that came from the client.
    pub received_bytes: u64,
    /// Body bytes sent to the client.
    pub sent_bytes: u64,
    /// From the first byte of the head to the last of the response.
    pub duration: Duration,
    /// Instances that failed before the one that answered.
    pub failed_attempts: u32,
    /// Time that those took.
    pub failed_time: Duration,
    /// Time to connect, where a connection was opened.
    pub dial: Option<Duration>,
    /// From sending the request to the end of the response, at the instance that answered.
    pub backend: Option<Duration>,
    /// Why the router answered in the app's place.
    pub refusal: Option<&'static str>,
    /// The instance that answered, or that was tried last.
    pub served_by: Option<Served>,
}

/// An instance as a record has it.
#[derive(Debug, Clone, Copy)]
pub struct Served {
    /// The app.
    pub app: AppId,
    /// Its work.
    pub work: WorkId,
    /// Its index.
    pub index: u32,
    /// Where it listens.
    pub address: SocketAddrV4,
}

impl Record {
    /// Of a request that came now.
    pub fn new(client: SocketAddr, request_id: Uuid, parts: &http::request::Parts) -> Self {
        Self {
            at: OffsetDateTime::now_utc(),
            host: String::new(),
            method: parts.method.clone(),
            uri: parts.uri.clone(),
            version: parts.version,
            client,
            request_id,
            trace: Trace::default(),
            referer: parts.headers.get(http::header::REFERER).cloned(),
            user_agent: parts.headers.get(http::header::USER_AGENT).cloned(),
            forwarded_for: None,
            forwarded_proto: None,
            sni: None,
            status: 0,
            received_bytes: 0,
            sent_bytes: 0,
            duration: Duration::ZERO,
            failed_attempts: 0,
            failed_time: Duration::ZERO,
            dial: None,
            backend: None,
            refusal: None,
            served_by: None,
        }
    }

    /// The line, without its end.
    pub fn line(&self, query: Query) -> String {
        let mut line = String::with_capacity(768);
        // Writing to a string can't fail.
        let _ = self.write(&mut line, query);
        line
    }

    fn write(&self, line: &mut String, query: Query) -> std::fmt::Result {
        let at = self.at.format(format_description!(
            "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:9]Z"
        ));
        escape(line, self.host.as_bytes(), MAX_FIELD);
        write!(line, " - [{}] \"{} ", at.unwrap_or_default(), self.method)?;
        let path = match query {
            Query::Keep => self.uri.path_and_query().map_or("/", |target| target.as_str()),
            Query::Redact => self.uri.path(),
        };
        escape(line, path.as_bytes(), MAX_PATH);
        write!(
            line,
            " {:?}\" {} {} {} ",
            self.version, self.status, self.received_bytes, self.sent_bytes
        )?;
        quoted(line, self.referer.as_ref());
        line.push(' ');
        quoted(line, self.user_agent.as_ref());
        write!(line, " \"{}\" ", self.client)?;
        match &self.served_by {
            Some(served) => write!(line, "\"{}\"", served.address)?,
            None => line.push_str("\"-\""),
        }
        line.push_str(" x_forwarded_for:");
        quoted(line, self.forwarded_for.as_ref());
        line.push_str(" x_forwarded_proto:");
        quoted(line, self.forwarded_proto.as_ref());
        write!(line, " vcap_request_id:\"{}\"", self.request_id)?;
        self.write_times(line)?;
        match &self.served_by {
            Some(served) => write!(
                line,
                " app_id:\"{}\" app_index:\"{}\" instance_id:\"{}\"",
                served.app, served.index, served.work
            )?,
            None => line.push_str(" app_id:\"-\" app_index:\"-\" instance_id:\"-\""),
        }
        write!(line, " failed_attempts:{}", self.failed_attempts)?;
        seconds(
            line,
            "failed_attempts_time",
            (self.failed_attempts > 0).then_some(self.failed_time),
        )?;
        seconds(line, "dial_time", self.dial)?;
        seconds(line, "backend_time", self.backend)?;
        write!(line, " x_cf_routererror:\"{}\"", self.refusal.unwrap_or("-"))?;
        line.push_str(" tls_sni:\"");
        escape(line, self.sni.as_deref().unwrap_or("-").as_bytes(), MAX_FIELD);
        write!(
            line,
            "\" x_b3_traceid:\"{:032x}\" x_b3_spanid:\"{:016x}\" x_b3_parentspanid:",
            self.trace.trace, self.trace.span
        )?;
        match self.trace.parent {
            Some(parent) => write!(line, "\"{parent:016x}\""),
            None => line.write_str("\"-\""),
        }
    }

    fn write_times(&self, line: &mut String) -> std::fmt::Result {
        let own = self.backend.map(|backend| self.duration.saturating_sub(backend));
        seconds(line, "response_time", Some(self.duration))?;
        seconds(line, "gorouter_time", Some(own.unwrap_or(self.duration)))
    }
}

fn seconds(line: &mut String, name: &str, time: Option<Duration>) -> std::fmt::Result {
    match time {
        Some(time) => write!(line, " {name}:{:.6}", time.as_secs_f64()),
        None => write!(line, " {name}:\"-\""),
    }
}

fn quoted(line: &mut String, value: Option<&HeaderValue>) {
    line.push('"');
    match value {
        Some(value) if !value.is_empty() => escape(line, value.as_bytes(), MAX_FIELD),
        _ => line.push('-'),
    }
    line.push('"');
}

/// Appends what a client chose, so that it can neither end its quotes nor the line.
fn escape(line: &mut String, bytes: &[u8], max: usize) {
    for byte in &bytes[..bytes.len().min(max)] {
        match byte {
            b'"' | b'\\' => {
                line.push('\\');
                line.push(char::from(*byte));
            }
            b' '..=b'~' => line.push(char::from(*byte)),
            _ => {
                let _ = write!(line, "\\x{byte:02x}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;
    use proptest::prelude::*;
    use time::macros::datetime;

    fn record(user_agent: &[u8]) -> Record {
        let (parts, ()) = Request::get("http://a.test/x?token=1")
            .header("user-agent", HeaderValue::from_bytes(user_agent).expect("sound"))
            .body(())
            .expect("sound")
            .into_parts();
        Record {
            at: datetime!(2026-01-02 03:04:05.0000006 UTC),
            host: "a.test".to_owned(),
            status: 200,
            received_bytes: 3,
            sent_bytes: 4,
            duration: Duration::from_millis(1500),
            backend: Some(Duration::from_millis(1000)),
            served_by: Some(Served {
                app: AppId(Uuid::from_u128(5)),
                work: WorkId(Uuid::from_u128(6)),
                index: 2,
                address: "10.0.0.1:8080".parse().expect("an address"),
            }),
            ..Record::new("192.0.2.1:5".parse().expect("an address"), Uuid::from_u128(1), &parts)
        }
    }

    #[test]
    fn the_access_line_has_the_fields_of_cloud_foundry_in_their_order() {
        let expected = "a.test - [2026-01-02T03:04:05.000000600Z] \"GET /x?token=1 HTTP/1.1\" 200 3 4 \"-\" \"me\" \
            \"192.0.2.1:5\" \"10.0.0.1:8080\" x_forwarded_for:\"-\" x_forwarded_proto:\"-\" \
            vcap_request_id:\"00000000-0000-0000-0000-000000000001\" response_time:1.500000 gorouter_time:0.500000 \
            app_id:\"00000000-0000-0000-0000-000000000005\" app_index:\"2\" \
            instance_id:\"00000000-0000-0000-0000-000000000006\" failed_attempts:0 failed_attempts_time:\"-\" \
            dial_time:\"-\" backend_time:1.000000 x_cf_routererror:\"-\" tls_sni:\"-\" \
            x_b3_traceid:\"00000000000000000000000000000000\" x_b3_spanid:\"0000000000000000\" x_b3_parentspanid:\"-\"";
        assert_eq!(record(b"me").line(Query::Keep), expected);
        assert!(record(b"me").line(Query::Redact).contains("\"GET /x HTTP/1.1\""));
    }

    proptest! {
        #[test]
        fn no_client_breaks_out_of_its_field(agent in proptest::collection::vec(32_u8..=255, 0..40)) {
            prop_assume!(!agent.contains(&127));
            let line = record(&agent).line(Query::Keep);
            prop_assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            // Fields are cut at quotes that no backslash precedes.
            let mut quotes = 0;
            let mut escaped = false;
            for byte in line.bytes() {
                quotes += u32::from(byte == b'"' && !escaped);
                escaped = byte == b'\\' && !escaped;
            }
            let plain = record(b"me").line(Query::Keep);
            prop_assert_eq!(quotes as usize, plain.matches('"').count());
        }
    }
}
