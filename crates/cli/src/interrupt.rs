//! Ctrl-C: the first detaches from what goes on at the server, the second offers to cancel it.

use crate::actor::Cx;
use crate::errors::Error;
use std::time::Duration;

/// Time for a second Ctrl-C.
const SECOND: Duration = Duration::from_secs(2);

/// Returns at the first Ctrl-C, or request to end.
pub async fn first() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Says what goes on and how to watch it again; on a terminal a second Ctrl-C offers to cancel it.
pub async fn handle(cx: &Cx) -> Error {
    let Some(in_flight) = cx.in_flight() else {
        return Error::Interrupted { resume: None };
    };
    let interrupted = Error::Interrupted {
        resume: Some(in_flight.resume.clone()),
    };
    cx.ui.clear();
    cx.ui.say(&format!(
        "{} goes on; `{}` watches it again",
        in_flight.what, in_flight.resume
    ));
    let Some(deployment) = in_flight.deployment.filter(|_| cx.env.stdin_tty) else {
        return interrupted;
    };
    cx.ui.tip("Ctrl-C again to cancel it");
    if tokio::time::timeout(SECOND, first()).await.is_err() || !cx.ui.agrees("Cancel it").await {
        return interrupted;
    }
    match in_flight.client.cancel_deployment(&deployment).await {
        Ok(()) => {
            cx.ui.say("cancelled: the version before goes on");
            Error::Interrupted { resume: None }
        }
        Err(error) => error,
    }
}
