//! `cargo xtask guest` and `dist`: build what is shipped and lay it out under `dist/`.
//!
//! ```text
//! dist/bin/{paas,paasd}                          host programs
//! dist/libexec/{paas-init,paas-lifecycle}        static programs for the inside of sandboxes
//! dist/buildpacks/<folder>/{buildpack.toml,bin/} built-in buildpacks
//! dist/buildpacks/order.toml                     the order in which they are tried
//! ```
//! A file is replaced only when its contents changed, by rename, so a daemon that runs from `dist/` is not disturbed.

use crate::workspace::{Package, Workspace, cargo};
use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// The one target of guests: static glibc, so that they run on any stack.
const GUEST_TARGET: &str = "x86_64-unknown-linux-gnu";
/// Guests that every sandbox needs.
const LIBEXEC: [&str; 2] = ["paas-init", "paas-lifecycle"];
/// Files of a buildpack's folder that are its source and not part of what is shipped.
const NOT_SHIPPED: [&str; 7] = [
    "Cargo.toml",
    "Cargo.lock",
    "src",
    "tests",
    "target",
    "build.rs",
    "README.md",
];

/// A program that cargo has built.
struct Program {
    name: String,
    manifest: PathBuf,
    file: PathBuf,
}

/// Builds the programs that run inside sandboxes into `dist/libexec` and `dist/buildpacks`.
pub fn guest(profile: &str) -> Result<()> {
    let workspace = Workspace::load()?;
    let guests: Vec<&Package> = workspace
        .packages
        .iter()
        .filter(|package| is_guest(&workspace, package) && package.has_program())
        .collect();
    let dist = workspace.root.join("dist");
    let names: Vec<&str> = guests.iter().map(|package| package.name.as_str()).collect();
    let built = build(&workspace, profile, &names, true)?;
    for program in &built.programs {
        place_guest(&workspace, &dist, program)?;
    }
    built.complete(&names)?;
    for name in LIBEXEC {
        if !dist.join("libexec").join(name).is_file() {
            bail!("no package that declares [package.metadata.paas] guest = true builds {name}");
        }
    }
    place_buildpack_files(&workspace.root.join("buildpacks"), &dist.join("buildpacks"))
}

/// Builds `paas-init` alone, which is all that sandboxes need: its path.
pub fn init(profile: &str) -> Result<PathBuf> {
    let workspace = Workspace::load()?;
    let built = build(&workspace, profile, &["sandbox"], true)?;
    built.complete(&["sandbox"])?;
    let dist = workspace.root.join("dist");
    for program in &built.programs {
        place_guest(&workspace, &dist, program)?;
    }
    Ok(dist.join("libexec").join(LIBEXEC[0]))
}

/// Builds everything: `guest`, then the host programs into `dist/bin`.
pub fn dist(profile: &str) -> Result<()> {
    guest(profile)?;
    let workspace = Workspace::load()?;
    let packages = ["cli", "paasd"];
    let built = build(&workspace, profile, &packages, false)?;
    built.complete(&packages)?;
    for name in ["paas", "paasd"] {
        let program = built
            .programs
            .iter()
            .find(|program| program.name == name)
            .with_context(|| format!("no package builds a program named {name}"))?;
        place(&program.file, &workspace.root.join("dist/bin").join(name), 0o755)?;
    }
    Ok(())
}

/// A package is a guest by its own word, or because it is a buildpack with a program.
fn is_guest(workspace: &Workspace, package: &Package) -> bool {
    package.is_guest() || buildpack_folder(workspace, &package.manifest_path).is_some()
}

/// `<folder>` of `buildpacks/<folder>/Cargo.toml` where a `buildpack.toml` lies beside it.
fn buildpack_folder(workspace: &Workspace, manifest: &Path) -> Option<String> {
    let folder = manifest.parent()?;
    let name = folder.strip_prefix(workspace.root.join("buildpacks")).ok()?.to_str()?;
    (!name.is_empty() && !name.contains('/') && folder.join("buildpack.toml").is_file()).then(|| name.to_owned())
}

/// What cargo made of some packages.
struct Built {
    programs: Vec<Program>,
    /// Whether all of them were built.
    complete: bool,
}

impl Built {
    fn complete(&self, packages: &[&str]) -> Result<()> {
        if !self.complete {
            bail!("cargo build of {} failed", packages.join(", "));
        }
        Ok(())
    }
}

/// One message of cargo's `--message-format=json`, of which only finished artifacts matter.
#[derive(Deserialize)]
struct Message {
    reason: String,
    manifest_path: Option<PathBuf>,
    target: Option<MessageTarget>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct MessageTarget {
    name: String,
}

/// Builds all programs of `packages` and says where cargo put those that it could build.
fn build(workspace: &Workspace, profile: &str, packages: &[&str], is_static: bool) -> Result<Built> {
    let mut command = cargo(&workspace.root);
    command.args([
        "build",
        "--bins",
        "--keep-going",
        "--message-format=json-render-diagnostics",
    ]);
    command.args(["--profile", profile]);
    if is_static {
        command.args(["--target", GUEST_TARGET]);
        command.env(
            "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS",
            "-C target-feature=+crt-static",
        );
    }
    for package in packages {
        command.args(["--package", package]);
    }
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .context("failed to run cargo build")?;
    let mut programs = Vec::new();
    for line in output
        .stdout
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        let message: Message = serde_json::from_slice(line).context("failed to read a message of cargo build")?;
        if let ("compiler-artifact", Some(manifest), Some(target), Some(file)) = (
            message.reason.as_str(),
            message.manifest_path,
            message.target,
            message.executable,
        ) {
            programs.push(Program {
                name: target.name,
                manifest,
                file,
            });
        }
    }
    Ok(Built {
        programs,
        complete: output.status.success(),
    })
}

/// Puts a guest where it belongs. Of a buildpack the program named like its package answers to both names of the
/// contract and any other keeps its own, all in the buildpack's `bin/`; whatever is no buildpack goes into `libexec`.
fn place_guest(workspace: &Workspace, dist: &Path, program: &Program) -> Result<()> {
    let Some(folder) = buildpack_folder(workspace, &program.manifest) else {
        return place(&program.file, &dist.join("libexec").join(&program.name), 0o755);
    };
    let package = workspace
        .packages
        .iter()
        .find(|package| package.manifest_path == program.manifest);
    let bin = dist.join("buildpacks").join(folder).join("bin");
    if package.is_some_and(|package| package.name != program.name) {
        return place(&program.file, &bin.join(&program.name), 0o755);
    }
    place(&program.file, &bin.join("detect"), 0o755)?;
    place(&program.file, &bin.join("build"), 0o755)
}

/// Copies what lies beside the source of each buildpack: `buildpack.toml`, scripts under `bin/`, data files.
fn place_buildpack_files(source: &Path, target: &Path) -> Result<()> {
    if !source.is_dir() {
        return Ok(());
    }
    for folder in fs::read_dir(source).with_context(|| format!("failed to list {}", source.display()))? {
        let folder = folder?.path();
        if folder.is_file() && folder.extension().is_some_and(|extension| extension == "toml") {
            // Such as the order in which buildpacks are tried.
            place(&folder, &target.join(folder.file_name().unwrap_or_default()), 0o644)?;
        }
        if !folder.join("buildpack.toml").is_file() {
            continue;
        }
        let files = walkdir::WalkDir::new(&folder)
            .min_depth(1)
            .into_iter()
            .filter_entry(|entry| entry.depth() != 1 || !NOT_SHIPPED.iter().any(|name| entry.file_name() == *name));
        for entry in files {
            let entry = entry?;
            if entry.file_type().is_file() {
                let mode = if entry.metadata()?.permissions().mode() & 0o111 == 0 {
                    0o644
                } else {
                    0o755
                };
                place(entry.path(), &target.join(entry.path().strip_prefix(source)?), mode)?;
            }
        }
    }
    Ok(())
}

/// Copies `source` to `target` by a temporary file and a rename, unless the same bytes and mode are there already.
fn place(source: &Path, target: &Path, mode: u32) -> Result<()> {
    if same(source, target, mode) {
        return Ok(());
    }
    let folder = target.parent().context("a target has a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("failed to create {}", folder.display()))?;
    let temporary = target.with_extension(format!("new-{}", std::process::id()));
    fs::copy(source, &temporary)
        .and_then(|_| fs::set_permissions(&temporary, fs::Permissions::from_mode(mode)))
        .and_then(|()| fs::rename(&temporary, target))
        .with_context(|| format!("failed to write {}", target.display()))?;
    println!("wrote {}", target.display());
    Ok(())
}

/// Whether both files hold the same bytes and `right` has `mode`.
fn same(left: &Path, right: &Path, mode: u32) -> bool {
    let (Ok(left), Ok(right)) = (fs::File::open(left), fs::File::open(right)) else {
        return false;
    };
    let (Ok(left_data), Ok(right_data)) = (left.metadata(), right.metadata()) else {
        return false;
    };
    left_data.len() == right_data.len()
        && right_data.permissions().mode() & 0o777 == mode
        && same_bytes(left, right).unwrap_or(false)
}

fn same_bytes(mut left: fs::File, mut right: fs::File) -> std::io::Result<bool> {
    let (mut one, mut two) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let read = left.read(&mut one)?;
        if read == 0 {
            return Ok(right.read(&mut two)? == 0);
        }
        if right.read_exact(&mut two[..read]).is_err() || one[..read] != two[..read] {
            return Ok(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn replaces_only_what_changed_and_by_rename() {
        let folder = tempfile::tempdir().unwrap();
        let (source, target) = (folder.path().join("a"), folder.path().join("out/b"));
        fs::write(&source, "one").unwrap();
        place(&source, &target, 0o755).unwrap();
        let first = fs::metadata(&target).unwrap().ino();
        place(&source, &target, 0o755).unwrap();
        assert_eq!(fs::metadata(&target).unwrap().ino(), first, "unchanged files stay");

        let mut running = fs::File::open(&target).unwrap();
        fs::write(&source, "two").unwrap();
        place(&source, &target, 0o755).unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "two");
        let mut old = String::new();
        running.read_to_string(&mut old).unwrap();
        assert_eq!(old, "one", "an open copy keeps its contents");
        assert_eq!(
            fs::read_dir(target.parent().unwrap()).unwrap().count(),
            1,
            "no temporary file is left"
        );
    }

    #[test]
    fn ships_a_scripted_buildpack_without_its_source() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("buildpacks");
        for (path, text) in [
            ("shell/buildpack.toml", "api = \"0.10\""),
            ("shell/bin/detect", "#!/bin/sh"),
            ("shell/src/main.rs", ""),
            ("shell/Cargo.toml", ""),
            ("library/src/lib.rs", ""),
            ("order.toml", ""),
        ] {
            let path = source.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        fs::set_permissions(source.join("shell/bin/detect"), fs::Permissions::from_mode(0o700)).unwrap();
        let target = folder.path().join("dist");
        place_buildpack_files(&source, &target).unwrap();
        let detect = fs::metadata(target.join("shell/bin/detect")).unwrap();
        assert_eq!(detect.permissions().mode() & 0o777, 0o755);
        assert!(target.join("shell/buildpack.toml").is_file());
        assert!(!target.join("shell/src").exists() && !target.join("shell/Cargo.toml").exists());
        assert!(target.join("order.toml").is_file());
        assert!(
            !target.join("library").exists(),
            "a folder without buildpack.toml is no buildpack"
        );
    }
}
