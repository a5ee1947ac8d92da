//! The server: HTTP/1.1 behind the platform's router, one thread, files read beside it. It ends gracefully on SIGTERM.

mod listing;
mod path;
mod range;
mod respond;
mod tags;
pub mod types;

use crate::settings::Settings;
use buildpack_kit::{Variables, output};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use respond::Site;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// How long the head of a request may take.
const HEAD: Duration = Duration::from_secs(30);
/// How long requests in flight may take after SIGTERM; the platform's own grace is ten seconds.
const DRAIN: Duration = Duration::from_secs(9);
/// Pause after an accept that failed for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
/// Port where the platform names none.
const PORT: u16 = 8080;

/// Serves by the settings in `file` until SIGTERM.
pub fn main(file: Option<PathBuf>, variables: &Variables) -> ExitCode {
    let port = variables.get("PORT").map_or(Ok(PORT), str::parse);
    let outcome = match (file, port) {
        (None, _) => Err("the file with the settings is not given".to_owned()),
        (_, Err(_)) => Err("PORT is no port".to_owned()),
        (Some(file), Ok(port)) => read(&file).and_then(|settings| serve(settings, port)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            output::alert(&reason);
            ExitCode::FAILURE
        }
    }
}

fn read(file: &std::path::Path) -> Result<Settings, String> {
    let text = std::fs::read(file).map_err(|error| format!("{} cannot be read: {error}", file.display()))?;
    serde_json::from_slice(&text).map_err(|error| format!("{} cannot be read: {error}", file.display()))
}

fn serve(settings: Settings, port: u16) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("the server cannot start: {error}"))?;
    runtime.block_on(async {
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|error| format!("cannot listen on {address}: {error}"))?;
        let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
        output::plain(&format!("serving {} on port {port}", settings.root.display()));
        let stop = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        accept(Arc::new(Site::new(settings)), listener, stop).await;
        Ok(())
    })
}

/// Serves connections of `listener` until `stop`, then those in flight for a while.
async fn accept(site: Arc<Site>, listener: TcpListener, stop: impl Future<Output = ()>) {
    let graceful = GracefulShutdown::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let stream = tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(_) => {
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let _ = stream.set_nodelay(true);
        let site = Arc::clone(&site);
        let service = service_fn(move |request| {
            let site = Arc::clone(&site);
            async move { Ok::<_, Infallible>(site.answer(request).await) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            // A client that goes away or talks nonsense is no event of the site.
            let _ = connection.await;
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(DRAIN, graceful.shutdown()).await;
}

#[cfg(test)]
mod tests;
