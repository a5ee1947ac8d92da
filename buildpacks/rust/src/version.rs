//! Which toolchain the app wants, and said by whom.

use buildpack_kit::app::{first_line, read_text, tool_version};
use buildpack_kit::{Failure, Result, Variables, Version};
use std::path::Path;

/// What the app wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// `stable`, `beta`, `nightly`, `nightly-2026-01-31`, `1.85`, `1.85.1`.
    pub channel: String,
    /// Where it is written.
    pub said_by: &'static str,
}

/// `BP_RUST_VERSION`, `rust-toolchain.toml`, `rust-toolchain`, `.tool-versions`; else stable.
///
/// # Errors
/// Where what is written names no toolchain that is published.
pub fn wanted(app: &Path, variables: &Variables) -> Result<Wanted> {
    if let Some(text) = variables.get("BP_RUST_VERSION") {
        return parse(text, "BP_RUST_VERSION");
    }
    // An older file of the same name holds either the same or only the channel.
    for said_by in ["rust-toolchain.toml", "rust-toolchain"] {
        let Some(text) = read_text(app, said_by)? else { continue };
        if !text.contains('[') {
            return match first_line(app, said_by)? {
                Some(line) => parse(&line, said_by),
                None => Err(odd("", said_by)),
            };
        }
        if let Some(channel) = channel(&text, said_by)? {
            return parse(&channel, said_by);
        }
    }
    match tool_version(app, &["rust"])? {
        Some(text) => parse(&text, ".tool-versions"),
        None => parse("stable", "default"),
    }
}

fn channel(text: &str, said_by: &'static str) -> Result<Option<String>> {
    let table: toml::Table = toml::from_str(text).map_err(|error| {
        Failure::new(
            format!("{said_by} cannot be read: {}", error.message()),
            "Repair it: [toolchain] and channel = \"1.85\" is enough.",
        )
    })?;
    let toolchain = table.get("toolchain").and_then(toml::Value::as_table);
    let text = |name: &str| Some(toolchain?.get(name)?.as_str()?.to_owned());
    if text("path").is_some() {
        return Err(Failure::new(
            format!("{said_by} names a toolchain by its path, which builds do not have"),
            "Name a channel instead, for example channel = \"stable\".",
        ));
    }
    Ok(text("channel"))
}

fn parse(text: &str, said_by: &'static str) -> Result<Wanted> {
    // With the machine behind it, as rustup writes it out.
    let text = text.trim();
    let machine = text.find(&format!("-{}-", std::env::consts::ARCH));
    let channel = machine.map_or(text, |at| &text[..at]);
    let dated = |prefix: &str| channel.strip_prefix(prefix).is_some_and(is_date);
    let is_release = || Version::parse(channel).is_some_and(|version| (2..=3).contains(&version.parts()));
    let is_known = matches!(channel, "stable" | "beta" | "nightly")
        || dated("nightly-")
        || dated("beta-")
        || (is_release() && !channel.starts_with('v'));
    match is_known {
        true => Ok(Wanted {
            channel: channel.to_owned(),
            said_by,
        }),
        false => Err(odd(channel, said_by)),
    }
}

fn odd(text: &str, said_by: &str) -> Failure {
    Failure::new(
        format!("{said_by} asks for Rust {text:?}, which is no toolchain that is published"),
        "Write stable, beta, nightly, a dated nightly such as nightly-2026-01-31, or a release such as 1.85 or 1.85.1.",
    )
}

fn is_date(text: &str) -> bool {
    let form: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    form == "0000-00-00"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_channel() {
        let machine = format!("1.85.1-{}-unknown-linux-gnu", std::env::consts::ARCH);
        for (text, expected) in [
            ("stable", Some("stable")),
            ("nightly-2026-01-31", Some("nightly-2026-01-31")),
            ("1.85", Some("1.85")),
            (machine.as_str(), Some("1.85.1")),
            ("1", None),
            ("v1.85", None),
            ("nightly-26-1-1", None),
            ("../1.85", None),
            ("my-own", None),
            ("", None),
        ] {
            let found = parse(text, "x").ok().map(|wanted| wanted.channel);
            assert_eq!(found.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn the_first_that_says_something_wins() {
        let folder = tempfile::tempdir().unwrap();
        let app = folder.path();
        let said = |variables: &Variables| {
            let wanted = wanted(app, variables)?;
            Ok::<_, Failure>(format!("{} {}", wanted.channel, wanted.said_by))
        };
        let none = Variables::default();
        assert_eq!(said(&none).unwrap(), "stable default");
        std::fs::write(app.join(".tool-versions"), "rust 1.80.0\n").unwrap();
        assert_eq!(said(&none).unwrap(), "1.80.0 .tool-versions");
        std::fs::write(app.join("rust-toolchain"), "beta\n").unwrap();
        assert_eq!(said(&none).unwrap(), "beta rust-toolchain");
        std::fs::write(app.join("rust-toolchain.toml"), "[toolchain]\nchannel = '1.85'\n").unwrap();
        assert_eq!(said(&none).unwrap(), "1.85 rust-toolchain.toml");
        let variables = Variables([("BP_RUST_VERSION".into(), "nightly".into())].into());
        assert_eq!(said(&variables).unwrap(), "nightly BP_RUST_VERSION");
        std::fs::write(app.join("rust-toolchain.toml"), "[toolchain]\npath = '/x'\n").unwrap();
        assert!(said(&none).unwrap_err().cause.contains("by its path"));
        std::fs::write(app.join("rust-toolchain.toml"), "[toolchain\n").unwrap();
        assert!(said(&none).unwrap_err().cause.contains("cannot be read"));
    }
}
