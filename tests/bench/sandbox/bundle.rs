//! Bundles for OCI runtimes: what their own `spec` gives, with the app and the limits that all have.

use crate::external::Bundle;
use crate::ours::LIMITS;
use crate::place::{APP_INSIDE, Place, USER};
use anyhow::{Context as _, Result, bail};
use sandbox::{Spec, oci};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where a hybrid host shows its version 2 hierarchy.
const UNIFIED: &str = "/sys/fs/cgroup/unified";

/// A runtime of bundles.
#[derive(Clone, Copy)]
pub struct Runtime<'a> {
    /// Part of names.
    pub name: &'static str,
    /// The program.
    pub program: &'a Path,
    /// Whose own default it is given: its own, but ours is given crun's.
    pub default_of: &'static str,
}

/// What a runtime is given when it runs the app as the default says.
pub fn default(place: &Place, runtime: Runtime<'_>) -> Result<Bundle> {
    let program = runtime.default_of;
    let folder = place.path().join(format!("{}-spec", runtime.name));
    std::fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
    let output = Command::new(program).arg("spec").current_dir(&folder).output();
    let output = output.with_context(|| format!("failed to run {program}"))?;
    if !output.status.success() {
        bail!("{program} spec: {}", String::from_utf8_lossy(&output.stderr));
    }
    let text = std::fs::read(folder.join("config.json")).context("failed to read config.json")?;
    let mut config: Value = serde_json::from_slice(&text).context("config.json is no JSON")?;
    config["process"]["terminal"] = json!(false);
    config["process"]["user"] = json!({ "uid": USER, "gid": USER });
    config["root"] = json!({ "path": place.rootfs(), "readonly": true });
    config["linux"]["resources"]["memory"] = json!({ "limit": LIMITS.memory_bytes });
    config["linux"]["resources"]["pids"] = json!({ "limit": LIMITS.pids });
    config["linux"]["resources"]["cpu"] = json!({ "shares": 1024 });
    write(place, runtime, "default", |stays| {
        let mut config = config.clone();
        config["process"]["args"] = json!(arguments(stays));
        config
    })
}

/// What a runtime is given when it runs the sandbox `spec` of ours, in its own words.
pub fn same(place: &Place, runtime: Runtime<'_>, spec: impl Fn(bool) -> Spec, uid_base: u32) -> Result<Bundle> {
    let here = oci::Place::here(&place.rootfs(), uid_base, Path::new("/unused"));
    write(place, runtime, "same", |stays| {
        let mut config = serde_json::to_value(oci::from_spec(&spec(stays), &here)).unwrap_or_default();
        // Each of its containers has a group of its own, named like it, if none is named here.
        if let Some(linux) = config["linux"].as_object_mut() {
            linux.remove("cgroupsPath");
        }
        config
    })
}

/// The app's command.
fn arguments(stays: bool) -> Vec<&'static str> {
    let mut arguments = vec![APP_INSIDE];
    arguments.extend(stays.then_some("stay"));
    arguments
}

/// The two bundles of one contender.
fn write(place: &Place, runtime: Runtime<'_>, kind: &str, config: impl Fn(bool) -> Value) -> Result<Bundle> {
    let name = format!("{}-{kind}", runtime.name);
    let bundle = |what: &str, stays: bool| -> Result<PathBuf> {
        let folder = place.path().join(format!("{name}-{what}"));
        std::fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
        let text = config(stays).to_string();
        std::fs::write(folder.join("config.json"), text).context("failed to write config.json")?;
        Ok(folder)
    };
    let state = place.path().join(format!("{name}-state"));
    std::fs::create_dir_all(&state).with_context(|| format!("failed to make {}", state.display()))?;
    let unified = Path::new(UNIFIED);
    // It says so itself: "cgroups in hybrid mode not supported".
    let hidden = (runtime.name == "crun" && unified.join("cgroup.procs").exists()).then_some(unified);
    Ok(Bundle {
        program: runtime.program.into(),
        options: vec!["--root".to_owned(), state.to_string_lossy().into_owned()],
        once: bundle("once", false)?,
        stay: bundle("stay", true)?,
        hidden,
    })
}
