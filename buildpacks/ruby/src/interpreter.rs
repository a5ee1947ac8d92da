//! The layer with Ruby and Bundler: Debian's packages for the stack, unpacked, and told where they lie now.

use crate::version::Wanted;
use buildpack_kit::http::Client;
use buildpack_kit::source::debian::{Debian, below_usr};
use buildpack_kit::source::{self, Provided, Recipe};
use buildpack_kit::{BuildContext, Failure, Layer, Result, Types};
use std::fs;
use std::path::{Path, PathBuf};

/// Changes whenever the layout of the layer does.
const LAYOUT: &str = "1";

/// Ruby in its layer.
#[derive(Debug)]
pub struct Ruby {
    /// The layer.
    pub layer: Layer,
    /// `3.1.7`.
    pub version: String,
}

/// Installs Ruby, or finds the layer as it should be.
///
/// # Errors
/// Where no release will do, or it cannot be had.
pub fn install(context: &BuildContext, wanted: &Wanted) -> Result<Ruby> {
    let debian = Debian::of_stack(&context.variables, "ruby", is_ruby)?;
    let wish = source::Wanted {
        layer: "ruby",
        title: "Ruby",
        text: &wanted.text,
        said_by: wanted.said_by,
        types: Types::ALL,
        layout: LAYOUT,
    };
    let recipe = Recipe {
        choose: &|releases| wanted.choose(releases),
        place: &place,
        finish: &|layer| complete(context, &debian, layer),
    };
    let Provided { layer, version } = source::provide(context, &wish, &debian, &recipe)?;
    Ok(Ruby { layer, version })
}

/// The package that is the interpreter, such as `ruby3.1`.
fn is_ruby(name: &str) -> bool {
    let line = name.strip_prefix("ruby").unwrap_or_default();
    line.contains('.')
        && line
            .split('.')
            .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Adds what the interpreter needs, Bundler, and what gems with parts in C are compiled with.
fn complete(context: &BuildContext, debian: &Debian, layer: &Layer) -> Result<()> {
    let client = Client::new(&context.variables)?;
    let line = line_of(layer)?;
    let mut packages = debian.closure(&client, &["ruby", "ruby-bundler"])?;
    // Its own needs are those of a workplace for Ruby itself.
    packages.push(format!("ruby{line}-dev"));
    debian.unpack(&client, &packages, &layer.dir, &place)?;
    relocate(&layer.dir, &line)
}

/// `3.1`, by the program that is there.
fn line_of(layer: &Layer) -> Result<String> {
    let bin = layer.dir.join("bin");
    let entries = fs::read_dir(&bin).map_err(Failure::file("read", &bin))?;
    let mut names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let found = names.find(|name| is_ruby(name));
    found
        .map(|name| name.trim_start_matches("ruby").to_owned())
        .ok_or_else(|| {
            Failure::new(
                "the package of Ruby has no program",
                "The operator checks the mirror of staging (BP_DEBIAN_MIRROR).",
            )
        })
}

/// The packages' files without what nobody runs.
fn place(path: &Path) -> Option<PathBuf> {
    let left_out = [
        "share/doc",
        "share/man",
        "share/lintian",
        "share/ri",
        "lib/systemd",
        "share/locale",
    ];
    below_usr(path, &["bin", "lib", "include", "share"], &left_out)
}

/// Scripts and Ruby's own variables name `/usr`, which is not where they are.
fn relocate(dir: &Path, line: &str) -> Result<()> {
    let bin = dir.join("bin");
    for entry in fs::read_dir(&bin).map_err(Failure::file("read", &bin))?.flatten() {
        let path = entry.path();
        let Ok(text) = fs::read_to_string(&path) else { continue };
        if let Some(rest) = text.strip_prefix("#!").and_then(|rest| rest.split_once('\n'))
            && rest.0.contains("ruby")
            && !path.is_symlink()
        {
            let moved = format!("#!{}\n{}", bin.join(format!("ruby{line}")).display(), rest.1);
            fs::write(&path, moved).map_err(Failure::file("write", &path))?;
        }
    }
    Ok(())
}

/// Variables with which the interpreter of `layer` finds its parts, with their values.
#[must_use]
pub fn variables(layer: &Layer, version: &str) -> Vec<(&'static str, String)> {
    let line: Vec<&str> = version.split('.').take(2).collect();
    let line = format!("{}.0", line.join("."));
    let machine = format!("{}-linux-gnu", std::env::consts::ARCH);
    let lib = layer.dir.join("lib");
    let lib = lib.display();
    let load = [
        format!("{lib}/ruby/vendor_ruby"),
        format!("{lib}/ruby/vendor_ruby/{line}"),
        format!("{lib}/{machine}/ruby/vendor_ruby/{line}"),
        format!("{lib}/ruby/{line}"),
        format!("{lib}/{machine}/ruby/{line}"),
    ];
    let share = layer.dir.join("share/rubygems-integration");
    let gems = [
        format!("{lib}/ruby/gems/{line}"),
        format!("{}/all", share.display()),
        format!("{}/{line}", share.display()),
    ];
    vec![
        ("RUBYLIB", load.join(":")),
        ("GEM_PATH", gems.join(":")),
        ("LD_LIBRARY_PATH", format!("{lib}/{machine}")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_interpreter_is_the_interpreter() {
        assert!(is_ruby("ruby3.1") && is_ruby("ruby10.12"));
        assert!(!is_ruby("ruby") && !is_ruby("ruby3.1-dev") && !is_ruby("ruby-rack") && !is_ruby("ruby3"));
    }

    #[test]
    fn files_go_where_the_contract_has_them() {
        let placed = |path: &str| place(Path::new(path)).map(|path| path.display().to_string());
        assert_eq!(placed("usr/bin/ruby3.1").as_deref(), Some("bin/ruby3.1"));
        assert_eq!(
            placed("usr/lib/x86_64-linux-gnu/libruby-3.1.so.3.1").as_deref(),
            Some("lib/x86_64-linux-gnu/libruby-3.1.so.3.1")
        );
        for path in ["usr/share/doc/ruby/x", "etc/ssl/x", "var/lib/gems", "usr/sbin/x"] {
            assert_eq!(placed(path), None, "{path}");
        }
    }

    #[test]
    fn scripts_are_run_by_the_ruby_beside_them() {
        let folder = tempfile::tempdir().unwrap();
        let bin = folder.path().join("bin");
        fs::create_dir(&bin).unwrap();
        fs::write(bin.join("bundle"), "#!/usr/bin/ruby\nputs 1\n").unwrap();
        fs::write(bin.join("shell"), "#!/bin/sh\necho\n").unwrap();
        relocate(folder.path(), "3.1").unwrap();
        let text = fs::read_to_string(bin.join("bundle")).unwrap();
        assert_eq!(text, format!("#!{}/ruby3.1\nputs 1\n", bin.display()));
        assert_eq!(fs::read_to_string(bin.join("shell")).unwrap(), "#!/bin/sh\necho\n");
    }
}
