//! Users: removed with their roles and tokens. They are made at the token server.

use super::By;
use crate::auth::Caller;
use crate::context::Context;
use crate::error::{Answer, Failure};
use model::id::JobId;
use model::resource::{Target, User};
use serde_json::json;

/// Removes a user. Nobody removes themselves, so that an administrator is left.
pub async fn delete(context: &Context, caller: &Caller, user: &User) -> Answer<JobId> {
    if caller.id == user.id {
        return Err(Failure::refused("You cannot delete yourself").hint("Ask another administrator"));
    }
    let by = By::caller(caller, context);
    let job = by.done_job("user.delete");
    let target = Target {
        guid: user.id.to_string(),
        kind: "user".to_owned(),
        name: user.name.clone(),
    };
    let tx = context.store.begin().await?;
    tx.user_delete(user.id).await?;
    tx.event(by.event("audit.user.delete", target, None, json!({})));
    tx.job_create(&job).await?;
    tx.commit().await?;
    Ok(job.id)
}
