//! From configuration to a context: opens what there is, and fills what is empty.

use crate::actions::fresh;
use crate::auth::{Keys, hash};
use crate::config::{Blobs, Bootstrap, Config, Database};
use crate::context::{Clock, Context};
use crate::machines::Machines;
use crate::serve::Error;
use blobstore::Blobstore;
use model::Timestamp;
use model::id::{DomainId, OrgId, RoleId, SecurityGroupId, SpaceId, StackId, UserId};
use model::resource::{Domain, Metadata, Org, Role, RoleType, Space, Stack, User};
use model::security::{SecurityGroup, Uses, first_groups};
use std::sync::Arc;
use store::{Location, Order, OrgFilter, Page, Scope, SpaceFilter, Store, StoreError, StoredUser, Tx, UserKind};
use telemetry::applog::{Limits, LogStore};

/// Connections that a controller keeps to PostgreSQL.
const CONNECTIONS: u32 = 32;
/// Setting that is written first by whoever sets up a database.
const TURN: &str = "setup_turn";
/// Setting that says that the first security groups were made.
const SECURITY_GROUPS: &str = "first_security_groups";

/// Opens database, blobs and logs, and loads the signing key.
///
/// # Errors
/// Names the part that can't be opened.
pub async fn open(config: Arc<Config>, clock: Clock) -> Result<Context, Error> {
    let store = open_store(&config).await;
    let store = store.map_err(|source| Error::Database { source })?;
    let blobs = open_blobs(&config.blobs).await;
    let blobs = blobs.map_err(|source| Error::Open {
        part: "blob store",
        source: Box::new(source),
    })?;
    let logs = LogStore::open(&config.log_dir, Limits::default());
    let logs = logs.map_err(|source| Error::Open {
        part: "log store",
        source: Box::new(source),
    })?;
    // First, for it notices an encryption key that is not the database's.
    let tokens = Keys::load(&store, clock())
        .await
        .map_err(|source| Error::SigningKey { source })?;
    bootstrap(&store, &config.bootstrap, clock()).await?;
    let machines = match config.machines.clone() {
        None => None,
        Some(settings) => {
            let opened = Machines::open(&store, settings, clock()).await;
            Some(opened.map_err(|source| Error::Machines { source })?)
        }
    };
    let context = Context::new(store, blobs, logs, tokens, config, clock);
    Ok(match machines {
        None => context,
        Some(machines) => context.with_machines(machines),
    })
}

/// The database, with the present schema.
pub(crate) async fn open_store(config: &Config) -> Result<Store, StoreError> {
    let location = match &config.database {
        Database::Sqlite(path) => Location::Sqlite(path.clone()),
        Database::Postgres(url) => Location::Postgres {
            url: url.clone(),
            connections: CONNECTIONS,
        },
    };
    let keys = store::Keys::new(config.encryption_key.id, &config.encryption_key.key);
    Store::open(location, keys).await
}

pub(crate) async fn open_blobs(place: &Blobs) -> Result<Blobstore, blobstore::Error> {
    let limits = blobstore::Limits::default();
    match place {
        Blobs::Directory(folder) => Blobstore::open_directory(folder, limits),
        Blobs::S3 { store, scratch } => Blobstore::open_s3(store, scratch, limits).await,
    }
}

/// Makes the first user, domain, stacks, security groups, organisation and space, where they are not there. What is there stays as it
/// is: a changed password too.
///
/// # Errors
/// Where the database fails, or no password can be hashed.
pub async fn bootstrap(store: &Store, wanted: &Bootstrap, now: Timestamp) -> Result<(), Error> {
    let failed = |source: StoreError| Error::Database { source };
    let known = store
        .user_by_name(UserKind::User, &wanted.admin_name)
        .await
        .map_err(failed)?;
    // Outside the transaction: it is slow on purpose.
    let hashed = match known {
        Some(_) => None,
        None => Some(hash(wanted.admin_password.clone()).await.map_err(|_| Error::Password)?),
    };
    let tx = store.begin().await.map_err(failed)?;
    take_turn(&tx, now).await.map_err(failed)?;
    fill(&tx, wanted, hashed, now).await.map_err(failed)?;
    tx.commit().await.map_err(failed)
}

/// Waits until no other controller sets up the same database, up to the end of the transaction: what it made is seen
/// then, and not made again.
pub(crate) async fn take_turn(tx: &Tx, now: Timestamp) -> Result<(), StoreError> {
    tx.setting_set(TURN, &true, now).await
}

async fn fill(tx: &Tx, wanted: &Bootstrap, hashed: Option<String>, now: Timestamp) -> Result<(), StoreError> {
    let admin = match tx.user_by_name(UserKind::User, &wanted.admin_name).await? {
        Some(known) => known.user,
        None => {
            let user = User {
                origin: User::HERE.to_owned(),
                id: fresh::<UserId>(),
                name: wanted.admin_name.clone(),
                admin: true,
                metadata: model::resource::Metadata::default(),
                created_at: now,
            };
            tx.user_create(&StoredUser {
                user: user.clone(),
                kind: UserKind::User,
                password_hash: hashed,
            })
            .await?;
            user
        }
    };
    if tx.domain_default().await?.is_none() {
        tx.domain_create(&Domain {
            id: fresh::<DomainId>(),
            name: wanted.domain.clone(),
            org: None,
            internal: false,
            metadata: model::resource::Metadata::default(),
            created_at: now,
            updated_at: now,
        })
        .await?;
    }
    for (n, name) in wanted.stacks.iter().enumerate() {
        tx.stack_put(&Stack {
            id: fresh::<StackId>(),
            name: name.clone(),
            description: String::new(),
            default: n == 0,
            metadata: model::resource::Metadata::default(),
            created_at: now,
        })
        .await?;
    }
    security_groups(tx, now).await?;
    if let Some(org) = &wanted.org {
        tenant(tx, org, wanted.space.as_deref(), &admin, now).await?;
    }
    Ok(())
}

/// The first security groups, once: those that an operator deleted don't come back.
async fn security_groups(tx: &Tx, now: Timestamp) -> Result<(), StoreError> {
    if tx.setting_fetch::<bool>(SECURITY_GROUPS).await?.is_some() {
        return Ok(());
    }
    for first in first_groups() {
        tx.security_group_create(&SecurityGroup {
            id: fresh::<SecurityGroupId>(),
            name: first.name.to_owned(),
            rules: first.rules,
            globally: Uses {
                running: first.globally,
                staging: first.globally,
            },
            created_at: now,
            updated_at: now,
        })
        .await?;
    }
    tx.setting_set(SECURITY_GROUPS, &true, now).await
}

/// The first organisation and space, with the administrator in them.
async fn tenant(tx: &Tx, org: &str, space: Option<&str>, admin: &User, now: Timestamp) -> Result<(), StoreError> {
    let filter = OrgFilter {
        names: Some(vec![org.to_owned()]),
        ids: None,
        ..OrgFilter::default()
    };
    let known = tx
        .org_list(&filter, Scope::All, Order::default(), Page::ONE)
        .await?
        .items
        .pop();
    let is_new = known.is_none();
    let org = match (known, org.parse()) {
        (Some(org), _) => org,
        (None, Ok(name)) => Org {
            id: fresh::<OrgId>(),
            name,
            suspended: false,
            metadata: Metadata::default(),
            created_at: now,
            updated_at: now,
        },
        // A name that is none was refused with the rest of the configuration.
        (None, Err(_)) => return Ok(()),
    };
    let role = |role, space| Role {
        id: fresh::<RoleId>(),
        user: admin.id,
        role,
        org: org.id,
        space,
        created_at: now,
    };
    if is_new {
        tx.org_create(&org).await?;
        tx.role_create(&role(RoleType::OrganizationManager, None)).await?;
    }
    let Some(Ok(name)) = space.map(str::parse) else {
        return Ok(());
    };
    let filter = SpaceFilter {
        names: space.map(|space| vec![space.to_owned()]),
        orgs: Some(vec![org.id]),
        ids: None,
        ..SpaceFilter::default()
    };
    if tx
        .space_list(&filter, Scope::All, Order::default(), Page::ONE)
        .await?
        .items
        .is_empty()
    {
        let space = Space {
            id: fresh::<SpaceId>(),
            org: org.id,
            name,
            metadata: Metadata::default(),
            created_at: now,
            updated_at: now,
        };
        tx.space_create(&space).await?;
        tx.role_create(&role(RoleType::SpaceDeveloper, Some(space.id))).await?;
    }
    Ok(())
}
