//! Hosts that become machines, and machines that renew their certificates. Any controller answers.

use super::{Machines, Origin, addresses, guard};
use crate::config::Blobs;
use crate::error::{Answer, Failure};
use crate::{Context, Control};
use api::error::Code;
use api::machine::{JOIN, Join, Joined, MAX_BODY, RENEW, Renew};
use axum::extract::{DefaultBodyLimit, State};
use axum::routing::post;
use axum::{Extension, Json, Router};
use identity::{Issued, JoinToken};
use model::machine::{Machine, Role};
use store::{Refused, StoredMachine};

/// Longest name of a host.
const MAX_NAME: usize = 255;

/// The routes, on every surface; without certificates there is nothing to join.
pub(crate) fn routes(control: Control) -> Router {
    Router::new()
        .route(JOIN.path, post(join))
        .route(RENEW.path, post(renew))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(control)
}

pub(super) fn machines(context: &Context) -> Answer<&Machines> {
    context.machines.as_ref().ok_or_else(|| {
        Failure::refused("This platform has no certificates for machines")
            .hint("Set cluster.listen on its controllers, and start them again")
    })
}

/// `POST /machine/v1/join`.
async fn join(State(control): State<Control>, Json(join): Json<Join>) -> Answer<Json<Joined>> {
    let (context, machine) = (&control.context, join.machine);
    let machines = machines(context)?;
    let now = context.now();
    if machine.role == Role::Controller {
        return Err(Failure::refused(
            "Controllers do not join: they have the platform's key",
        ));
    }
    let issued = sign(machines, machine, &join.request, now)?;
    let digest = JoinToken::digest(&join.secret);
    let tx = context.store.begin().await?;
    let Some(token) = tx.join_token_use(join.token, &digest, machine, now).await? else {
        let why = tx.join_token_refusal(join.token, &digest, machine.role, now).await?;
        return Err(refused(machine, &join, why));
    };
    // Nothing is written where this refuses: the token stays good.
    if let Some(known) = tx.machine_fetch(machine).await? {
        let same_key = known.key_digest == issued.key_digest;
        if known.revoked_at.is_some() || !same_key {
            tracing::warn!(%machine, token.id = %token.id, same_key, "a host was refused: another machine has its id");
            return Err(
                Failure::forbidden().hint("Another machine has this id, or it was removed: join with an empty state")
            );
        }
    }
    let joined = StoredMachine {
        machine,
        name: join.name.chars().take(MAX_NAME).collect(),
        label: token.label,
        max_memory_mb: token.max_memory_mb,
        key_digest: issued.key_digest.to_vec(),
        joined_at: now,
        certificate_until: issued.until,
        revoked_at: None,
    };
    tx.machine_put(&joined).await?;
    tx.commit().await?;
    tracing::info!(%machine, machine.name = joined.name, token.id = %join.token, "a host joined");
    told(&control, machines, machine, issued).await.map(Json)
}

/// `POST /machine/v1/renew`.
async fn renew(
    State(control): State<Control>,
    origin: Option<Extension<Origin>>,
    Json(renew): Json<Renew>,
) -> Answer<Json<Joined>> {
    let machines = machines(&control.context)?;
    let machine = origin.and_then(|origin| origin.machine);
    let machine = machine.filter(|machine| machine.role != Role::Controller);
    let machine = machine.ok_or_else(|| Failure::new(Code::InvalidAuthToken, "Renewals need the certificate"))?;
    guard::known(&control, machine).await?;
    let issued = sign(machines, machine, &renew.request, control.context.now())?;
    let tx = control.context.store.begin().await?;
    if !tx.machine_renewed(machine, &issued.key_digest, issued.until).await? {
        return Err(Failure::forbidden());
    }
    tx.commit().await?;
    tracing::info!(%machine, until = %issued.until, "a machine's certificate was renewed");
    told(&control, machines, machine, issued).await.map(Json)
}

fn sign(machines: &Machines, machine: Machine, request: &str, now: model::Timestamp) -> Answer<Issued> {
    let issued = machines.authority().issue(machine, request, now, machines.life());
    issued.map_err(|error| Failure::refused("The certificate request can't be used").caused_by(error))
}

/// Why a token is refused: for the log whole, for the host without what only somebody with a token's secret may know.
fn refused(machine: Machine, join: &Join, why: Refused) -> Failure {
    tracing::warn!(%machine, machine.name = join.name, token.id = %join.token, ?why, "a host was refused: its token is not good");
    let text = match why {
        Refused::Unknown => "The token is not known".to_owned(),
        Refused::Used => "The token was used already".to_owned(),
        Refused::Expired => "The token's time is over".to_owned(),
        Refused::Role(role) => format!("The token is a {role}'s"),
    };
    Failure::new(Code::InvalidAuthToken, text)
        .hint(format!("Make another: paas admin token create --role {}", machine.role))
}

/// The certificate with what else a machine has to know.
async fn told(control: &Control, machines: &Machines, machine: Machine, issued: Issued) -> Answer<Joined> {
    let blobs = match &control.context.config.blobs {
        Blobs::S3 { store, .. } if machine.role == Role::Cell => Some(api::machine::Blobs {
            endpoint: store.endpoint.clone(),
            region: store.region.clone(),
            bucket: store.bucket.clone(),
            prefix: store.prefix.clone(),
            access_key: store.access_key.clone(),
            secret_key: store.secret_key.clone(),
        }),
        Blobs::S3 { .. } | Blobs::Directory(_) => None,
    };
    Ok(Joined {
        machine,
        certificate: issued.certificate,
        authority: machines.authority().pem().to_owned(),
        from: issued.from,
        until: issued.until,
        controllers: addresses(control).await?,
        blobs,
    })
}
