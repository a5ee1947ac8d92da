//! What the SSH server asks of the controller: whom a code lets in, and sessions in the instance that they named. The
//! server's own key is here too: made once and kept, encrypted, so that all controllers are one server to clients.

use super::{authorize, record, refusal, relay};
use crate::actions::By;
use crate::auth::{Caller, Need, app_for};
use crate::context::Context;
use crate::error::{Answer, Failure};
use crate::exec::{self, Command};
use crate::oauth::digest_of;
use crate::setup::take_turn;
use crate::{Control, Error};
use api::cell::Purpose;
use http::StatusCode;
use model::Secret;
use model::id::{AppId, ProcessId};
use model::resource::{App, Process, Space};
use rand::RngCore as _;
use serde::{Deserialize, Serialize};
use ssh::{HostKey, Request, Session};
use std::sync::Arc;
use store::CodeKind;
use tokio::net::TcpListener;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

const SETTING: &str = "ssh_host_key";
/// What names of users begin with: `cf:<process>/<index>`.
const PREFIX: &str = "cf:";

#[derive(Serialize, Deserialize)]
struct Stored {
    seed: Secret,
}

/// The server's key, once it is known.
#[derive(Clone, Default)]
pub(crate) struct HostKeyCell(Arc<OnceCell<HostKey>>);

impl HostKeyCell {
    /// The key, made where there is none yet.
    pub(crate) async fn get(&self, context: &Context) -> Answer<&HostKey> {
        self.0.get_or_try_init(|| load(context)).await
    }
}

async fn load(context: &Context) -> Answer<HostKey> {
    let key = |stored: &Stored| {
        let seed = hex::decode(stored.seed.expose()).ok();
        let seed: Option<[u8; 32]> = seed.and_then(|seed| seed.try_into().ok());
        seed.map(|seed| HostKey::from_seed(&seed))
            .ok_or_else(|| Failure::internal("the key of the SSH server is damaged"))
    };
    if let Some(stored) = context.store.setting_fetch::<Stored>(SETTING).await? {
        return key(&stored);
    }
    let mut seed = [0; 32];
    rand::rng().fill_bytes(&mut seed);
    let fresh = Stored {
        seed: Secret::new(hex::encode(seed)),
    };
    let tx = context.store.begin().await?;
    take_turn(&tx, context.now()).await?;
    // Another controller may have been faster.
    if let Some(theirs) = tx.setting_fetch::<Stored>(SETTING).await? {
        return key(&theirs);
    }
    tx.setting_set(SETTING, &fresh, context.now()).await?;
    tx.commit().await?;
    key(&fresh)
}

/// Serves SSH on `listener` until `shutdown`.
///
/// # Errors
/// Where there is no usable key.
pub async fn run(control: Control, listener: TcpListener, shutdown: CancellationToken) -> Result<(), Error> {
    let context = control.context.clone();
    let key = context.host_key.get(&context).await.map_err(|failure| Error::HostKey {
        cause: format!("{failure:?}"),
    })?;
    ssh::serve(listener, key, Arc::new(Proxy { control }), shutdown).await;
    Ok(())
}

pub(super) struct Proxy {
    pub control: Control,
}

/// What a connection may do: have sessions in one instance, for one user.
#[derive(Clone)]
pub(crate) struct Grant {
    app: App,
    space: Space,
    process: ProcessId,
    index: u32,
}

/// The process, or app, and the index that the name of a user says.
fn named(user: &str) -> Option<(uuid::Uuid, u32)> {
    let (process, index) = user.strip_prefix(PREFIX)?.split_once('/')?;
    Some((process.parse().ok()?, index.parse().ok()?))
}

impl Proxy {
    /// `None` where the code is none or its user may not.
    async fn let_in(&self, user: &str, code: &Secret) -> Answer<Option<Grant>> {
        let context = &self.control.context;
        let tx = context.store.begin().await?;
        let digest = digest_of(code.expose());
        let taken = tx.code_take(&digest, CodeKind::Ssh, context.now()).await?;
        // Used up, whatever comes of it.
        tx.commit().await?;
        let (Some(id), Some((guid, index))) = (taken, named(user)) else {
            return Ok(None);
        };
        let Some(caller) = Caller::of(context, id).await? else {
            return Ok(None);
        };
        let Some(process) = self.process(guid).await? else {
            return Ok(None);
        };
        let by = By::caller(&caller, context);
        match app_for(&context.store, &caller, process.app, Need::Write, "App").await {
            Ok((app, space)) => {
                authorize(context, &app, &space, index, &by).await?;
                let process = process.id;
                Ok(Some(Grant {
                    app,
                    space,
                    process,
                    index,
                }))
            }
            Err(failure) if failure.status() == StatusCode::FORBIDDEN => {
                let (app, space) = app_for(&context.store, &caller, process.app, Need::Read, "App").await?;
                record(context, &app, &space, index, false, &by).await?;
                Err(failure)
            }
            Err(failure) => Err(failure),
        }
    }

    /// By its own id or, the web process, by the app's: they are one in CF.
    async fn process(&self, guid: uuid::Uuid) -> Answer<Option<Process>> {
        let store = &self.control.context.store;
        match store.process_fetch(ProcessId(guid)).await? {
            Some(process) => Ok(Some(process)),
            None => Ok(store.process_by_type(AppId(guid), "web").await?),
        }
    }
}

impl ssh::Instances for Proxy {
    type Grant = Grant;

    async fn elsewhere(&self) -> Result<Option<Box<dyn ssh::Stream>>, String> {
        relay::elsewhere(&self.control).await
    }

    async fn admit(&self, user: &str, code: Secret) -> Option<Grant> {
        match self.let_in(user, &code).await {
            Ok(Some(grant)) => {
                tracing::info!(app.id = %grant.app.id, index = grant.index, "a connection by SSH was let in");
                Some(grant)
            }
            Ok(None) => {
                tracing::info!("a connection by SSH was refused: its code or its user is unknown");
                None
            }
            Err(failure) => {
                tracing::info!(?failure, "a connection by SSH was refused");
                None
            }
        }
    }

    async fn open(&self, grant: &Grant, request: Request) -> Result<Session, String> {
        let context = &self.control.context;
        let said = |failure: Failure| {
            let first = failure.errors().first();
            first.map_or_else(|| "it failed".to_owned(), |error| error.detail.clone())
        };
        // It may have been switched off since.
        if let Some(reason) = refusal(context, &grant.app, &grant.space).await.map_err(said)? {
            return Err(reason);
        }
        let process = grant.process;
        let found = exec::instance(context, grant.app.id, grant.index, |instance| {
            instance.process == process
        });
        let Some(work) = found.await.map_err(said)? else {
            return Err(format!("instance {} is not running", grant.index));
        };
        exec::pipe(&self.control, &work, command(request)).await.map_err(said)
    }
}

fn command(request: Request) -> Command {
    match request {
        Request::Run {
            command,
            terminal,
            mut variables,
        } => {
            if let Some(terminal) = &terminal {
                variables.push(("TERM".to_owned(), terminal.kind.clone()));
            }
            Command {
                argv: command.into_iter().collect(),
                terminal: terminal.map(|terminal| (terminal.rows, terminal.columns)),
                variables,
                purpose: Purpose::Command,
            }
        }
        Request::Connect { host, port } => Command {
            purpose: Purpose::Connect { host, port },
            ..Command::default()
        },
        Request::Files => Command {
            purpose: Purpose::Files,
            ..Command::default()
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_name_an_instance() {
        let guid = uuid::Uuid::from_u128(7);
        assert_eq!(named(&format!("cf:{guid}/3")), Some((guid, 3)));
        for other in [
            "root",
            "cf:",
            "cf:x/0",
            &format!("cf:{guid}"),
            &format!("cf:{guid}/-1"),
            &format!("{guid}/0"),
        ] {
            assert_eq!(named(other), None, "{other}");
        }
    }
}
