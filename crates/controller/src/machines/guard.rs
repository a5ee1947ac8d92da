//! Who a request of a machine is from, and whether it may say that.

use super::Origin;
use crate::Control;
use crate::error::{Answer, Failure};
use api::error::Code;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderName, HeaderValue, header};
use model::id::CellId;
use model::machine::{Machine, Role};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// Says whose request another controller passes on. Of no weight from anybody else.
const PASSED_FOR: HeaderName = HeaderName::from_static("x-paas-machine");

/// A machine that proved itself by a certificate which counts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    pub machine: Machine,
    /// Most memory that it may offer, in MiB.
    pub max_memory_mb: Option<u64>,
}

impl Known {
    /// Its id as a cell's, where it is one.
    pub(crate) fn cell(&self) -> Option<CellId> {
        (self.machine.role == Role::Cell).then_some(CellId(self.machine.id))
    }
}

/// Lets machines through that prove who they are, by certificate or by the secret that all share, where there is one.
pub(crate) async fn authenticate(State(control): State<Control>, mut request: Request, next: Next) -> Answer<Response> {
    // What controllers ask each other.
    if request.uri().path() == crate::sessions::PATH && crate::lead::is_of_controller(&request) {
        return Ok(next.run(request).await);
    }
    let claimed = claimed(&request);
    request.headers_mut().remove(&PASSED_FOR);
    let Some(machine) = claimed else {
        shared(&control, &request)?;
        return Ok(next.run(request).await);
    };
    let known = known(&control, machine).await?;
    let path = request.uri().path();
    if !speaks_for_itself(machine, path) {
        tracing::warn!(%machine, path, "a machine was refused: it speaks for another");
        return Err(Failure::forbidden().hint("A certificate is for one machine, and this is another's"));
    }
    if let Ok(value) = HeaderValue::from_str(&machine.to_string()) {
        request.headers_mut().insert(PASSED_FOR, value);
    }
    request.extensions_mut().insert(known);
    Ok(next.run(request).await)
}

/// Who the request is from by its connection's certificate; `None` where it showed none.
fn claimed(request: &Request) -> Option<Machine> {
    let machine = request.extensions().get::<Origin>()?.machine?;
    if machine.role != Role::Controller {
        return Some(machine);
    }
    let passed_for = request.headers().get(&PASSED_FOR)?.to_str().ok()?;
    let (role, id) = passed_for.split_once('/')?;
    Some(Machine {
        role: role.parse().ok().filter(|role| *role != Role::Controller)?,
        id: id.parse().ok()?,
    })
}

/// What is known of a machine whose certificate is sound.
pub(super) async fn known(control: &Control, machine: Machine) -> Answer<Known> {
    let stored = control.context.store.machine_fetch(machine).await?;
    match stored {
        Some(stored) if stored.revoked_at.is_none() => Ok(Known {
            machine,
            max_memory_mb: stored.max_memory_mb,
        }),
        found => {
            let revoked = found.is_some();
            tracing::warn!(%machine, revoked, "a machine was refused: its certificate counts no more");
            Err(Failure::forbidden().hint("This machine was removed: it has to join anew, with another identity"))
        }
    }
}

/// Whether the machine named in the path is the one that asks.
fn speaks_for_itself(machine: Machine, path: &str) -> bool {
    let named = |rest: &str| {
        let id = rest.split('/').next().and_then(|id| Uuid::try_parse(id).ok());
        id == Some(machine.id)
    };
    match machine.role {
        // Whose a session is, is known where it waits.
        Role::Cell if path.starts_with("/cell/v1/sessions/") => true,
        Role::Cell => path.strip_prefix("/cell/v1/cells/").is_some_and(named),
        Role::Router => path.strip_prefix("/edge/v1/routers/").is_some_and(named),
        Role::Controller => false,
    }
}

/// The secret that all machines of a platform share, where it is in use.
fn shared(control: &Control, request: &Request) -> Answer<()> {
    let header = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let token = header
        .and_then(|value| value.split_once(' '))
        .filter(|(kind, _)| kind.eq_ignore_ascii_case("bearer"));
    match (token, &control.context.config.machine_token) {
        (Some((_, token)), Some(expected)) if same(token.trim(), expected.expose()) => Ok(()),
        _ => Err(Failure::new(Code::InvalidAuthToken, "Invalid Auth Token")),
    }
}

/// Compares in a time that says nothing about where the texts differ.
fn same(left: &str, right: &str) -> bool {
    let (left, right) = (Sha256::digest(left), Sha256::digest(right));
    left.iter()
        .zip(right.iter())
        .fold(0_u8, |differs, (a, b)| differs | (a ^ b))
        == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_compared_whole() {
        assert!(same("secret", "secret"));
        assert!(!same("secret", "secre"));
        assert!(!same("", "secret"));
    }

    #[test]
    fn a_machine_speaks_for_itself_alone() {
        let id = Uuid::from_u128(7);
        let other = Uuid::from_u128(8);
        let (cell, router) = (Machine { role: Role::Cell, id }, Machine { role: Role::Router, id });
        assert!(speaks_for_itself(cell, &format!("/cell/v1/cells/{id}/report")));
        assert!(speaks_for_itself(router, &format!("/edge/v1/routers/{id}/feed")));
        for (machine, path) in [
            (cell, format!("/cell/v1/cells/{other}/report")),
            (cell, format!("/edge/v1/routers/{id}/feed")),
            (router, format!("/cell/v1/cells/{id}/feed")),
            (router, format!("/cell/v1/sessions/{id}")),
            (cell, format!("/cell/v1/cells/{id}x/report")),
            (cell, "/cell/v1/cells/".to_owned()),
            (
                Machine {
                    role: Role::Controller,
                    id,
                },
                format!("/cell/v1/cells/{id}/report"),
            ),
        ] {
            assert!(!speaks_for_itself(machine, &path), "{machine} {path}");
        }
    }
}
