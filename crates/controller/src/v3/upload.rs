//! `POST /v3/packages/{guid}/upload`: a form with `resources` (files that are known) and `bits` (a zip of the others).
//!
//! The archive goes to a file as it comes; nothing of it is kept in memory.

use super::packages::{package_for, present};
use crate::actions::{By, package as actions};
use crate::auth::{Caller, Need};
use crate::context::Context;
use crate::error::{Answer, Failure};
use crate::flags::Flag;
use api::error::Code;
use api::v3::{self, Resource};
use axum::Json;
use axum::extract::multipart::{Field, MultipartError};
use axum::extract::{Multipart, Path, State};
use blobstore::pack::TreeLimits;
use model::resource::PackageState;
use std::io::{Seek as _, Write as _};
use std::time::Duration;

/// Longest archive in bytes.
const MAX_BITS: u64 = 1024 * 1024 * 1024;
/// Longest list of known files in bytes.
const MAX_LIST: usize = 64 * 1024 * 1024;
/// Permissions of files for which the client names none.
const DEFAULT_MODE: u32 = 0o744;

/// SHA-1 and size of a file; `None` where its checksum is none.
pub(super) fn content(resource: &Resource) -> Option<([u8; 20], u64)> {
    let bytes = hex::decode(resource.checksum.value.as_deref()?).ok()?;
    Some((bytes.try_into().ok()?, resource.size_in_bytes))
}

fn invalid(detail: impl std::fmt::Display) -> Failure {
    Failure::new(
        Code::AppBitsUploadInvalid,
        format!("The app upload is invalid: {detail}"),
    )
}

fn broken(error: MultipartError) -> Failure {
    invalid(error.body_text()).caused_by(error)
}

fn known(resource: Resource) -> Answer<actions::Known> {
    let (sha1, size) =
        content(&resource).ok_or_else(|| invalid(format!("{:?} has no valid checksum", resource.path)))?;
    let mode = match resource.mode.as_str() {
        "" => DEFAULT_MODE,
        text => u32::from_str_radix(text, 8).map_err(|_| invalid(format!("{text:?} are no permissions")))? & 0o777,
    };
    let path = resource.path;
    Ok(actions::Known { path, mode, sha1, size })
}

/// What a form held.
#[derive(Default)]
struct Form {
    resources: Vec<Resource>,
    archive: Option<std::fs::File>,
}

async fn read(context: &Context, mut multipart: Multipart) -> Answer<Form> {
    let mut form = Form::default();
    let stall = context.config.limits.body_wait;
    while let Some(field) = next(&mut multipart, stall).await? {
        match field.name() {
            Some("resources") => {
                let list = small(field, stall).await?;
                form.resources =
                    serde_json::from_slice(&list).map_err(|error| invalid(format!("resources: {error}")))?;
            }
            // An empty archive is as none: clients send one where all files are known.
            Some("bits" | "application") => form.archive = archive(context, field).await?.or(form.archive),
            _ => {}
        }
    }
    if form.resources.len() > actions::MAX_RESOURCES {
        return Err(invalid(format!("at most {} resources", actions::MAX_RESOURCES)));
    }
    Ok(form)
}

fn stalled(_: tokio::time::error::Elapsed) -> Failure {
    invalid("its next bytes did not come in time")
}

async fn next(multipart: &mut Multipart, stall: Duration) -> Answer<Option<Field<'_>>> {
    tokio::time::timeout(stall, multipart.next_field())
        .await
        .map_err(stalled)?
        .map_err(broken)
}

async fn small(mut field: Field<'_>, stall: Duration) -> Answer<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(chunk) = tokio::time::timeout(stall, field.chunk())
        .await
        .map_err(stalled)?
        .map_err(broken)?
    {
        if bytes.len() + chunk.len() > MAX_LIST {
            return Err(Failure::new(
                Code::PayloadTooLarge,
                "The list of resources is too large",
            ));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

async fn archive(context: &Context, mut field: Field<'_>) -> Answer<Option<std::fs::File>> {
    let stall = context.config.limits.body_wait;
    let scratch = context.blobs.temporary().map_err(Failure::internal)?;
    // The name goes at once: whatever happens to this process, no file is left.
    let mut file = scratch.into_file();
    let mut size = 0;
    while let Some(chunk) = tokio::time::timeout(stall, field.chunk())
        .await
        .map_err(stalled)?
        .map_err(broken)?
    {
        size += chunk.len() as u64;
        if size > MAX_BITS {
            return Err(Failure::new(
                Code::PayloadTooLarge,
                format!("The package may not be larger than {MAX_BITS} bytes"),
            ));
        }
        // Into the page cache: short, unlike a hop to another thread for each chunk.
        file.write_all(&chunk).map_err(Failure::internal)?;
    }
    file.rewind().map_err(Failure::internal)?;
    Ok((size > 0).then_some(file))
}

/// Answers with the package ready: there is nothing left to wait for.
pub(super) async fn upload(
    State(context): State<Context>,
    caller: Caller,
    Path(guid): Path<String>,
    multipart: Multipart,
) -> Answer<Json<v3::Package>> {
    let (package, app, space) = package_for(&context, &caller, &guid, Need::Write).await?;
    Flag::AppBitsUpload.require(&context.store, &caller).await?;
    if package.state != PackageState::AwaitingUpload {
        return Err(actions::already_uploaded());
    }
    let form = read(&context, multipart).await?;
    let named = form.resources.into_iter().map(known).collect::<Answer<Vec<_>>>()?;
    if named.len() > TreeLimits::default().entries {
        return Err(invalid("too many files"));
    }
    let entries = actions::resolve(&context, caller.scope(), named).await?;
    let by = By::caller(&caller, &context);
    let package = actions::fill(&context, package, &app, &space, form.archive, entries, &by).await?;
    Ok(Json(present(&context, package)))
}
