//! Requests for another protocol on the same connection, WebSocket mostly: by `Upgrade` of HTTP/1.1, or by extended
//! CONNECT of HTTP/2 (RFC 8441), which becomes an upgrade towards the instance. Bytes are carried only after the
//! instance has agreed.

use super::body::{Ending, ResponseBody};
use super::headers;
use crate::endpoint::InFlight;
use crate::worker::Worker;
use base64::Engine as _;
use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::sync::Arc;

/// The client's side of a switch.
pub struct Switch {
    client: OnUpgrade,
    /// Whether it was asked for by extended CONNECT.
    connect: bool,
}

impl Switch {
    /// What the request asks for; an extended CONNECT is turned into the upgrade that it stands for.
    pub fn wanted(parts: &mut Parts) -> Option<Self> {
        let protocol = parts.extensions.remove::<hyper::ext::Protocol>();
        if parts.method == Method::CONNECT {
            let protocol = HeaderValue::from_str(protocol?.as_str()).ok()?;
            parts.method = Method::GET;
            let key = base64::engine::general_purpose::STANDARD.encode(uuid::Uuid::new_v4().as_bytes());
            parts.headers.insert(header::UPGRADE, protocol);
            if let Ok(key) = HeaderValue::from_str(&key) {
                parts.headers.insert(header::SEC_WEBSOCKET_KEY, key);
            }
        } else if !headers::wants_upgrade(parts) {
            return None;
        }
        let connect = parts.version == http::Version::HTTP_2;
        let client = parts.extensions.remove::<OnUpgrade>()?;
        Some(Self { client, connect })
    }

    /// Whether it was asked for by extended CONNECT.
    pub fn is_by_connect(&self) -> bool {
        self.connect
    }

    /// Answers the client that the instance has agreed, and carries bytes from then on.
    pub fn carry_out(
        self,
        worker: &Arc<Worker>,
        mut response: Response<Incoming>,
        in_flight: InFlight,
        mut ending: Box<Ending>,
    ) -> Response<ResponseBody> {
        let instance = hyper::upgrade::on(&mut response);
        let (mut parts, _) = response.into_parts();
        if self.connect {
            parts.status = StatusCode::OK;
            parts.headers.remove(header::SEC_WEBSOCKET_ACCEPT);
            headers::strip_hop_by_hop(&mut parts.headers, false);
        }
        ending.record().status = parts.status.as_u16();
        worker.tasks.spawn(tunnel(self.client, instance, in_flight, ending));
        Response::from_parts(parts, ResponseBody::full(""))
    }
}

/// Carries bytes both ways until one side closes; the request is in flight as long.
async fn tunnel(client: OnUpgrade, instance: OnUpgrade, in_flight: InFlight, mut ending: Box<Ending>) {
    if let (Ok(client), Ok(instance)) = (client.await, instance.await) {
        let (mut client, mut instance) = (TokioIo::new(client), TokioIo::new(instance));
        if let Ok((_, sent)) = tokio::io::copy_bidirectional(&mut client, &mut instance).await {
            ending.record().sent_bytes = sent;
        }
    }
    drop((in_flight, ending));
}
