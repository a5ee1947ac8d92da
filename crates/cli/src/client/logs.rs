//! Recent log lines, from the log cache.

use super::http::{Call, Client};
use crate::errors::Error;
use crate::ui::LogLines;
use ::http::Method;
use base64::Engine as _;
use serde::Deserialize;

/// Most lines that one request may ask for.
pub const MAX_LINES: u32 = 1_000;

#[derive(Deserialize)]
struct ReadAnswer {
    #[serde(default)]
    envelopes: Envelopes,
}

#[derive(Default, Deserialize)]
struct Envelopes {
    #[serde(default)]
    batch: Vec<Envelope>,
}

#[derive(Deserialize)]
struct Envelope {
    timestamp: Timestamp,
    #[serde(default)]
    instance_id: String,
    #[serde(default)]
    tags: Tags,
    #[serde(default)]
    log: Option<Log>,
}

/// Nanoseconds, as a text by the log cache's contract, or as a number.
#[derive(Deserialize)]
#[serde(untagged)]
enum Timestamp {
    Text(String),
    Number(i64),
}

#[derive(Default, Deserialize)]
struct Tags {
    #[serde(default)]
    source_type: String,
}

#[derive(Deserialize)]
struct Log {
    #[serde(default)]
    payload: String,
    #[serde(default, rename = "type")]
    kind: String,
}

impl Client {
    /// The newest lines of an app, oldest first, none older than `since_ns`.
    ///
    /// # Errors
    /// Where the log cache can't be asked.
    pub async fn recent_logs(&self, app: &str, lines: u32, since_ns: Option<i64>) -> Result<Vec<LogLines>, Error> {
        let call = Call::new(Method::GET, format!("/api/v1/read/{app}"))
            .query("descending", "true")
            .query("envelope_types", "LOG")
            .query("limit", lines.min(MAX_LINES).to_string())
            .query("start_time", since_ns.unwrap_or(i64::MIN / 2).to_string());
        let answer: ReadAnswer = self.send(call).await?.json()?;
        let mut found: Vec<LogLines> = answer.envelopes.batch.into_iter().filter_map(line).collect();
        found.sort_by_key(|line| line.ts_ns);
        Ok(found)
    }
}

fn line(envelope: Envelope) -> Option<LogLines> {
    let log = envelope.log?;
    let payload = base64::engine::general_purpose::STANDARD.decode(log.payload).ok()?;
    Some(LogLines {
        ts_ns: match envelope.timestamp {
            Timestamp::Text(text) => text.parse().ok()?,
            Timestamp::Number(number) => number,
        },
        source_type: envelope.tags.source_type,
        instance: envelope.instance_id,
        err: log.kind == "ERR",
        text: String::from_utf8_lossy(&payload).trim_end_matches('\n').to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn envelopes_become_lines() {
        let text = r#"{"envelopes":{"batch":[
            {"timestamp":"20","instance_id":"1","tags":{"source_type":"APP/PROC/WEB"},"log":{"payload":"aGkK","type":"ERR"}},
            {"timestamp":10,"gauge":{}}]}}"#;
        let answer: ReadAnswer = serde_json::from_str(text).expect("reads");
        let lines: Vec<_> = answer.envelopes.batch.into_iter().filter_map(line).collect();
        assert_eq!(lines.len(), 1);
        assert_eq!((lines[0].ts_ns, lines[0].err, lines[0].text.as_str()), (20, true, "hi"));
    }
}
