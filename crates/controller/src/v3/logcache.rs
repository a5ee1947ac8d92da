//! Log-cache compatible reads of apps' logs, as `cf logs` makes them.

use crate::auth::{Caller, Need, app_for};
use crate::context::Context;
use crate::error::{Answer, Failure};
use crate::request::{Polls, Query, id};
use api::error::Code;
use api::v3::logcache::{Batch, Envelope, Info, Log, Read};
use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use model::id::AppId;
use std::collections::BTreeMap;
use std::time::Duration;
use telemetry::applog;

const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1000;
/// A client that follows asks again at once; so long it waits for a first line instead.
const HOLD: Duration = Duration::from_secs(1);

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route("/api/v1/info", get(info))
        .route("/api/v1/read/{source}", get(read))
}

async fn info() -> Json<Info> {
    Json(Info {
        version: "3.0.0".to_owned(),
        vm_uptime: "0".to_owned(),
    })
}

fn number<T: std::str::FromStr>(query: &Query, name: &str, default: T) -> Answer<T> {
    match query.get(name) {
        None | Some("") => Ok(default),
        Some(text) => text.parse().map_err(|_| {
            Failure::new(
                Code::BadQueryParameter,
                format!("The query parameter is invalid: {name} is no number"),
            )
        }),
    }
}

async fn read(
    State(context): State<Context>,
    caller: Caller,
    polls: Polls,
    Path(source): Path<String>,
    query: Query,
) -> Answer<Json<Read>> {
    const WHAT: &str = "App";
    let app: AppId = id(&source, WHAT)?;
    app_for(&context.store, &caller, app, Need::Read, WHAT).await?;
    // Only logs are kept: whoever asks for other envelopes alone gets none.
    let logs = query
        .texts("envelope_types")
        .is_none_or(|types| types.iter().any(|name| name == "LOG" || name == "ANY"));
    if !logs {
        return Ok(Json(Read::default()));
    }
    let wanted = applog::Query {
        start_ns: number(&query, "start_time", i64::MIN)?,
        end_ns: number(&query, "end_time", i64::MAX)?,
        limit: number(&query, "limit", DEFAULT_LIMIT)?.clamp(1, MAX_LIMIT),
        descending: query.get("descending") == Some("true"),
        types: Vec::new(),
    };
    let name = app.to_string();
    let mut page = lines(&context, &name, wanted.clone()).await?;
    if page.envelopes.is_empty() && polls.0 && !wanted.descending {
        let mut follower = context.logs.follow(&name, page.end).map_err(Failure::internal)?;
        // Whether a line came or not: what is there now is the answer.
        let _ = tokio::time::timeout(HOLD, follower.next()).await;
        page = lines(&context, &name, wanted).await?;
    }
    let batch = page.envelopes.into_iter().map(present).collect();
    Ok(Json(Read {
        envelopes: Batch { batch },
    }))
}

async fn lines(context: &Context, app: &str, query: applog::Query) -> Answer<applog::Page> {
    let (logs, app) = (context.logs.clone(), app.to_owned());
    let read = tokio::task::spawn_blocking(move || logs.read(&app, &query));
    read.await.map_err(Failure::internal)?.map_err(Failure::internal)
}

fn present(line: telemetry::Envelope) -> Envelope {
    Envelope {
        timestamp: line.ts_ns.to_string(),
        source_id: line.source_id,
        tags: BTreeMap::from([
            ("source_type".to_owned(), line.source_type),
            ("instance_id".to_owned(), line.instance_id.clone()),
        ]),
        instance_id: line.instance_id,
        log: Log {
            payload: STANDARD.encode(&line.payload),
            kind: match line.stream {
                telemetry::Stream::Out => "OUT",
                telemetry::Stream::Err => "ERR",
            }
            .to_owned(),
        },
    }
}
