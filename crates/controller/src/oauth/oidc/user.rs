//! Who somebody of the identity provider is here: known, made beforehand, or new.
//!
//! They are known by the provider's id of them, never by name alone: who has the name of a user of ours is another user.
//! The exception are users whom an administrator made beforehand for this provider, so that they can be given roles.

use super::provider::{Error, Identity, refused};
use crate::actions::{By, fresh};
use crate::context::Context;
use crate::error::{Answer, Failure};
use api::error::Code;
use model::id::UserId;
use model::resource::{Actor, Metadata, Target, User};
use serde_json::json;
use store::{StoreError, StoredUser, Tx, UserKind};

/// Longest name of a user, in bytes.
const MAX_NAME_BYTES: usize = 255;
/// Longest id of a user at the provider, in bytes.
const MAX_SUBJECT_BYTES: usize = 255;

/// The user that somebody is here; the inner error where the provider's word does not do.
///
/// # Errors
/// Where the store fails.
pub(super) async fn settle(context: &Context, origin: &str, identity: &Identity) -> Answer<Result<User, Error>> {
    let too_long = identity.name.len() > MAX_NAME_BYTES || identity.subject.len() > MAX_SUBJECT_BYTES;
    if too_long || identity.name.chars().any(char::is_control) || identity.subject.contains('\0') {
        return Ok(Err(refused(
            "the user's name or id is too long, or has control characters",
        )));
    }
    let tx = context.store.begin().await?;
    if let Some(user) = tx.user_by_identity(origin, &identity.subject).await? {
        return Ok(Ok(user));
    }
    let settled = first_time(context, &tx, origin, identity).await?;
    tx.commit().await?;
    Ok(settled)
}

async fn first_time(context: &Context, tx: &Tx, origin: &str, identity: &Identity) -> Answer<Result<User, Error>> {
    if let Some(made) = tx.user_by_name_at(UserKind::User, origin, &identity.name).await? {
        if tx.user_identify(made.user.id, &identity.subject).await? {
            return Ok(Ok(made.user));
        }
        return Ok(Err(refused("somebody else of the provider has the user's name")));
    }
    let user = User {
        id: fresh::<UserId>(),
        name: identity.name.clone(),
        origin: origin.to_owned(),
        admin: false,
        metadata: Metadata::default(),
        created_at: context.now(),
    };
    let new = StoredUser {
        user: user.clone(),
        kind: UserKind::User,
        password_hash: None,
    };
    // Two first sign-ins at once: the second finds the user when it is tried again.
    tx.user_create(&new).await.map_err(|error| match error {
        StoreError::Taken { .. } => Failure::new(Code::ServiceUnavailable, "Try again"),
        other => other.into(),
    })?;
    tx.user_identify(user.id, &identity.subject).await?;
    let name = || user.name.clone();
    let by = By {
        actor: Actor {
            guid: user.id.to_string(),
            kind: "user".to_owned(),
            name: name(),
        },
        user: user.id,
        now: user.created_at,
    };
    let target = Target {
        guid: user.id.to_string(),
        kind: "user".to_owned(),
        name: name(),
    };
    tx.event(by.event("audit.user.create", target, None, json!({"origin": origin})));
    Ok(Ok(user))
}
