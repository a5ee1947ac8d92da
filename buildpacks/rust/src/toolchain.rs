//! The layer with the toolchain, which builds see and the app does not.

use crate::dist::{COMPONENTS, Dist};
use crate::version::Wanted;
use buildpack_kit::http::Client;
use buildpack_kit::source::mirror::Mirror;
use buildpack_kit::source::{self, Provided, Recipe, Release, Source};
use buildpack_kit::{BuildContext, Failure, Layer, Result, Types, Version};
use std::cell::RefCell;
use std::path::{Path, PathBuf};

/// Changes whenever the layout of the layer does.
const LAYOUT: &str = "1";
/// For this and later buildpacks; the program that is built needs nothing of it.
const TYPES: Types = Types {
    launch: false,
    build: true,
    cache: true,
};

/// Installs the toolchain, or finds the layer as it should be.
///
/// # Errors
/// Where no release will do, or it cannot be had.
pub fn install(context: &BuildContext, wanted: &Wanted) -> Result<Provided> {
    let variables = &context.variables;
    let wish = source::Wanted {
        layer: "rust",
        title: "Rust",
        text: &wanted.channel,
        said_by: wanted.said_by,
        types: TYPES,
        layout: LAYOUT,
    };
    if let (false, Some(mirror)) = (Dist::is_configured(variables), Mirror::configured(variables, "rustc")) {
        let version = RefCell::new(String::new());
        let recipe = Recipe {
            choose: &|releases| {
                let release = choose(wanted, releases)?;
                version.borrow_mut().clone_from(&release.version);
                Ok(release)
            },
            place: &place,
            finish: &|layer| {
                complete(context, layer, |component, client| {
                    let mirror = Mirror::configured(variables, component);
                    let releases = mirror.map_or(Ok(Vec::new()), |mirror| mirror.releases(client))?;
                    let found = releases
                        .into_iter()
                        .find(|release| release.version == *version.borrow());
                    found.ok_or_else(|| lacking(component, wanted))
                })
            },
        };
        return source::provide(context, &wish, &mirror, &recipe);
    }
    let dist = Dist::new(variables, wanted);
    let recipe = Recipe {
        choose: &|releases| releases.first().cloned().ok_or_else(|| lacking("rustc", wanted)),
        place: &place,
        finish: &|layer| {
            complete(context, layer, |component, _| {
                let part = dist.part(component).cloned();
                part.ok_or_else(|| lacking(component, wanted))
            })
        },
    };
    source::provide(context, &wish, &dist, &recipe)
}

/// The newest of the line; `stable` is the newest of all.
fn choose(wanted: &Wanted, releases: &[Release]) -> Result<Release> {
    let numbered = releases
        .iter()
        .filter_map(|release| Some((Version::parse(&release.version)?, release)));
    let line = Version::parse(&wanted.channel);
    let mut fitting: Vec<(Version, &Release)> = numbered
        .filter(|(version, _)| match &line {
            Some(line) => version.is_of(line),
            None => wanted.channel == "stable",
        })
        .collect();
    fitting.sort_by(|a, b| a.0.cmp(&b.0));
    let named = releases.iter().find(|release| release.version == wanted.channel);
    let found = fitting.last().map(|(_, release)| *release).or(named);
    found.cloned().ok_or_else(|| {
        let there: Vec<&str> = releases.iter().map(|release| release.version.as_str()).collect();
        Failure::new(
            format!(
                "Rust {} ({}) cannot be had here; there is {}",
                wanted.channel,
                wanted.said_by,
                there.join(", ")
            ),
            "Ask for one of these; or the operator adds it to the mirror of staging (BP_MIRROR).",
        )
    })
}

/// Adds what the compiler needs beside it.
fn complete(context: &BuildContext, layer: &Layer, part: impl Fn(&str, &Client) -> Result<Release>) -> Result<()> {
    let client = Client::new(&context.variables)?;
    for component in &COMPONENTS[1..] {
        let release = part(component, &client)?;
        source::unpack(&client, &release, &context.layers, &layer.dir, &place)?;
    }
    Ok(())
}

fn lacking(component: &str, wanted: &Wanted) -> Failure {
    Failure::new(
        format!(
            "the source of toolchains has no {component} for Rust {}",
            wanted.channel
        ),
        "The operator adds it to the mirror of staging (BP_MIRROR, BP_RUST_MIRROR).",
    )
}

/// What building needs: neither documents, nor what editors and debuggers use.
fn place(path: &Path) -> Option<PathBuf> {
    let needed = path.starts_with("lib") || matches!(path.to_str(), Some("bin/rustc" | "bin/cargo"));
    let left_out = path.starts_with("lib/rustlib/etc") || path.starts_with("lib/rustlib/src");
    (needed && !left_out).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use buildpack_kit::http::Integrity;
    use buildpack_kit::source::{Form, Root};

    #[test]
    fn only_what_building_needs_is_unpacked() {
        let is_placed = |path: &str| place(Path::new(path)).is_some();
        assert!(is_placed("bin/rustc") && is_placed("lib/librustc_driver-1.so"));
        assert!(is_placed("lib/rustlib/x86_64-unknown-linux-gnu/lib/libstd-1.rlib"));
        for path in [
            "bin/rustdoc",
            "share/doc/rust/README.md",
            "libexec/x",
            "lib/rustlib/etc/gdb.py",
            "manifest.in",
        ] {
            assert!(!is_placed(path), "{path}");
        }
    }

    #[test]
    fn a_mirror_s_newest_that_fits_is_taken() {
        let releases: Vec<Release> = ["1.85.0", "1.85.1", "1.99.1", "nightly-2026-01-31"]
            .iter()
            .map(|version| Release {
                version: (*version).to_owned(),
                url: String::new(),
                integrity: Integrity::Sha256(Vec::new()),
                form: Form::TarGz,
                root: Root::Strip(2),
            })
            .collect();
        for (channel, expected) in [
            ("stable", Ok("1.99.1")),
            ("1.85", Ok("1.85.1")),
            ("1.85.0", Ok("1.85.0")),
            ("nightly-2026-01-31", Ok("nightly-2026-01-31")),
            ("1.80", Err("there is 1.85.0, 1.85.1, 1.99.1")),
        ] {
            let wanted = Wanted {
                channel: channel.to_owned(),
                said_by: "test",
            };
            match (choose(&wanted, &releases), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found.version, expected),
                (Err(failure), Err(part)) => assert!(failure.cause.contains(part), "{failure:?}"),
                (found, _) => panic!("{channel}: {found:?}"),
            }
        }
    }
}
