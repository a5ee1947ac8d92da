//! The Cloud Native Buildpacks contract, Buildpack API 0.7 to 0.12, seen from the platform's side.
//!
//! ```text
//! descriptor  buildpack.toml: what a folder declares
//! order       groups of buildpacks to try, composites expanded
//! detect      bin/detect of all candidates at once
//! plan        provides and requires, alternatives tried in order
//! environment layer environment rules, for builds and launches
//! process     environment and arguments of bin/detect and bin/build
//! layers      <layers>/<buildpack>/: restore before, read after
//! build       bin/build of each member of the group
//! guard       what a buildpack must leave alone
//! launch_toml processes, slices and labels that it leaves
//! sbom        bills of materials: gathered, and put back
//! ```

pub mod build;
pub mod descriptor;
pub mod detect;
pub mod environment;
pub mod guard;
pub mod launch_toml;
pub mod layers;
pub mod order;
pub mod plan;
pub mod process;
pub mod sbom;
