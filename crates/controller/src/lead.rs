//! Which controller is elected, and requests that only the elected one can answer.
//!
//! Leases of cells, acknowledgements of routers, open feeds and the last lines of logs are in the memory of the
//! controller that schedules, and nowhere else. Any other passes a request that needs them on, whole, and so cells,
//! routers and people may talk to whichever they reach. Who is elected is `scheduling::election`'s to find out.

use crate::Control;
use crate::error::Failure;
use crate::machines::{Machines, Origin};
use api::error::Code;
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderName, HeaderValue, StatusCode, header};
use http_body::Body as _;
use hyper_util::rt::TokioIo;
use identity::Proof;
use model::Secret;
use model::machine::Role;
use sha2::{Digest as _, Sha256};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How long a request waits for an election.
const ELECTION: Duration = Duration::from_secs(8);
/// Time to reach the elected controller.
const CONNECT: Duration = Duration::from_secs(2);
/// Marks what was passed on once: it is not passed on again.
const PASSED_ON: HeaderName = HeaderName::from_static("x-paas-passed-on");
/// Headers of one connection, which end with it.
const HOP_BY_HOP: [HeaderName; 6] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::TE,
    header::TRAILER,
    header::PROXY_AUTHENTICATE,
    header::UPGRADE,
];
/// Public routes that look at what the elected controller alone knows. Those of machines, and our own additions, all do.
const NEEDS: [&str; 7] = [
    "/v3/processes/{guid}/stats",
    "/v3/processes/{guid}/process_instances",
    "/v3/apps/{guid}/processes/{type}/stats",
    "/api/v1/read/{source}",
    "/api/v1/info",
    "/api/v1/meta",
    "/api/v1/query",
];

/// Where the elected controller is.
#[derive(Debug, Clone)]
pub(crate) enum Standing {
    /// Not known: nobody was elected yet, or the one that was has gone.
    Unknown,
    /// This one, until then by its own clock if nothing renews it.
    Here {
        until: Option<Instant>,
        /// Ends with the term.
        term: CancellationToken,
    },
    /// Another, at this address.
    There(String),
}

/// The standing, as the election last found it. Clones share it.
#[derive(Clone)]
pub(crate) struct Lead {
    standing: watch::Sender<Standing>,
    http: reqwest::Client,
}

impl Lead {
    /// Where there is no other controller it is elected from the start.
    pub(crate) fn new(contested: bool, machines: Option<&Machines>, shutdown: &CancellationToken) -> Self {
        let standing = if contested {
            Standing::Unknown
        } else {
            Standing::Here {
                until: None,
                term: shutdown.child_token(),
            }
        };
        let plain = || {
            reqwest::Client::builder()
                .connect_timeout(CONNECT)
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none())
        };
        let client = match machines {
            None => plain(),
            Some(machines) => Proof::from(machines.held().clone())
                .client(plain())
                .unwrap_or_else(|error| {
                    tracing::error!(
                        cause = telemetry::chain(&error),
                        "other controllers can't be reached by TLS"
                    );
                    plain()
                }),
        };
        Self {
            standing: watch::Sender::new(standing),
            // It fails only where the system has no usable source of random numbers.
            http: client.build().unwrap_or_default(),
        }
    }

    /// This controller holds the lease until then. True where a term begins.
    pub(crate) fn hold(&self, until: Option<Instant>, shutdown: &CancellationToken) -> bool {
        let mut begins = false;
        self.standing.send_if_modified(|standing| {
            if let Standing::Here { until: held, .. } = standing {
                *held = until;
                return false;
            }
            begins = true;
            *standing = Standing::Here {
                until,
                term: shutdown.child_token(),
            };
            true
        });
        begins
    }

    /// Another holds it, or nobody.
    pub(crate) fn lose(&self, holder: Option<String>) {
        self.standing.send_modify(|standing| {
            if let Standing::Here { term, .. } = standing {
                tracing::warn!("another controller schedules from now on, or none");
                term.cancel();
            }
            *standing = holder.map_or(Standing::Unknown, Standing::There);
        });
    }

    /// The standing now. A lease that has run out unrenewed is nobody's.
    pub(crate) fn standing(&self) -> Standing {
        let standing = self.standing.borrow().clone();
        match &standing {
            Standing::Here { until: Some(until), .. } if *until <= Instant::now() => Standing::Unknown,
            _ => standing,
        }
    }

    /// The token of the present term, cancelled already where this controller has none.
    pub(crate) fn term(&self) -> CancellationToken {
        match self.standing() {
            Standing::Here { term, .. } => term,
            Standing::Unknown | Standing::There(_) => {
                let over = CancellationToken::new();
                over.cancel();
                over
            }
        }
    }

    /// Opens a connection of another protocol to the controller at `address`.
    ///
    /// # Errors
    /// Where it does not answer, or does not take it.
    pub(crate) async fn carry(
        &self,
        address: &str,
        path: &str,
        protocol: &'static str,
        token: Option<&Secret>,
    ) -> Result<reqwest::Upgraded, reqwest::Error> {
        let url = format!("{}{path}", address.trim_end_matches('/'));
        let mut request = (self.http.get(url))
            .header(PASSED_ON, mark(token))
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, protocol);
        if let Some(token) = token {
            request = request.bearer_auth(token.expose());
        }
        request.send().await?.error_for_status()?.upgrade().await
    }

    pub(crate) fn is_here(&self) -> bool {
        matches!(self.standing(), Standing::Here { .. })
    }

    /// The standing once it is known, or as it is when an election took too long.
    pub(crate) async fn known(&self) -> Standing {
        let mut changes = self.standing.subscribe();
        let known = async {
            loop {
                match self.standing() {
                    Standing::Unknown => {}
                    known => return known,
                }
                if changes.changed().await.is_err() {
                    return Standing::Unknown;
                }
            }
        };
        tokio::time::timeout(ELECTION, known).await.unwrap_or(Standing::Unknown)
    }
}

/// What only who has the secret that all machines share can mark a request with, where there is one.
fn mark(token: Option<&Secret>) -> HeaderValue {
    let digest = token.map(|token| hex::encode(Sha256::digest(format!("passed on {}", token.expose()))));
    let value = digest.and_then(|digest| HeaderValue::from_str(&digest).ok());
    value.unwrap_or_else(|| HeaderValue::from_static("1"))
}

/// Whether another controller passed the request on, and so has counted it: it shows so by its certificate, or by the
/// secret. Who only says so is not believed.
pub(crate) fn was_passed_on(request: &Request, token: Option<&Secret>) -> bool {
    is_of_controller(request) || token.is_some() && request.headers().get(&PASSED_ON) == Some(&mark(token))
}

/// Whether the request came over a connection that another controller opened, by its certificate.
pub(crate) fn is_of_controller(request: &Request) -> bool {
    let origin = request.extensions().get::<Origin>();
    origin
        .and_then(|origin| origin.machine)
        .is_some_and(|machine| machine.role == Role::Controller)
}

/// Answers here where this controller is elected, else passes the request on.
pub(crate) async fn elected(State(control): State<Control>, request: Request, next: Next) -> Result<Response, Failure> {
    let passed_on = request.headers().contains_key(&PASSED_ON);
    let standing = if passed_on {
        control.lead.standing()
    } else {
        control.lead.known().await
    };
    match standing {
        Standing::Here { .. } => Ok(next.run(request).await),
        Standing::There(address) if !passed_on => {
            let mark = mark(control.context.config.machine_token.as_ref());
            pass_on(&control.lead.http, &address, mark, request).await
        }
        Standing::There(_) | Standing::Unknown => Err(Failure::new(
            Code::ServiceUnavailable,
            "no controller is elected at the moment; try again in some seconds",
        )),
    }
}

/// As [`elected`], for those of the public routes that need it.
pub(crate) async fn elected_where_needed(
    state: State<Control>,
    request: Request,
    next: Next,
) -> Result<Response, Failure> {
    let path = request.extensions().get::<MatchedPath>();
    if path.is_some_and(|path| NEEDS.contains(&path.as_str())) {
        return elected(state, request, next).await;
    }
    Ok(next.run(request).await)
}

/// Sends the request to another controller and its answer back, as it comes; a connection that changes its protocol is
/// carried on.
async fn pass_on(
    http: &reqwest::Client,
    address: &str,
    mark: HeaderValue,
    mut request: Request,
) -> Result<Response, Failure> {
    let unreachable = |error: reqwest::Error| {
        Failure::new(
            Code::ServiceUnavailable,
            "the controller that is elected does not answer; try again in some seconds",
        )
        .caused_by(error)
    };
    let target = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let url = format!("{}{target}", address.trim_end_matches('/'));
    let upgrade = request.headers().get(header::UPGRADE).cloned();
    let client_side = upgrade.is_some().then(|| hyper::upgrade::on(&mut request));
    let (parts, body) = request.into_parts();
    let mut headers = parts.headers;
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
    headers.insert(PASSED_ON, mark);
    if let Some(protocol) = upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, protocol);
    }
    let sent = http.request(parts.method, url).headers(headers);
    let sent = if body.is_end_stream() {
        sent
    } else {
        sent.body(reqwest::Body::wrap_stream(body.into_data_stream()))
    };
    let answer = sent.send().await.map_err(unreachable)?;
    match client_side {
        Some(client_side) if answer.status() == StatusCode::SWITCHING_PROTOCOLS => Ok(carry_on(answer, client_side)),
        _ => Ok(plain(answer)),
    }
}

/// The answer, streamed.
fn plain(answer: reqwest::Response) -> Response {
    let (status, mut headers) = (answer.status(), answer.headers().clone());
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
    let mut response = Response::new(Body::from_stream(answer.bytes_stream()));
    (*response.status_mut(), *response.headers_mut()) = (status, headers);
    response
}

/// Both ends speak another protocol from here on; bytes go to and fro until one closes.
fn carry_on(answer: reqwest::Response, client_side: hyper::upgrade::OnUpgrade) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = answer.status();
    *response.headers_mut() = answer.headers().clone();
    tokio::spawn(async move {
        let (Ok(client_side), Ok(mut elected_side)) = (client_side.await, answer.upgrade().await) else {
            return;
        };
        // How it ends is the two ends' business.
        let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(client_side), &mut elected_side).await;
    });
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_ends_with_the_lease_and_begins_anew() {
        let shutdown = CancellationToken::new();
        let lead = Lead::new(true, None, &shutdown);
        assert!(!lead.is_here() && lead.term().is_cancelled());
        assert!(lead.hold(Some(Instant::now() + Duration::from_secs(60)), &shutdown));
        let term = lead.term();
        assert!(lead.is_here() && !term.is_cancelled());
        assert!(
            !lead.hold(Some(Instant::now()), &shutdown),
            "it was renewed, no new term begins"
        );
        assert!(!lead.is_here(), "a lease that ran out counts no more");
        assert!(!lead.hold(Some(Instant::now() + Duration::from_secs(60)), &shutdown));
        assert!(lead.is_here() && !term.is_cancelled());
        lead.lose(Some("http://other".to_owned()));
        assert!(term.is_cancelled());
        assert!(matches!(lead.standing(), Standing::There(address) if address == "http://other"));
        assert!(lead.hold(None, &shutdown));
        let again = lead.term();
        shutdown.cancel();
        assert!(again.is_cancelled());
    }

    #[test]
    fn where_there_is_no_other_it_is_elected_from_the_start() {
        let shutdown = CancellationToken::new();
        let lead = Lead::new(false, None, &shutdown);
        assert!(lead.is_here() && !lead.hold(None, &shutdown));
    }
}
