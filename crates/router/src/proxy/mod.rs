//! One request: checked, routed, sent to an instance, answered.

pub mod body;
pub mod budget;
mod headers;
mod peer;
pub mod refusal;
mod request_body;
mod sending;
mod sticky;
mod switch;
mod target;
pub mod trace;
pub mod upstream;

pub use peer::{Peer, Tls};

use crate::access::{Record, Served};
use crate::worker::Worker;
use body::{Ending, ResponseBody};
use headers::Hop;
use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use model::id::WorkId;
use refusal::{Cause, Refusal};
use request_body::RequestBody;
use sending::{Sending, Sent};
use std::sync::Arc;
use std::time::Instant;
use switch::Switch;
use uuid::Uuid;

/// Answers a request.
pub async fn handle(worker: Arc<Worker>, peer: Arc<Peer>, request: Request<Incoming>) -> Response<ResponseBody> {
    let started = Instant::now();
    let (mut parts, body) = request.into_parts();
    let mut record = Record::new(peer.address, Uuid::nil(), &parts);
    record.trace = trace::carry_on(&mut parts.headers, worker.id(), worker.random());
    record.request_id = Uuid::from_u128(record.trace.trace);
    record.sni = peer.tls.as_ref().and_then(|tls| tls.sni.clone());
    let request_id = headers::id(record.request_id);
    let undecided = headers::wants_upgrade(&parts);
    let mut ending = Box::new(Ending::new(Arc::clone(&worker), record, started));
    let mut response = match forward(&worker, &peer, &request_id, parts, body, &mut ending).await {
        Ok(Forwarded::Answer(answer)) => answer.into_response(&worker, &peer, ending),
        Ok(Forwarded::Elsewhere(location)) => elsewhere(location, ending),
        Err(refusal) => refuse(refusal, ending),
    };
    response.headers_mut().insert(headers::X_VCAP_REQUEST_ID, request_id);
    if undecided {
        peer.tunnel
            .answered(response.status() == StatusCode::SWITCHING_PROTOCOLS);
    }
    response
}

/// The router's own answer.
fn refuse(refusal: Refusal, mut ending: Box<Ending>) -> Response<ResponseBody> {
    let mut response = refusal.response(&ending.record().host);
    ending.record().refusal = Some(refusal.name());
    ending.record().status = refusal.status();
    hold(&mut response, ending);
    response
}

/// Sends the client to where it is served by TLS.
fn elsewhere(location: HeaderValue, mut ending: Box<Ending>) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::full(""));
    // The method stays what it is.
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    response.headers_mut().insert(header::LOCATION, location);
    ending.record().status = StatusCode::PERMANENT_REDIRECT.as_u16();
    hold(&mut response, ending);
    response
}

/// The request ends with the response's body.
fn hold(response: &mut Response<ResponseBody>, mut ending: Box<Ending>) {
    if let ResponseBody::Full(body, held) = response.body_mut() {
        ending.record().sent_bytes = body.size_hint().exact().unwrap_or(0);
        *held = Some(ending);
    }
}

/// What became of a request.
enum Forwarded {
    /// An instance answered.
    Answer(Box<Answer>),
    /// The client is to ask there.
    Elsewhere(HeaderValue),
}

/// An instance's answer with what brought it.
struct Answer {
    sent: Sent,
    switch: Option<Switch>,
    /// The instance that the client's session was with.
    session: Option<WorkId>,
    path: String,
}

impl Answer {
    fn into_response(self, worker: &Arc<Worker>, peer: &Peer, mut ending: Box<Ending>) -> Response<ResponseBody> {
        let Sent {
            mut response,
            connection,
            in_flight,
        } = self.sent;
        let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        match (switched, self.switch) {
            (true, Some(switch)) => return switch.carry_out(worker, response, in_flight, ending),
            // Nobody asked for it: what follows would be taken for the next response.
            (true, None) => return refuse(Refusal::EndpointFailure(Cause::Malformed), ending),
            // To a client of HTTP/2 any success says that the other protocol begins.
            (false, Some(switch)) if switch.is_by_connect() && response.status().is_success() => {
                return refuse(Refusal::EndpointFailure(Cause::Malformed), ending);
            }
            (false, _) => {}
        }
        ending.record().status = response.status().as_u16();
        headers::answer(response.headers_mut());
        let served = in_flight.endpoint().work;
        sticky::mark(
            response.headers_mut(),
            &worker.sticky,
            self.session,
            served,
            &self.path,
            peer.tls.is_some(),
        );
        ending.hold(connection, in_flight);
        *response.version_mut() = http::Version::HTTP_11;
        response.map(|body| ResponseBody::streamed(body, ending))
    }
}

async fn forward(
    worker: &Arc<Worker>,
    peer: &Peer,
    request_id: &HeaderValue,
    mut parts: Parts,
    body: Incoming,
    ending: &mut Ending,
) -> Result<Forwarded, Refusal> {
    if let Some(refusal) = peer.refused(&parts.method) {
        return Err(refusal);
    }
    worker.budget.earn();
    let host = headers::check(&parts)?;
    ending.record().host.clone_from(&host);
    if let Some(port) = peer.redirect {
        return Ok(Forwarded::Elsewhere(location(&host, port, &parts)));
    }
    let route = worker
        .table
        .lookup(&host, parts.uri.path())
        .ok_or(Refusal::UnknownRoute)?;
    ending.routed(&route);
    let now = route.now();
    let wanted = target::Target::of(&parts.headers)?;
    let session = sticky::wanted(&parts.headers, &worker.sticky);
    let hash = now
        .options
        .hash_header
        .as_ref()
        .and_then(|name| parts.headers.get(name));
    let hash = hash.map(|value| crate::choice::hash(value.as_bytes()));
    let most = now.options.max_body.unwrap_or(worker.limits.max_body);
    let patience = now.options.timeout.unwrap_or(worker.limits.response_head);
    drop(now);
    if body.size_hint().exact().is_some_and(|size| size > most) {
        return Err(Refusal::BodyTooLarge);
    }
    let switch = Switch::wanted(&mut parts);
    let hop = hop(worker, peer, request_id, ending.record(), switch.is_some());
    headers::forward(&mut parts, &host, &hop);
    let record = ending.record();
    record.forwarded_for = parts.headers.get(headers::X_FORWARDED_FOR).cloned();
    record.forwarded_proto = parts.headers.get(headers::X_FORWARDED_PROTO).cloned();
    let path = route.key.path.clone();
    let (body, progress) = if switch.is_some() {
        // Whatever follows belongs to the other protocol.
        (RequestBody::Empty, None)
    } else {
        RequestBody::new(body, most, worker.limits.body_stall)
    };
    ending.receives(progress.clone());
    let sending = Sending::new(worker, route, progress, switch.is_some())
        .with(wanted, session, hash)
        .patient(patience);
    let sent = sending.send(Request::from_parts(parts, body), ending).await?;
    Ok(Forwarded::Answer(Box::new(Answer {
        sent,
        switch,
        session,
        path,
    })))
}

fn hop<'a>(worker: &Worker, peer: &'a Peer, request_id: &'a HeaderValue, record: &Record, upgrade: bool) -> Hop<'a> {
    Hop {
        client: peer.address.ip(),
        tls: peer.tls.is_some(),
        certificate: peer.tls.as_ref().and_then(|tls| tls.certificate.as_deref()),
        request_id,
        now_ms: i64::try_from(record.at.unix_timestamp_nanos() / 1_000_000).unwrap_or_default(),
        upgrade,
        client_cert: worker.client_cert,
        proto: worker.proto,
    }
}

fn location(host: &str, port: u16, parts: &Parts) -> HeaderValue {
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let port = if port == 443 { String::new() } else { format!(":{port}") };
    HeaderValue::from_str(&format!("https://{host}{port}{target}")).unwrap_or(HeaderValue::from_static("/"))
}

fn served(endpoint: &crate::endpoint::Endpoint) -> Served {
    Served {
        app: endpoint.app,
        work: endpoint.work,
        index: endpoint.index,
        address: endpoint.address,
    }
}
