//! Buildpacks of the platform: the built-in ones, and those that operators upload, in one order.
//!
//! A built-in one is known from configuration; it gets a row once an operator changes the order or one of them.

use super::{By, fresh};
use crate::context::Context;
use crate::error::{Answer, Failure};
use api::error::Code;
use api::v3::BuildpackWrite;
use model::Timestamp;
use model::id::BuildpackId;
use model::name::StackName;
use model::resource::{Buildpack, Metadata, Target};
use model::staging::BuildpackSource;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use store::{Db, Tx};

/// Most buildpacks of a platform.
const MOST: usize = 1000;
/// Longest name.
const NAME_CHARACTERS: usize = 250;

/// All buildpacks, in the order in which they are tried.
pub async fn all(context: &Context, db: &Db) -> Answer<Vec<Buildpack>> {
    Ok(merged(context, db.buildpack_list().await?))
}

/// `rows`, and the built-in ones that have none behind them. A built-in one that is gone is left out.
pub(crate) fn merged(context: &Context, rows: Vec<Buildpack>) -> Vec<Buildpack> {
    let known = &context.config.buildpacks;
    let is_there = |row: &Buildpack| {
        let builtin = row.builtin.as_ref();
        builtin.is_none_or(|name| known.iter().any(|known| known.name == *name))
    };
    let mut all: Vec<Buildpack> = rows.into_iter().filter(is_there).collect();
    for known in known {
        if all.iter().any(|row| row.builtin.as_ref() == Some(&known.name)) {
            continue;
        }
        all.push(Buildpack {
            id: builtin_id(&known.name),
            name: known.name.clone(),
            stack: None,
            position: 0,
            enabled: true,
            locked: true,
            builtin: Some(known.name.clone()),
            filename: Some(format!("{}-{}", known.id, known.version)),
            digest: None,
            size_bytes: 0,
            metadata: Metadata::default(),
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
        });
    }
    number(&mut all);
    all
}

fn number(all: &mut [Buildpack]) {
    for (row, position) in all.iter_mut().zip(1..) {
        row.position = position;
    }
}

/// An id that stays for as long as the name does: configuration has none.
fn builtin_id(name: &str) -> BuildpackId {
    let hash = Sha256::digest(format!("buildpack {name}").as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[..16]);
    BuildpackId(uuid::Builder::from_custom_bytes(bytes).into_uuid())
}

/// The one that a user means by `name` on `stack`, or on whatever stack: its own stack's before one of any stack.
#[must_use]
pub fn named<'a>(
    context: &Context,
    all: &'a [Buildpack],
    name: &str,
    stack: Option<&StackName>,
) -> Option<&'a Buildpack> {
    let id_of = |buildpack: &Buildpack| {
        let builtin = buildpack.builtin.as_ref()?;
        let known = context.config.buildpacks.iter().find(|known| known.name == *builtin)?;
        Some(known.id.clone())
    };
    let fits = |buildpack: &&Buildpack| {
        (buildpack.name == name || id_of(buildpack).as_deref() == Some(name))
            && stack.is_none_or(|stack| buildpack.stack.as_ref().is_none_or(|of| of == stack))
            && buildpack.enabled
            && buildpack.is_ready()
    };
    let mut found = all.iter().filter(fits);
    let first = found.next()?;
    Some(found.chain([first]).find(|one| one.stack.is_some()).unwrap_or(first))
}

/// Candidates for apps that name none.
pub fn candidates<'a>(all: &'a [Buildpack], stack: &'a StackName) -> impl Iterator<Item = &'a Buildpack> {
    all.iter()
        .filter(move |one| one.enabled && one.is_ready() && one.stack.as_ref().is_none_or(|of| of == stack))
}

/// Refuses what is neither a buildpack of the platform nor says where to get one.
pub async fn check(context: &Context, names: &[String]) -> Answer<()> {
    if names.is_empty() {
        return Ok(());
    }
    let all = all(context, &context.store).await?;
    for name in names {
        let source = BuildpackSource::parse(name)
            .map_err(|error| Failure::refused(format!("Buildpack \"{name}\" can't be used: {error}")))?;
        if source.is_none() && named(context, &all, name, None).is_none() {
            let known: Vec<&str> = all.iter().map(|one| one.name.as_str()).collect();
            return Err(Failure::refused(format!(
                "Buildpack \"{name}\" must be an existing admin buildpack or a valid git URI"
            ))
            .hint(format!(
                "Known are: {}. Or name an archive (https://host/buildpack.zip#sha256:<digest>), a repository \
                 (https://host/buildpack.git#branch) or a folder of the app (./folder)",
                known.join(", ")
            )));
        }
    }
    Ok(())
}

/// A new buildpack without bits.
pub async fn create(context: &Context, body: &BuildpackWrite, by: &By) -> Answer<Buildpack> {
    let name = body
        .name
        .clone()
        .ok_or_else(|| Failure::refused("Name can't be blank"))?;
    let mut buildpack = Buildpack {
        id: fresh::<BuildpackId>(),
        name: String::new(),
        stack: None,
        position: 1,
        enabled: true,
        locked: false,
        builtin: None,
        filename: None,
        digest: None,
        size_bytes: 0,
        metadata: Metadata::default(),
        created_at: by.now,
        updated_at: by.now,
    };
    let body = BuildpackWrite {
        name: Some(name),
        ..body.clone()
    };
    let tx = context.store.begin().await?;
    change(&tx, &mut buildpack, &body).await?;
    let mut all = all(context, &tx).await?;
    if all.len() >= MOST {
        return Err(Failure::refused(format!("The platform has {MOST} buildpacks already")));
    }
    insert(&mut all, buildpack.clone(), body.position.unwrap_or(1));
    write(&tx, &all, &buildpack).await?;
    tx.event(event(by, "create", &buildpack));
    tx.commit().await?;
    Ok(all.into_iter().find(|one| one.id == buildpack.id).unwrap_or(buildpack))
}

/// Changes name, stack, position, and whether it is enabled and locked.
pub async fn update(context: &Context, id: BuildpackId, body: &BuildpackWrite, by: &By) -> Answer<Buildpack> {
    let tx = context.store.begin().await?;
    let mut all = all(context, &tx).await?;
    let at = all.iter().position(|one| one.id == id);
    let mut buildpack = all.remove(at.ok_or_else(|| Failure::not_found("Buildpack"))?);
    let is_renamed = body.name.as_ref().is_some_and(|name| *name != buildpack.name);
    if buildpack.builtin.is_some() && (is_renamed || body.stack.as_ref().is_some_and(Option::is_some)) {
        return Err(Failure::refused(
            "A built-in buildpack keeps its name, and is of any stack",
        ));
    }
    change(&tx, &mut buildpack, body).await?;
    buildpack.updated_at = by.now;
    let position = body.position.unwrap_or(buildpack.position);
    insert(&mut all, buildpack.clone(), position);
    write(&tx, &all, &buildpack).await?;
    tx.event(event(by, "update", &buildpack));
    tx.commit().await?;
    Ok(all.into_iter().find(|one| one.id == id).unwrap_or(buildpack))
}

async fn change(tx: &Tx, buildpack: &mut Buildpack, body: &BuildpackWrite) -> Answer<()> {
    if body
        .lifecycle
        .as_ref()
        .is_some_and(|lifecycle| lifecycle != "buildpack" && lifecycle != "cnb")
    {
        return Err(Failure::refused("Lifecycle must be \"buildpack\" or \"cnb\""));
    }
    if let Some(name) = &body.name {
        let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.len() > NAME_CHARACTERS || !name.chars().all(valid) {
            return Err(Failure::refused(
                "Name can only contain alphanumeric characters, underscores, hyphens and dots",
            ));
        }
        buildpack.name.clone_from(name);
    }
    match &body.stack {
        Some(Some(stack)) => {
            let stack: StackName = stack
                .parse()
                .map_err(|error| Failure::refused(format!("Stack: {error}")))?;
            super::app::check_stack(tx, &stack).await?;
            buildpack.stack = Some(stack);
        }
        Some(None) => buildpack.stack = None,
        None => {}
    }
    if body.position == Some(0) {
        return Err(Failure::refused("Position must be greater than 0"));
    }
    buildpack.enabled = body.enabled.unwrap_or(buildpack.enabled);
    buildpack.locked = body.locked.unwrap_or(buildpack.locked);
    super::manifest::merge(&mut buildpack.metadata, &body.metadata.clone().unwrap_or_default())?;
    Ok(())
}

/// At a position counted from 1, or at the end.
fn insert(all: &mut Vec<Buildpack>, buildpack: Buildpack, position: u32) {
    let at = usize::try_from(position).unwrap_or(usize::MAX).saturating_sub(1);
    all.insert(at.min(all.len()), buildpack);
    number(all);
}

/// Writes the whole order: built-in ones have their places in it too.
async fn write(tx: &Tx, all: &[Buildpack], changed: &Buildpack) -> Answer<()> {
    for one in all {
        tx.buildpack_put(one).await.map_err(|error| {
            Failure::or_taken(error, || {
                let stack = changed
                    .stack
                    .as_ref()
                    .map_or_else(String::new, |stack| format!(" and the stack {stack}"));
                Failure::new(
                    Code::UniquenessError,
                    format!("Buildpack with the name \"{}\"{stack} already exists", changed.name),
                )
            })
        })?;
    }
    Ok(())
}

/// An archive that was uploaded.
pub struct Bits {
    pub filename: String,
    pub digest: model::Digest,
    pub size_bytes: u64,
}

/// Gives a buildpack its bits; they are stored already.
pub async fn fill(context: &Context, id: BuildpackId, bits: Bits, by: &By) -> Answer<(Buildpack, model::id::JobId)> {
    let job = by.done_job("buildpack.upload");
    let tx = context.store.begin().await?;
    let mut buildpack = all(context, &tx)
        .await?
        .into_iter()
        .find(|one| one.id == id)
        .ok_or_else(|| Failure::not_found("Buildpack"))?;
    refuse_locked(&buildpack)?;
    buildpack.filename = Some(bits.filename);
    buildpack.digest = Some(bits.digest);
    buildpack.size_bytes = bits.size_bytes;
    buildpack.updated_at = by.now;
    tx.buildpack_put(&buildpack).await?;
    tx.event(event(by, "upload", &buildpack));
    tx.job_create(&job).await?;
    tx.commit().await?;
    Ok((buildpack, job.id))
}

/// The bits of a locked buildpack stay, and a built-in one has none.
pub fn refuse_locked(buildpack: &Buildpack) -> Answer<()> {
    if buildpack.builtin.is_some() {
        return Err(Failure::refused(
            "A built-in buildpack has no bits that could be replaced",
        ));
    }
    if buildpack.locked {
        return Err(Failure::refused("Buildpack is locked").hint("Unlock it first"));
    }
    Ok(())
}

/// Removes a buildpack. Builds that use it go on.
pub async fn delete(context: &Context, id: BuildpackId, by: &By) -> Answer<model::id::JobId> {
    let job = by.done_job("buildpack.delete");
    let tx = context.store.begin().await?;
    let all = all(context, &tx).await?;
    let buildpack = all.iter().find(|one| one.id == id);
    let buildpack = buildpack.ok_or_else(|| Failure::not_found("Buildpack"))?;
    if buildpack.builtin.is_some() {
        return Err(Failure::refused("A built-in buildpack can't be removed").hint("Disable it"));
    }
    tx.buildpack_delete(id).await?;
    tx.event(event(by, "delete", buildpack));
    tx.job_create(&job).await?;
    tx.commit().await?;
    Ok(job.id)
}

fn event(by: &By, what: &str, buildpack: &Buildpack) -> store::NewEvent {
    let target = Target {
        guid: buildpack.id.to_string(),
        kind: "buildpack".to_owned(),
        name: buildpack.name.clone(),
    };
    let data = json!({
        "position": buildpack.position, "enabled": buildpack.enabled, "locked": buildpack.locked,
        "stack": buildpack.stack, "digest": buildpack.digest,
    });
    by.event(&format!("audit.buildpack.{what}"), target, None, data)
}

#[cfg(test)]
#[test]
fn ids_of_built_in_ones_are_their_names() {
    assert_eq!(builtin_id("a"), builtin_id("a"));
    assert_ne!(builtin_id("a"), builtin_id("b"));
    assert_ne!(builtin_id("a").0, uuid::Uuid::nil());
}
