//! `paas version`.

use crate::actor::Cx;
use crate::actor::doctor::skewed;
use crate::errors::Error;
use serde_json::json;

/// Shows both versions; a server that can't be reached is said and no failure.
pub async fn run(cx: &Cx) -> Result<(), Error> {
    let own = env!("CARGO_PKG_VERSION");
    let (mut server, mut api) = (None, None);
    if let Ok(client) = cx.client() {
        match client.links().await {
            Ok(links) => {
                let v3 = links
                    .cloud_controller_v3
                    .as_ref()
                    .and_then(|link| link.meta.get("version"));
                api = v3.and_then(|version| version.as_str()).map(str::to_owned);
                let platform = client.platform().await.ok();
                server = platform.and_then(|platform| platform.version()).map(str::to_owned);
            }
            Err(error) => cx.ui.warn(&error.report().message),
        }
    }
    if let Some(server) = server.as_deref().filter(|server| skewed(own, server)) {
        cx.ui.warn(&format!(
            "this program is {own}, the server {server}: use a client of the server's version"
        ));
    }
    if cx.ui.json() {
        cx.ui.document(&json!({"client": own, "server": server, "api": api}));
    } else {
        let unknown = || "unknown".to_owned();
        cx.ui.out_line(&format!(
            "client {own}\nserver {}\napi    {}",
            server.unwrap_or_else(unknown),
            api.unwrap_or_else(unknown)
        ));
    }
    Ok(())
}
