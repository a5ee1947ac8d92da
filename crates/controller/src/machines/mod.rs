//! Machines that prove themselves by certificates: the platform's authority, how hosts join, and who may say what.
//!
//! A certificate says a role and an id, and a machine speaks for that id alone. Whether the certificate counts is asked of
//! the database with every request, so that a machine which is revoked is out at once. Another controller speaks for the
//! machines whose requests it passes on.

mod guard;
mod join;
mod listener;
mod operators;

pub(crate) use guard::{Known, authenticate};
pub(crate) use join::routes;
pub(crate) use listener::Origin;
pub use listener::serve;
pub(crate) use operators::routes as operator_routes;

use crate::{Control, setup};
use identity::{Authority, Credentials, Held, Stored};
use model::Timestamp;
use model::machine::{Machine, Role};
use std::sync::Arc;
use std::time::Duration;
use store::{Store, StoreError};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Setting that holds the authority, encrypted.
const AUTHORITY: &str = "machine_authority";
/// How often a controller says that it is there.
const SEEN: Duration = Duration::from_secs(3600);
/// A controller that said so no longer ago is told to hosts that join.
const RECENT: Duration = Duration::from_secs(3 * 3600);
/// Pause after a failure.
const RETRY: Duration = Duration::from_secs(10);

/// How machines reach this controller, and for how long they are believed.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Address for machines and other controllers, such as `https://10.0.0.1:8182`.
    pub address: String,
    /// The host in it, name or address: what the controller's certificate is for.
    pub host: String,
    /// How long a certificate holds.
    pub life: Duration,
}

/// Why there are no certificates.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database failed.
    #[error("the authority could not be read or stored")]
    Store(#[source] StoreError),
    /// The authority or a certificate of it can't be made or used.
    #[error("the authority can't be used")]
    Identity(#[source] identity::Error),
}

/// The authority, and this controller's own certificate. Clones share it.
#[derive(Clone)]
pub struct Machines(Arc<Inner>);

struct Inner {
    settings: Settings,
    authority: Authority,
    id: Uuid,
    held: Held,
    renewal: parking_lot::Mutex<Timestamp>,
}

impl Machines {
    /// Opens the platform's authority; makes one where there is none yet.
    ///
    /// # Errors
    /// Where the database fails, or the authority is damaged.
    pub async fn open(store: &Store, settings: Settings, now: Timestamp) -> Result<Self, Error> {
        let stored = authority(store, now).await?;
        let authority = Authority::open(&stored).map_err(Error::Identity)?;
        let id = Uuid::new_v4();
        let own = own(&authority, id, &settings, now)?;
        tracing::info!(address = settings.address, "machines reach this controller by TLS");
        Ok(Self(Arc::new(Inner {
            held: Held::new(&own).map_err(Error::Identity)?,
            renewal: parking_lot::Mutex::new(own.renewal()),
            settings,
            authority,
            id,
        })))
    }

    /// What signs.
    pub(crate) fn authority(&self) -> &Authority {
        &self.0.authority
    }

    /// How long certificates hold.
    pub(crate) fn life(&self) -> Duration {
        self.0.settings.life
    }

    /// This controller's own certificate.
    pub(crate) fn held(&self) -> &Held {
        &self.0.held
    }

    fn renew(&self, now: Timestamp) -> Result<(), Error> {
        if *self.0.renewal.lock() > now {
            return Ok(());
        }
        let own = own(&self.0.authority, self.0.id, &self.0.settings, now)?;
        self.0.held.replace(&own).map_err(Error::Identity)?;
        *self.0.renewal.lock() = own.renewal();
        Ok(())
    }
}

fn own(authority: &Authority, id: Uuid, settings: &Settings, now: Timestamp) -> Result<Credentials, Error> {
    let machine = Machine {
        role: Role::Controller,
        id,
    };
    let names = vec![settings.host.clone()];
    let own = authority.controller(machine, names, now, settings.life);
    own.map_err(Error::Identity)
}

/// The platform's authority. Of controllers that start at once one makes it.
async fn authority(store: &Store, now: Timestamp) -> Result<Stored, Error> {
    let tx = store.begin().await.map_err(Error::Store)?;
    setup::take_turn(&tx, now).await.map_err(Error::Store)?;
    if let Some(known) = tx.setting_fetch::<Stored>(AUTHORITY).await.map_err(Error::Store)? {
        return Ok(known);
    }
    let made = Authority::create(now).map_err(Error::Identity)?;
    tx.setting_set(AUTHORITY, &made, now).await.map_err(Error::Store)?;
    tx.commit().await.map_err(Error::Store)?;
    Ok(made)
}

/// SHA-256 of the authority's certificate, where there is one.
#[must_use]
pub fn fingerprint(control: &Control) -> Option<[u8; 32]> {
    let machines = control.context.machines.as_ref();
    machines.map(|machines| machines.authority().fingerprint())
}

/// Where controllers are, for hosts that join.
pub(crate) async fn addresses(control: &Control) -> Result<Vec<String>, StoreError> {
    let since = control.context.now() - RECENT;
    control.context.store.controllers_seen(since).await
}

/// Says now and then that this controller is there, and keeps its certificate young, until `shutdown`.
pub async fn run(control: Control, shutdown: CancellationToken) {
    let Some(machines) = control.context.machines.clone() else {
        return;
    };
    loop {
        let pause = match turn(&control, &machines).await {
            Ok(()) => SEEN.min(machines.life() / 6),
            Err(error) => {
                tracing::warn!(
                    cause = telemetry::chain(&error),
                    "the controller's certificate was not kept up"
                );
                RETRY
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn turn(control: &Control, machines: &Machines) -> Result<(), Error> {
    let now = control.context.now();
    machines.renew(now)?;
    let tx = control.context.store.begin().await.map_err(Error::Store)?;
    let address = &machines.0.settings.address;
    tx.controller_seen(address, now).await.map_err(Error::Store)?;
    tx.commit().await.map_err(Error::Store)
}
