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

/// What `program` is given when it runs the app as its own default says.
pub fn default(place: &Place, program: &str) -> Result<Bundle> {
    let folder = place.path().join(format!("bundle-{program}"));
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
    write(place, program, &format!("{program}-default"), |stays| {
        let mut config = config.clone();
        config["process"]["args"] = json!(arguments(stays));
        config
    })
}

/// What `program` is given when it runs the sandbox `spec` of ours, in its own words.
pub fn same(place: &Place, program: &str, spec: impl Fn(bool) -> Spec, uid_base: u32) -> Result<Bundle> {
    let here = oci::Place::here(&place.rootfs(), uid_base, Path::new("/unused"));
    write(place, program, &format!("{program}-same"), |stays| {
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
fn write(place: &Place, program: &str, name: &str, config: impl Fn(bool) -> Value) -> Result<Bundle> {
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
    let hidden = (program == "crun" && unified.join("cgroup.procs").exists()).then_some(unified);
    Ok(Bundle {
        program: program.into(),
        options: vec!["--root".to_owned(), state.to_string_lossy().into_owned()],
        once: bundle("once", false)?,
        stay: bundle("stay", true)?,
        hidden,
    })
}
