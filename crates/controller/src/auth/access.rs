//! Fetches what a request is about, if the caller may do with it what they want to do.

use super::Caller;
use crate::error::{Answer, Failure};
use model::id::{AppId, OrgId, SpaceId};
use model::resource::{App, Org, Space};
use store::Db;

/// What is wanted of something in a space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// To see it.
    Read,
    /// To see what is secret of it: its environment.
    Secrets,
    /// To start, stop, scale or route to it.
    Operate,
    /// To make or change it.
    Write,
    /// To change the space itself.
    Manage,
}

/// A space; `what` names in a 404 what was asked for.
pub async fn space_for(db: &Db, caller: &Caller, id: SpaceId, need: Need, what: &str) -> Answer<Space> {
    let space = db.space_fetch(id).await?.ok_or_else(|| Failure::not_found(what))?;
    if !caller.reads_space(&space) {
        return Err(Failure::not_found(what));
    }
    let may = match need {
        Need::Read => true,
        Need::Secrets | Need::Operate => caller.operates(&space),
        Need::Write => caller.develops(&space),
        Need::Manage => caller.manages_space(&space),
    };
    if may { Ok(space) } else { Err(Failure::forbidden()) }
}

/// An app with its space; `what` names in a 404 what was asked for.
pub async fn app_for(db: &Db, caller: &Caller, id: AppId, need: Need, what: &str) -> Answer<(App, Space)> {
    let app = db.app_fetch(id).await?.ok_or_else(|| Failure::not_found(what))?;
    let space = space_for(db, caller, app.space, need, what).await?;
    Ok((app, space))
}

/// An organisation.
pub async fn org_for(db: &Db, caller: &Caller, id: OrgId, need: Need) -> Answer<Org> {
    const WHAT: &str = "Organization";
    let org = db.org_fetch(id).await?.ok_or_else(|| Failure::not_found(WHAT))?;
    if !caller.reads_org(org.id) {
        return Err(Failure::not_found(WHAT));
    }
    if need != Need::Read && !caller.manages_org(org.id) {
        return Err(Failure::forbidden());
    }
    Ok(org)
}
