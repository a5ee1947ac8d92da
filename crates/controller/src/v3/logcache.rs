//! Log-cache compatible reads of apps' logs, as `cf logs` makes them, and of what instances use.

use super::{promql, stats};
use crate::auth::{Caller, Need, app_for};
use crate::context::Context;
use crate::error::{Answer, Failure};
use crate::request::{Polls, Query, id};
use api::error::Code;
use api::v3::logcache::{Batch, Envelope, Info, Log, Meta, MetaInfo, QueryAnswer, QueryData, QueryError, Read};
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use model::id::AppId;
use std::collections::BTreeMap;
use std::time::Duration;
use store::{AppFilter, Order, Page};
use telemetry::applog;

const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1000;
/// Kinds of envelopes that clients may name.
const ENVELOPE_TYPES: [&str; 6] = ["ANY", "LOG", "COUNTER", "GAUGE", "TIMER", "EVENT"];
/// For so long a value stands for its time, as in Prometheus.
const LOOKBACK_SECONDS: f64 = 300.0;
/// A client that follows asks again at once; so long it waits for a first line instead.
const HOLD: Duration = Duration::from_secs(1);

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route("/api/v1/info", get(info))
        .route("/api/v1/meta", get(meta))
        .route("/api/v1/query", get(query))
        .route("/api/v1/read/{source}", get(read))
}

async fn info() -> Json<Info> {
    Json(Info {
        version: "3.0.0".to_owned(),
        vm_uptime: "0".to_owned(),
    })
}

fn bad(detail: impl std::fmt::Display) -> Failure {
    let detail = format!("The query parameter is invalid: {detail}");
    Failure::new(Code::BadQueryParameter, detail)
}

/// What there is of each app that the caller may read.
async fn meta(State(context): State<Context>, caller: Caller, query: Query) -> Answer<Json<Meta>> {
    let scope = query.get("source_scope").unwrap_or("ALL");
    if !["ALL", "APPLICATION", "PLATFORM"].contains(&scope) {
        return Err(bad("source_scope must be ALL, APPLICATION or PLATFORM"));
    }
    let filter = AppFilter::default();
    let store = &context.store;
    let apps = store.app_list(&filter, caller.scope(), Order::default(), Page::ALL);
    let mut apps = apps.await?.items;
    if scope == "PLATFORM" {
        // What the platform itself says is in the apps' logs, or in its own.
        apps.clear();
    }
    let logs = context.logs.clone();
    let summed = tokio::task::spawn_blocking(move || {
        let mut meta = BTreeMap::new();
        for app in apps {
            let id = app.id.to_string();
            // One that is deleted meanwhile has nothing.
            let summary = logs.summary(&id).ok().flatten();
            if let Some((summary, (first, last))) = summary.and_then(|all| Some((all, all.span_ns?))) {
                let info = MetaInfo {
                    count: summary.lines.to_string(),
                    expired: summary.gone.to_string(),
                    oldest_timestamp: first.to_string(),
                    newest_timestamp: last.to_string(),
                };
                meta.insert(id, info);
            }
        }
        Meta { meta }
    });
    summed.await.map(Json).map_err(Failure::internal)
}

/// What the instances of an app use now.
async fn query(State(context): State<Context>, caller: Caller, query: Query) -> Answer<Response> {
    let wanted = match promql::parse(query.get("query").unwrap_or_default()) {
        Ok(wanted) => wanted,
        Err(problem) => {
            let body = QueryError {
                status: "error".to_owned(),
                error_type: "bad_data".to_owned(),
                error: problem.to_string(),
            };
            return Ok((StatusCode::BAD_REQUEST, Json(body)).into_response());
        }
    };
    let now = context.now();
    let at = match query.get("time") {
        None => None,
        Some(text) => Some(text.parse::<f64>().map_err(|_| bad("time is no number of seconds"))?),
    };
    const WHAT: &str = "App";
    let app: AppId = id(&wanted.source, WHAT)?;
    let (app, _) = app_for(&context.store, &caller, app, Need::Read, WHAT).await?;
    let mut found = Vec::new();
    let known = |at: f64| (now.unix_timestamp() as f64 - at).abs() <= LOOKBACK_SECONDS;
    if at.is_none_or(known) {
        for process in context.store.processes_of_app(app.id).await? {
            let stats = stats::in_full(&context, &app, &process).await?;
            found.extend(stats.resources);
        }
    }
    let answer = QueryAnswer {
        status: "success".to_owned(),
        data: QueryData {
            result_type: "vector".to_owned(),
            result: wanted.answer(&found, now),
        },
    };
    Ok(Json(answer).into_response())
}

fn number<T: std::str::FromStr>(query: &Query, name: &str, default: T) -> Answer<T> {
    match query.get(name) {
        None | Some("") => Ok(default),
        Some(text) => text.parse().map_err(|_| bad(format!("{name} is no number"))),
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
    let (wanted, logs) = wanted(&query)?;
    if !logs {
        return Ok(Json(Read::default()));
    }
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

/// Which lines are asked for, and whether lines are at all.
fn wanted(query: &Query) -> Answer<(applog::Query, bool)> {
    let types: Vec<&str> = query.wanted("envelope_types").collect();
    if let Some(unknown) = types.iter().find(|kind| !ENVELOPE_TYPES.contains(kind)) {
        return Err(bad(format!("envelope_types can't be {unknown:?}")));
    }
    let (start_ns, end_ns) = (
        number(query, "start_time", i64::MIN)?,
        number(query, "end_time", i64::MAX)?,
    );
    if start_ns > end_ns {
        return Err(bad("start_time must be before end_time"));
    }
    let limit = number(query, "limit", DEFAULT_LIMIT)?;
    if limit > MAX_LIMIT {
        return Err(bad(format!("limit must be {MAX_LIMIT} or less")));
    }
    let descending = match query.get("descending") {
        None | Some("" | "false") => false,
        Some("true") => true,
        Some(_) => return Err(bad("descending must be true or false")),
    };
    let lines = applog::Query {
        start_ns,
        end_ns,
        limit: if limit == 0 { DEFAULT_LIMIT } else { limit },
        descending,
        types: Vec::new(),
    };
    // Only logs are kept: whoever asks for other envelopes alone gets none.
    let logs = types.is_empty() || types.iter().any(|kind| ["LOG", "ANY"].contains(kind));
    Ok((lines, logs))
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
