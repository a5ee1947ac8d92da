//! Parsers of this crate that have no way in from outside, for the fuzz targets. Not for use.

use crate::classic::files;
use crate::cnb::launch_toml::{LaunchToml, Written};
use std::path::Path;

/// `launch.toml` as each version of the Buildpack API reads it.
pub fn launch_toml(text: &str) {
    for api in [8, 9, 12] {
        let written = toml::from_str::<Written>(text);
        if let Some(launch) = written.ok().and_then(|written| LaunchToml::read(written, api).ok()) {
            for process in &launch.processes {
                let _ = launch.source(&process.process_type);
            }
        }
    }
}

/// What `bin/release` of a classic buildpack prints, and the files that one leaves at `path`.
pub fn classic(text: &str, path: &Path) {
    let _ = files::release(text);
    let _ = files::launch(path);
    let _ = files::config(path);
}
