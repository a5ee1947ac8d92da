//! Arguments of the commands about buildpacks, builds and droplets. Names and order are those of `cf` where it has them.

use super::Listing;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// The commands.
#[derive(Debug, Subcommand)]
pub enum StagingCommand {
    Builds(Builds),
    CancelBuild(CancelBuild),
    #[command(visible_alias = "clear-buildpack-cache")]
    ClearCache(ClearCache),
    DownloadDroplet(DownloadDroplet),
    Buildpacks(Buildpacks),
    CreateBuildpack(CreateBuildpack),
    UpdateBuildpack(Box<UpdateBuildpack>),
    DeleteBuildpack(DeleteBuildpack),
}

/// List the buildpacks of the platform, in the order in which they are tried.
#[derive(Debug, Args)]
pub struct Buildpacks {
    #[command(flatten)]
    pub listing: Listing,
}

const BITS_HELP: &str = "\
PATH is an archive (.zip, .tgz, .tar.zst), or a folder that is packed as it is. It holds a Cloud Native Buildpack
(buildpack.toml and bin/build) or a classic one (bin/detect and bin/compile, or bin/supply and bin/finalize).";

/// Add a buildpack to the platform.
#[derive(Debug, Args)]
#[command(after_help = BITS_HELP)]
pub struct CreateBuildpack {
    /// Its name.
    #[arg(value_name = "BUILDPACK")]
    pub name: String,
    /// The archive or the folder.
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// Its place in the order, from 1; those behind it move on.
    #[arg(value_name = "POSITION", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub position: u32,
    /// The only stack that it is for; all stacks where none is named.
    #[arg(short, long, value_name = "STACK")]
    pub stack: Option<String>,
    /// Keep it from being used for now.
    #[arg(long)]
    pub disable: bool,
}

/// Change a buildpack: its contents, name, place, or whether it is used.
#[derive(Debug, Args)]
#[command(after_help = BITS_HELP)]
#[allow(clippy::struct_excessive_bools, reason = "they are switches")]
pub struct UpdateBuildpack {
    #[command(flatten)]
    pub which: Which,
    /// New contents: an archive or a folder.
    #[arg(short, long, value_name = "PATH")]
    pub path: Option<PathBuf>,
    /// Its new place in the order, from 1.
    #[arg(short = 'i', long, value_name = "POSITION", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub position: Option<u32>,
    /// Its new name.
    #[arg(long, value_name = "NAME")]
    pub rename: Option<String>,
    /// The stack that it is for from now on, where it had none.
    #[arg(long, value_name = "STACK")]
    pub assign_stack: Option<String>,
    /// Let it be used.
    #[arg(long, conflicts_with = "disable")]
    pub enable: bool,
    /// Keep it from being used.
    #[arg(long)]
    pub disable: bool,
    /// Refuse new contents from now on.
    #[arg(long, conflicts_with = "unlock")]
    pub lock: bool,
    /// Allow new contents again.
    #[arg(long)]
    pub unlock: bool,
}

/// Delete a buildpack; droplets that it built stay.
#[derive(Debug, Args)]
pub struct DeleteBuildpack {
    #[command(flatten)]
    pub which: Which,
    /// Do not ask; as --yes.
    #[arg(short, long)]
    pub force: bool,
}

/// A buildpack.
#[derive(Debug, Args)]
pub struct Which {
    /// Its name.
    #[arg(value_name = "BUILDPACK")]
    pub name: String,
    /// Its stack, where several have this name.
    #[arg(short, long, value_name = "STACK")]
    pub stack: Option<String>,
}

const BUILDS_EXAMPLES: &str = "\
Examples:
  paas builds shop                 what was built, the newest first
  paas builds shop 4f0c            how long each phase of one took; either end of its id is enough
  paas builds shop 4f0c --log      what it said, also long after it
  paas builds shop --log           what the newest said";

/// List the builds of an app, or show how one went.
#[derive(Debug, Args)]
#[command(after_help = BUILDS_EXAMPLES)]
pub struct Builds {
    /// The app.
    pub app: String,
    /// One of its builds: its id, or either end of it.
    #[arg(value_name = "ID")]
    pub id: Option<String>,
    /// Show what it said.
    #[arg(long)]
    pub log: bool,
    #[command(flatten)]
    pub listing: Listing,
}

/// Cancel the build of an app that is under way or waits; what runs goes on.
#[derive(Debug, Args)]
pub struct CancelBuild {
    /// The app.
    pub app: String,
}

/// Forget what earlier builds of an app left: the next one begins from nothing.
#[derive(Debug, Args)]
pub struct ClearCache {
    /// The app.
    pub app: String,
}

/// Save a droplet of an app as one archive; `paas push --droplet` takes it.
#[derive(Debug, Args)]
pub struct DownloadDroplet {
    /// The app.
    pub app: String,
    /// The droplet; the one that the app has where none is named.
    #[arg(long, value_name = "ID")]
    pub droplet: Option<String>,
    /// The file, or a folder to save it in.
    #[arg(short, long, value_name = "PATH")]
    pub path: Option<PathBuf>,
}
