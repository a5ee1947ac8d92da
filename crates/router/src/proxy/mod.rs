//! One request: checked, routed, sent to an instance, answered.
//!
//! A request is sent again only where that can't do harm: nothing of it was sent, or it has no body, its method is
//! idempotent and a connection that had been idle ended before a response began.

pub mod body;
mod headers;
mod refusal;
pub mod upstream;

use crate::access::Record;
use crate::choice::choose;
use crate::endpoint::InFlight;
use crate::table::Route;
use crate::worker::Worker;
use body::{Ending, ResponseBody};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use model::id::WorkId;
use refusal::Refusal;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use time::OffsetDateTime;
use upstream::{Connection, RequestBody, SendError};
use uuid::Uuid;

/// Answers a request.
pub async fn handle(worker: Arc<Worker>, peer: SocketAddr, request: Request<Incoming>) -> Response<ResponseBody> {
    let started = Instant::now();
    let (parts, body) = request.into_parts();
    let record = Record {
        at: OffsetDateTime::now_utc(),
        host: String::new(),
        method: parts.method.clone(),
        path: parts
            .uri
            .path_and_query()
            .map_or("/", |target| target.as_str())
            .to_owned(),
        client: peer.ip(),
        request_id: Uuid::new_v4(),
        status: 0,
        sent_bytes: 0,
        duration: Duration::ZERO,
        attempts: 0,
        refusal: None,
        served_by: None,
    };
    let mut ending = Box::new(Ending::new(Arc::clone(&worker), record, started));
    let request_id = ending.record().request_id;
    let mut response = match forward(&worker, parts, body, &mut ending).await {
        Ok(answer) => answer.into_response(ending),
        Err(refusal) => {
            let mut response = refusal.response(&ending.record().host);
            ending.record().refusal = Some(refusal.name());
            ending.record().status = response.status().as_u16();
            if let ResponseBody::Full(_, held) = response.body_mut() {
                *held = Some(ending);
            }
            response
        }
    };
    if let Ok(value) = request_id.to_string().parse() {
        response.headers_mut().insert(headers::X_VCAP_REQUEST_ID, value);
    }
    response
}

/// An instance's answer with what brought it.
struct Answer {
    response: Response<Incoming>,
    connection: Connection,
    in_flight: InFlight,
    client: Option<hyper::upgrade::OnUpgrade>,
}

impl Answer {
    fn into_response(self, mut ending: Box<Ending>) -> Response<ResponseBody> {
        let Self {
            mut response,
            connection,
            in_flight,
            client,
        } = self;
        let endpoint = in_flight.endpoint();
        ending.record().status = response.status().as_u16();
        ending.record().served_by = Some((endpoint.app, endpoint.work, endpoint.index, endpoint.address));
        let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if let (true, Some(client)) = (switched, client) {
            let instance = hyper::upgrade::on(&mut response);
            let (parts, _) = response.into_parts();
            tokio::spawn(tunnel(client, instance, in_flight, ending));
            return Response::from_parts(parts, ResponseBody::full(""));
        }
        headers::strip_hop_by_hop(response.headers_mut(), false);
        ending.hold(connection, in_flight);
        response.map(|body| ResponseBody::streamed(body, ending))
    }
}

/// Carries bytes both ways until one side closes; the request is in flight as long.
async fn tunnel(
    client: hyper::upgrade::OnUpgrade,
    instance: hyper::upgrade::OnUpgrade,
    in_flight: InFlight,
    mut ending: Box<Ending>,
) {
    if let (Ok(client), Ok(instance)) = (client.await, instance.await) {
        let (mut client, mut instance) = (TokioIo::new(client), TokioIo::new(instance));
        if let Ok((_, sent)) = tokio::io::copy_bidirectional(&mut client, &mut instance).await {
            ending.record().sent_bytes = sent;
        }
    }
    drop((in_flight, ending));
}

async fn forward(worker: &Worker, mut parts: Parts, body: Incoming, ending: &mut Ending) -> Result<Answer, Refusal> {
    let host = headers::check(&parts)?;
    let record = ending.record();
    record.host.clone_from(&host);
    let route = worker
        .table
        .lookup(&host, parts.uri.path())
        .ok_or(Refusal::UnknownRoute)?;
    let upgrade = headers::wants_upgrade(&parts);
    let client = upgrade
        .then(|| parts.extensions.remove::<hyper::upgrade::OnUpgrade>())
        .flatten();
    let now_ms = record.at.unix_timestamp_nanos() / 1_000_000;
    headers::forward(&mut parts, &host, record.client, record.request_id, now_ms, upgrade);
    let body = if body.is_end_stream() {
        RequestBody::Empty
    } else {
        RequestBody::Streamed(body)
    };
    let mut sending = Sending {
        worker,
        route,
        tried: Vec::new(),
        attempts: 0,
    };
    let sent = sending.send(Request::from_parts(parts, body)).await;
    ending.record().attempts = sending.attempts;
    sent.map(|(response, connection, in_flight)| Answer {
        response,
        connection,
        in_flight,
        client,
    })
}

type Sent = (Response<Incoming>, Connection, InFlight);

/// The tries of one request.
struct Sending<'a> {
    worker: &'a Worker,
    route: Arc<Route>,
    tried: Vec<WorkId>,
    attempts: u32,
}

impl Sending<'_> {
    async fn send(&mut self, mut request: Request<RequestBody>) -> Result<Sent, Refusal> {
        let limits = &self.worker.limits;
        let mut last = Refusal::NoEndpoints;
        while self.tried.len() < limits.attempts {
            let Some(in_flight) = self.choose() else {
                return Err(last);
            };
            let endpoint = Arc::clone(in_flight.endpoint());
            headers::name_instance(request.headers_mut(), &endpoint);
            self.attempts += 1;
            request = match self.send_to(in_flight, request).await {
                Ok(sent) => {
                    endpoint.succeed();
                    return Ok(sent);
                }
                Err(Failed::Again(request)) => *request,
                Err(Failed::ForGood(refusal)) => return Err(refusal),
            };
            endpoint.fail(self.worker.now_ms() + u64::try_from(limits.failed_for.as_millis()).unwrap_or(u64::MAX));
            self.tried.push(endpoint.work);
            last = Refusal::EndpointFailure;
        }
        Err(last)
    }

    /// An endpoint that has counted the request in.
    fn choose(&self) -> Option<InFlight> {
        loop {
            let endpoints = self.route.endpoints();
            let endpoint = choose(&endpoints, &self.tried, self.worker.now_ms(), self.worker.random())?;
            // One that left the table since the list was read: the list that is there now does not have it.
            if let Some(in_flight) = endpoint.enter() {
                return Some(in_flight);
            }
        }
    }

    /// Tries one endpoint: idle connections first, at last a new one.
    async fn send_to(&self, in_flight: InFlight, mut request: Request<RequestBody>) -> Result<Sent, Failed> {
        let (worker, limits) = (self.worker.index, &self.worker.limits);
        loop {
            let endpoint = in_flight.endpoint();
            let mut connection = match Connection::reuse(endpoint, worker, limits) {
                Some(connection) => connection,
                None => match Connection::open(endpoint, limits).await {
                    Ok(connection) => connection,
                    Err(error) => {
                        tracing::debug!(work = %endpoint.work, address = %endpoint.address, %error, "failed to connect");
                        return Err(Failed::Again(Box::new(request)));
                    }
                },
            };
            let copy = (connection.reused && is_repeatable(&request)).then(|| repeat(&request));
            match connection.send(request, limits).await {
                Ok(response) => return Ok((response, connection, in_flight)),
                Err(SendError::TimedOut) => return Err(Failed::ForGood(Refusal::EndpointTimeout)),
                Err(SendError::Unsent(unsent)) if connection.reused => request = *unsent,
                Err(SendError::Unsent(unsent)) => return Err(Failed::Again(unsent)),
                Err(SendError::Sent(error)) => match copy {
                    Some(copy) => request = copy,
                    None => {
                        tracing::debug!(work = %endpoint.work, %error, "instance broke off before it answered");
                        return Err(Failed::ForGood(Refusal::EndpointFailure));
                    }
                },
            }
        }
    }
}

/// A try that brought no response.
enum Failed {
    /// The request is whole: another endpoint may have it.
    Again(Box<Request<RequestBody>>),
    /// It may have been worked on.
    ForGood(Refusal),
}

fn is_repeatable(request: &Request<RequestBody>) -> bool {
    matches!(request.body(), RequestBody::Empty) && headers::is_idempotent(request.method())
}

fn repeat(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut copy = Request::new(RequestBody::Empty);
    copy.method_mut().clone_from(request.method());
    copy.uri_mut().clone_from(request.uri());
    copy.headers_mut().clone_from(request.headers());
    copy
}
