//! Looks at what a push needs, one thing after the other, and says what to do about what is wrong.

use super::Cx;
use crate::client::Client;
use crate::client::wire::Platform;
use crate::config::Config;
use crate::errors::Error;
use serde::Serialize;
use std::time::Instant;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    pub name: &'static str,
    pub result: Verdict,
    pub detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// How it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Ok,
    Warning,
    Failed,
}

impl Check {
    fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self {
            name,
            result: Verdict::Ok,
            detail: detail.into(),
            hint: None,
        }
    }

    fn failed(name: &'static str, error: &Error) -> Self {
        let report = error.report();
        let detail = report.cause.map_or_else(
            || report.message.clone(),
            |cause| format!("{}: {cause}", report.message),
        );
        Self {
            name,
            result: Verdict::Failed,
            detail,
            hint: report.hint,
        }
    }

    fn warning(name: &'static str, detail: impl Into<String>, hint: &str) -> Self {
        Self {
            name,
            result: Verdict::Warning,
            detail: detail.into(),
            hint: Some(hint.to_owned()),
        }
    }
}

/// Looks at everything; what depends on something that failed is left out.
pub async fn run(cx: &Cx) -> Vec<Check> {
    let mut checks = Vec::new();
    let config = match cx.config() {
        Ok(config) => config,
        Err(error) => return vec![Check::failed("configuration", &error)],
    };
    checks.push(configuration(&config));
    let client = match Client::new(&config, cx.ui.clone()) {
        Ok(client) => client,
        Err(error) => {
            checks.push(Check::failed("context", &error));
            return checks;
        }
    };
    let started = Instant::now();
    if let Err(error) = client.links().await {
        checks.push(Check::failed("server", &error));
        return checks;
    }
    let took = started.elapsed().as_millis();
    checks.push(Check::ok("server", format!("{} answers in {took} ms", client.api())));
    let platform = client.platform().await.cloned().unwrap_or_default();
    checks.push(version(&platform));
    checks.push(match client.orgs().await {
        Ok(_) => Check::ok(
            "login",
            format!(
                "as {}",
                client.user_name().await.unwrap_or_else(|| "the token's user".into())
            ),
        ),
        Err(error) => Check::failed("login", &error),
    });
    checks.push(match cx.target().await {
        Ok(target) => Check::ok("target", target.place()),
        Err(error) => Check::failed("target", &error),
    });
    if let Ok(cells) = client.cells().await {
        let ready = cells
            .iter()
            .filter(|cell| !cell.cordoned && cell.alive != Some(false))
            .count();
        checks.push(if ready == 0 {
            Check::warning(
                "cells",
                format!("none of {} cells takes new work", cells.len()),
                "start one, or `paas admin cells uncordon CELL`",
            )
        } else {
            Check::ok("cells", format!("{ready} of {} take new work", cells.len()))
        });
    }
    checks
}

fn configuration(config: &Config) -> Check {
    let path = config.user_path.display();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        if let Ok(meta) = std::fs::metadata(&config.user_path)
            && meta.permissions().mode() & 0o077 != 0
        {
            return Check::warning(
                "configuration",
                format!("{path} can be read by others"),
                "chmod 600 it: it holds tokens",
            );
        }
    }
    if config.user_path.exists() {
        Check::ok("configuration", path.to_string())
    } else {
        Check::ok("configuration", format!("{path} is not there yet"))
    }
}

fn version(platform: &Platform) -> Check {
    let own = env!("CARGO_PKG_VERSION");
    match platform.version() {
        None => Check::warning(
            "version",
            format!("client {own}, server unknown"),
            "the server does not say its version",
        ),
        Some(server) if skewed(own, server) => Check::warning(
            "version",
            format!("client {own}, server {server}"),
            "use a client of the server's version",
        ),
        Some(server) => Check::ok("version", format!("client {own}, server {server}")),
    }
}

/// Whether two versions differ in more than the last number.
pub fn skewed(client: &str, server: &str) -> bool {
    let head = |version: &str| version.split('.').take(2).map(str::to_owned).collect::<Vec<_>>();
    head(client) != head(server)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_number_makes_no_skew() {
        assert!(!skewed("1.2.3", "1.2.9"));
        assert!(skewed("1.2.3", "1.3.3"));
    }
}
