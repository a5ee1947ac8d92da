//! The attempts of one request.
//!
//! A request is sent again only where that can't do harm: nothing of it was sent, or it has no body, may be repeated
//! and a connection that had been idle ended before a response began. Never twice to the same instance, and never
//! beyond the budget of retries.

use super::body::Ending;
use super::refusal::{Cause, Refusal};
use super::request_body::{Progress, RequestBody};
use super::target::Target;
use super::upstream::{Connection, SendError};
use super::{headers, served};
use crate::choice::{Nobody, Wish};
use crate::endpoint::{Endpoint, InFlight};
use crate::metrics::count;
use crate::table::Route;
use crate::worker::Worker;
use api::edge::Protocol;
use http::{Request, Response, header};
use hyper::body::Incoming;
use model::id::WorkId;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A response with what brought it.
pub struct Sent {
    /// Its head, and its body to come.
    pub response: Response<Incoming>,
    /// What it comes by.
    pub connection: Connection,
    /// Its place on the endpoint.
    pub in_flight: InFlight,
}

/// The attempts of one request.
pub struct Sending<'a> {
    worker: &'a Worker,
    route: Arc<Route>,
    progress: Option<Arc<Progress>>,
    upgrade: bool,
    target: Option<Target>,
    session: Option<WorkId>,
    hash: Option<u64>,
    patience: Duration,
    tried: Vec<WorkId>,
}

impl<'a> Sending<'a> {
    /// Of a request for a route; `upgrade` says whether it asks for another protocol.
    pub fn new(worker: &'a Worker, route: Arc<Route>, progress: Option<Arc<Progress>>, upgrade: bool) -> Self {
        Self {
            worker,
            route,
            progress,
            upgrade,
            target: None,
            session: None,
            hash: None,
            patience: worker.limits.response_head,
            tried: Vec::new(),
        }
    }

    /// The instance that it names, the one that its session is with, and the hash that it is chosen by.
    pub fn with(mut self, target: Option<Target>, session: Option<WorkId>, hash: Option<u64>) -> Self {
        (self.target, self.session, self.hash) = (target, session, hash);
        self
    }

    /// How long each instance may take to begin a response.
    pub fn patient(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Sends the request until an instance answers or none may be asked any more.
    ///
    /// # Errors
    /// What to answer in the app's place.
    pub async fn send(mut self, mut request: Request<RequestBody>, ending: &mut Ending) -> Result<Sent, Refusal> {
        let began = Instant::now();
        let base_ms = u64::try_from(self.worker.limits.failed_for.as_millis()).unwrap_or(u64::MAX);
        let mut last = None;
        while self.tried.len() < self.worker.limits.attempts {
            let in_flight = match self.choose() {
                Ok(in_flight) => in_flight,
                Err(refusal) => return Err(last.unwrap_or(refusal)),
            };
            if last.is_some() {
                if !self.worker.budget.spend(self.worker.now_ms()) {
                    return Err(Refusal::EndpointFailure(Cause::Budget));
                }
                count(&self.worker.metrics.retries);
            }
            let endpoint = Arc::clone(in_flight.endpoint());
            ending.record().served_by = Some(served(&endpoint));
            headers::name_instance(request.headers_mut(), &endpoint);
            let cause = match self.send_to(in_flight, request, ending).await {
                Ok(sent) => {
                    endpoint.succeed();
                    return Ok(sent);
                }
                Err(Failed::Again(unsent, cause)) => {
                    request = *unsent;
                    cause
                }
                Err(Failed::ForGood(refusal)) => {
                    if refusal == Refusal::EndpointFailure(Cause::BrokeOff) {
                        endpoint.broke_off(self.worker.now_ms(), base_ms);
                    }
                    return Err(refusal);
                }
            };
            endpoint.fail(self.worker.now_ms(), base_ms);
            self.tried.push(endpoint.work);
            ending.record().failed_attempts += 1;
            ending.record().failed_time = began.elapsed();
            last = Some(Refusal::EndpointFailure(cause));
        }
        Err(last.unwrap_or(Refusal::NoEndpoints))
    }

    /// An endpoint that has counted the request in.
    fn choose(&self) -> Result<InFlight, Refusal> {
        loop {
            let now = self.route.now();
            let wish = Wish {
                policy: now.options.policy.or(self.worker.policy),
                hash: self.hash,
                balance: now.options.balance,
                tried: &self.tried,
                zone: self.worker.zone.as_deref(),
                most: self.worker.limits.max_per_instance,
                now_ms: self.worker.now_ms(),
                random: self.worker.random(),
            };
            let sticks = |endpoint: &Endpoint| Some(endpoint.work) == self.session && !endpoint.is_failed(wish.now_ms);
            let chosen = match (self.target, self.session) {
                (Some(target), _) => now.members.choose_of(&wish, |endpoint| target.fits(endpoint)),
                (None, Some(_)) => now
                    .members
                    .choose_of(&wish, sticks)
                    .or_else(|_| now.members.choose(&wish)),
                (None, None) => now.members.choose(&wish),
            };
            let endpoint = chosen.map_err(|nobody| match nobody {
                Nobody::Free => Refusal::Full,
                Nobody::Left if self.target.is_some() && self.tried.is_empty() => Refusal::UnknownInstance,
                Nobody::Left => Refusal::NoEndpoints,
            })?;
            // One that left the table since the list was read: the list that is there now does not have it.
            if let Some(in_flight) = endpoint.enter() {
                return Ok(in_flight);
            }
        }
    }

    /// Tries one endpoint: idle connections first, at last a new one.
    async fn send_to(
        &self,
        in_flight: InFlight,
        mut request: Request<RequestBody>,
        ending: &mut Ending,
    ) -> Result<Sent, Failed> {
        // Another protocol is asked for by HTTP/1.1 only.
        let http2 = in_flight.endpoint().protocol == Protocol::Http2 && !self.upgrade;
        loop {
            let endpoint = in_flight.endpoint();
            let reused = Connection::reuse(endpoint, self.worker.index, http2, &self.worker.limits);
            let mut connection = match reused {
                Some(connection) => connection,
                None => match self.open(endpoint, http2, ending).await {
                    Ok(connection) => connection,
                    Err(cause) => return Err(Failed::Again(Box::new(request), cause)),
                },
            };
            let copy = (connection.reused && is_repeatable(&request)).then(|| repeat(&request));
            hold_body(&mut request);
            ending.sent(Instant::now());
            match connection.send(request, self.patience).await {
                Ok(response) => {
                    return Ok(Sent {
                        response,
                        connection,
                        in_flight,
                    });
                }
                Err(SendError::Unsent(unsent)) if connection.reused => request = *unsent,
                Err(SendError::Unsent(unsent)) => return Err(Failed::Again(unsent, Cause::BrokeOff)),
                Err(SendError::Sent(cause)) => {
                    let fault = self.progress.as_ref().and_then(|progress| progress.fault());
                    match (fault, copy) {
                        (Some(fault), _) => return Err(Failed::ForGood(fault)),
                        (None, Some(copy)) if cause == Cause::BrokeOff => request = copy,
                        (None, _) => {
                            tracing::debug!(work = %endpoint.work, ?cause, "instance failed before it answered");
                            return Err(Failed::ForGood(Refusal::EndpointFailure(cause)));
                        }
                    }
                }
            }
        }
    }

    async fn open(&self, endpoint: &Endpoint, http2: bool, ending: &mut Ending) -> Result<Connection, Cause> {
        let began = Instant::now();
        count(&self.worker.metrics.dialed);
        let opened = Connection::open(endpoint, self.worker.index, http2, &self.worker.limits).await;
        ending.record().dial = Some(began.elapsed());
        if let Err(cause) = &opened {
            count(&self.worker.metrics.dials_failed);
            tracing::debug!(work = %endpoint.work, address = %endpoint.address, ?cause, "failed to connect");
        }
        opened
    }
}

/// A try that brought no response.
enum Failed {
    /// The request is whole: another endpoint may have it.
    Again(Box<Request<RequestBody>>, Cause),
    /// It may have been worked on.
    ForGood(Refusal),
}

fn is_repeatable(request: &Request<RequestBody>) -> bool {
    matches!(request.body(), RequestBody::Empty) && headers::is_idempotent(request.method(), request.headers())
}

fn repeat(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut copy = Request::new(RequestBody::Empty);
    copy.method_mut().clone_from(request.method());
    copy.uri_mut().clone_from(request.uri());
    copy.headers_mut().clone_from(request.headers());
    copy
}

/// Keeps a body back until the instance says that it wants it, where the client waits for that too.
fn hold_body(request: &mut Request<RequestBody>) {
    if request.headers().contains_key(header::EXPECT)
        && let Some(gate) = request.body_mut().hold()
    {
        hyper::ext::on_informational(request, move |response| {
            if response.status() == http::StatusCode::CONTINUE {
                gate.open();
            }
        });
    }
}
