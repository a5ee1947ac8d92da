//! Connections by SSH that reach a controller which is not elected: carried on, whole, to the one that is, which alone
//! hears cells. All controllers have one key, so clients notice nothing.

use super::proxy::Proxy;
use crate::Control;
use crate::error::Failure;
use crate::lead::Standing;
use api::error::Code;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use std::time::Duration;

/// Where the elected controller takes them; for controllers alone.
pub(crate) const PATH: &str = "/controller/v1/ssh";
const PROTOCOL: &str = "paas-ssh";
/// Longest wait for the elected controller to take one.
const TAKE: Duration = Duration::from_secs(10);

/// A way to the elected controller; `None` where that is this one.
pub(super) async fn elsewhere(control: &Control) -> Result<Option<Box<dyn ssh::Stream>>, String> {
    let address = match control.lead.known().await {
        Standing::Here { .. } => return Ok(None),
        Standing::There(address) => address,
        Standing::Unknown => return Err("no controller is elected at the moment; try again in some seconds".to_owned()),
    };
    let token = control.context.config.machine_token.as_ref();
    let carried = control.lead.carry(&address, PATH, PROTOCOL, token);
    let failed = |cause: String| {
        tracing::warn!(address, cause, "the elected controller takes no connection by SSH");
        "the controller that is elected does not answer; try again in some seconds".to_owned()
    };
    match tokio::time::timeout(TAKE, carried).await {
        Ok(Ok(stream)) => Ok(Some(Box::new(stream))),
        Ok(Err(error)) => Err(failed(telemetry::chain(&error))),
        Err(_) => Err(failed("it took too long".to_owned())),
    }
}

/// Takes a connection that another controller carries here.
pub(crate) async fn carried(State(control): State<Control>, mut request: Request) -> Result<Response, Failure> {
    let protocol = HeaderValue::from_static(PROTOCOL);
    if request.headers().get(header::UPGRADE) != Some(&protocol) {
        return Err(Failure::new(
            Code::BadRequest,
            "The request is invalid: it upgrades to nothing",
        ));
    }
    let theirs = hyper::upgrade::on(&mut request);
    let key = control.context.host_key.get(&control.context).await?.clone();
    let term = control.lead.term();
    tokio::spawn(async move {
        if let Ok(stream) = theirs.await {
            ssh::attend(TokioIo::new(stream), &key, Arc::new(Proxy { control }), term).await;
        }
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, protocol);
    Ok(response)
}
