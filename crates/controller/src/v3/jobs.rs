//! `/v3/jobs`. An id is only known to whom it was given, so it is its own permission.

use super::links::links;
use crate::auth::Caller;
use crate::context::Context;
use crate::error::{Answer, Failure};
use crate::request::{Polls, id, settle};
use api::error::ApiError;
use api::v3;
use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};
use model::id::JobId;
use model::resource::{Job, JobState};

const WHAT: &str = "Job";

pub(super) fn routes() -> Router<Context> {
    Router::new().route("/v3/jobs/{guid}", get(fetch))
}

async fn fetch(
    State(context): State<Context>,
    _: Caller,
    polls: Polls,
    Path(guid): Path<String>,
) -> Answer<Json<v3::Job>> {
    let job: JobId = id(&guid, WHAT)?;
    let store = &context.store;
    let read = || async { store.job_fetch(job).await?.ok_or_else(|| Failure::not_found(WHAT)) };
    let job = settle(&context, &polls, |job: &Job| job.state != JobState::Processing, read).await?;
    Ok(Json(v3::Job {
        links: links(&context, [("self", format!("/v3/jobs/{}", job.id))]),
        guid: job.id,
        created_at: job.created_at,
        updated_at: job.updated_at,
        operation: job.operation,
        state: job.state,
        errors: job
            .error
            .map(|error| ApiError {
                code: error.code,
                title: error.title,
                detail: error.detail,
                hint: None,
            })
            .into_iter()
            .collect(),
        warnings: Vec::new(),
    }))
}
