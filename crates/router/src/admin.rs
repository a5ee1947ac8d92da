//! For operators and load balancers, on a listener of its own: `/health` says whether requests should come here,
//! `/metrics` what is counted, in the text format of Prometheus.

use crate::metrics::Metrics;
use crate::table::Table;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Connections at once.
const MAX_CONNECTIONS: usize = 64;
/// Longest wait for a request's head.
const HEAD: Duration = Duration::from_secs(10);

/// What operators may see.
pub struct Admin {
    /// Whether the table was taken over and the router is not going away.
    pub healthy: AtomicBool,
    /// Where things are counted.
    pub metrics: Arc<Metrics>,
    /// The table.
    pub table: Arc<Table>,
}

impl Admin {
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let (status, text) = match (request.method(), request.uri().path()) {
            (&Method::GET | &Method::HEAD, "/health") if self.healthy.load(Ordering::Relaxed) => {
                (StatusCode::OK, "ok\n".to_owned())
            }
            (&Method::GET | &Method::HEAD, "/health") => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n".to_owned()),
            (&Method::GET, "/metrics") => (StatusCode::OK, self.metrics.text(&self.table)),
            _ => (StatusCode::NOT_FOUND, "there are /health and /metrics\n".to_owned()),
        };
        let mut response = Response::new(Full::new(Bytes::from(text)));
        *response.status_mut() = status;
        let kind = header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }
}

/// Serves until `shutdown`, which comes after the last request was drained.
pub async fn serve(admin: Arc<Admin>, listener: TcpListener, shutdown: CancellationToken) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else { continue };
        let (admin, shutdown) = (Arc::clone(&admin), shutdown.clone());
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let response = admin.answer(&request);
                async move { Ok::<_, Infallible>(response) }
            });
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEAD);
            tokio::select! {
                _ = http.serve_connection(TokioIo::new(stream), service) => {}
                () = shutdown.cancelled() => {}
            }
            drop(place);
        });
    }
}
