//! Isolation segments: made, given to organisations, and assigned. What runs stays where it is until it is placed anew.

use super::By;
use crate::context::Context;
use crate::error::{Answer, Failure};
use model::id::{OrgId, SegmentId};
use model::isolation::{SHARED, Segment};
use model::resource::{Org, Space, Target};
use serde_json::json;
use store::{Scope, Tx};

fn name_taken(error: store::StoreError) -> Failure {
    Failure::or_taken(error, || {
        Failure::refused("Isolation Segment names are case insensitive and must be unique")
    })
}

/// A new one.
pub async fn create(context: &Context, segment: &Segment) -> Answer<()> {
    let tx = context.store.begin().await?;
    tx.segment_create(segment).await.map_err(name_taken)?;
    Ok(tx.commit().await?)
}

/// Name and labels as given, where nobody's work is in it: cells are of it by its name.
pub async fn update(context: &Context, segment: &Segment) -> Answer<()> {
    if segment.id == SHARED {
        return Err(Failure::refused("Cannot update the shared Isolation Segment"));
    }
    let tx = context.store.begin().await?;
    let assigned = !tx.segment_default_of(segment.id).await?.is_empty()
        || !tx.segment_spaces(segment.id, Scope::All).await?.is_empty();
    if assigned {
        return Err(Failure::refused(
            "Cannot update Isolation Segments that are assigned as the default for an Organization or Space.",
        ));
    }
    tx.segment_update(segment).await.map_err(name_taken)?;
    Ok(tx.commit().await?)
}

/// Removes one that nobody may use any more.
pub async fn delete(context: &Context, segment: &Segment) -> Answer<()> {
    if segment.id == SHARED {
        return Err(Failure::refused(format!(
            "Cannot delete the {} Isolation Segment",
            segment.name
        )));
    }
    let tx = context.store.begin().await?;
    let in_use = !tx.segment_orgs(segment.id, Scope::All).await?.is_empty()
        || !tx.segment_spaces(segment.id, Scope::All).await?.is_empty();
    if in_use {
        return Err(Failure::refused(
            "Revoke the Organization entitlements for your Isolation Segment.",
        ));
    }
    tx.segment_delete(segment.id).await?;
    Ok(tx.commit().await?)
}

/// Lets organisations use it.
pub async fn entitle(context: &Context, segment: &Segment, guids: &[String]) -> Answer<()> {
    let tx = context.store.begin().await?;
    let mut missing = Vec::new();
    for guid in guids {
        let org = match guid.parse::<OrgId>() {
            Ok(org) => tx.org_fetch(org).await?,
            Err(_) => None,
        };
        let Some(org) = org else {
            missing.push(format!("'{guid}'"));
            continue;
        };
        tx.segment_entitle(segment.id, org.id).await?;
        if segment.id == SHARED && tx.org_segment(org.id).await?.is_none() {
            tx.org_segment_set(org.id, Some(SHARED)).await?;
        }
    }
    if !missing.is_empty() {
        return Err(Failure::refused(format!(
            "Unable to entitle organizations [{}] for the isolation segment. Ensure the organizations exist.",
            missing.join(", ")
        )));
    }
    Ok(tx.commit().await?)
}

/// Takes it from an organisation that does not use it.
pub async fn revoke(context: &Context, segment: &Segment, org: &Org) -> Answer<()> {
    let tx = context.store.begin().await?;
    if tx.org_segment(org.id).await? == Some(segment.id) {
        return Err(Failure::refused(
            "Cannot remove the entitlement while this Isolation Segment is assigned as the Default Isolation Segment \
             for the Organization.",
        ));
    }
    let mut assigned = Vec::new();
    for id in tx.segment_spaces(segment.id, Scope::All).await? {
        let space = tx.space_fetch(id).await?.filter(|space| space.org == org.id);
        assigned.extend(space.map(|space| format!("'{}'", space.name)));
    }
    if !assigned.is_empty() {
        return Err(Failure::refused(format!(
            "Cannot remove the entitlement while this Isolation Segment is assigned to any Spaces. Currently assigned \
             to: {}",
            assigned.join(", ")
        )));
    }
    tx.segment_revoke(segment.id, org.id).await?;
    Ok(tx.commit().await?)
}

/// The segment that is meant, if the organisation may use it.
async fn usable(tx: &Tx, guid: &str, org: OrgId, whose: &str) -> Answer<SegmentId> {
    let found = match guid.parse::<SegmentId>() {
        Ok(id) => tx.segment_is_entitled(id, org).await?.then_some(id),
        Err(_) => None,
    };
    found.ok_or_else(|| {
        Failure::refused(format!(
            "Unable to assign isolation segment with guid '{guid}'. Ensure it has been entitled to the organization\
             {whose}."
        ))
    })
}

/// The default of an organisation's spaces.
pub async fn set_of_org(context: &Context, org: &Org, guid: Option<&str>) -> Answer<Option<SegmentId>> {
    let tx = context.store.begin().await?;
    let segment = match guid {
        Some(guid) => Some(usable(&tx, guid, org.id, "").await?),
        None => None,
    };
    tx.org_segment_set(org.id, segment).await?;
    tx.commit().await?;
    context.wake.scheduler();
    Ok(segment)
}

/// That of one space.
pub async fn set_of_space(context: &Context, space: &Space, guid: Option<&str>, by: &By) -> Answer<Option<SegmentId>> {
    let tx = context.store.begin().await?;
    let segment = match guid {
        Some(guid) => Some(usable(&tx, guid, space.org, " that this space belongs to").await?),
        None => None,
    };
    tx.space_segment_set(space.id, segment).await?;
    let target = Target {
        guid: space.id.to_string(),
        kind: "space".to_owned(),
        name: space.name.to_string(),
    };
    let data = json!({"request": {"data": segment.map(|guid| json!({"guid": guid}))}});
    tx.event(by.event("audit.space.update", target, Some(space), data));
    tx.commit().await?;
    context.wake.scheduler();
    Ok(segment)
}
