//! Arguments of `push` and `deploy`.

use crate::ui::format::parse_duration;
use clap::{Args, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

const PUSH_EXAMPLES: &str = "\
Examples:
  paas push                              this folder, its manifest.yml where there is one
  paas push ./shop -n shop -i 3 -m 256M  without a manifest
  paas push -f deploy/prod.yml --var host=shop
  paas push -b nodejs_buildpack --env NODE_ENV=production
  paas push --strategy canary            stop after one new instance; `paas continue-deployment` goes on
  paas push --no-start                   upload and stage only; `paas start` runs it
  paas push -n shop -o registry.example.com/team/shop:1.2
  paas push -n shop --image-layout shop.tar   what `docker save` or a build tool wrote

What is pushed: all files of the folder but those that .cfignore and .paasignore list (written as in .gitignore) and
version control's own. Also left out: manifest.yml, node_modules beside a lock file, and Python virtual environments;
a line such as !node_modules brings them back. Only files that the platform does not have are sent.

An app that runs is replaced without downtime: its old version serves until the new one is healthy and routed.
Ctrl-C detaches: what was begun goes on, and `paas deploy attach APP` watches it again.";

/// How instances of what is new take the place of those that serve.
#[derive(Debug, Clone, Default, Args)]
pub struct Strategy {
    /// `rolling` goes to the end by itself; `canary` stops after one new instance, or at each step.
    #[arg(long, value_name = "STRATEGY", value_enum)]
    pub strategy: Option<StrategyName>,
    /// Steps of a canary: percent of the instances that are new, such as 10,50.
    #[arg(long, value_name = "PERCENT,...", value_delimiter = ',', value_parser = clap::value_parser!(u8).range(1..=100))]
    pub instance_steps: Vec<u8>,
    /// New instances that may be on their way at once.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub max_in_flight: Option<u32>,
}

/// Names a strategy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum StrategyName {
    /// One after the other, to the end.
    Rolling,
    /// Stops for a look.
    Canary,
}

/// Push an app: upload what is new, build it, and run it without downtime.
#[derive(Debug, Args)]
#[command(after_help = PUSH_EXAMPLES)]
#[allow(clippy::struct_excessive_bools, reason = "they are switches")]
pub struct Push {
    /// Folder of the app, with its manifest where it has one.
    #[arg(value_name = "PATH")]
    pub path: Option<PathBuf>,
    /// The manifest.
    #[arg(short = 'f', long = "manifest", value_name = "FILE")]
    pub manifest: Option<PathBuf>,
    /// Name of the app; in a manifest of several, the one to push.
    #[arg(short, long, value_name = "NAME")]
    pub name: Option<String>,
    /// Instances of the web process.
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub instances: Option<u32>,
    /// Memory of each instance, such as 256M.
    #[arg(short, long, value_name = "SIZE", value_parser = parse_size)]
    pub memory: Option<String>,
    /// Disk of each instance, such as 1G.
    #[arg(short = 'k', long, value_name = "SIZE", value_parser = parse_size)]
    pub disk: Option<String>,
    /// Memory of the build, such as 2G.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub staging_memory: Option<String>,
    /// Disk of the build, such as 8G.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub staging_disk: Option<String>,
    /// Start command of the web process.
    #[arg(short, long, value_name = "COMMAND")]
    pub command: Option<String>,
    /// Buildpack, by name or address; again for several, in order.
    #[arg(short, long = "buildpack", value_name = "BUILDPACK")]
    pub buildpacks: Vec<String>,
    /// Stack to build and run on.
    #[arg(short, long, value_name = "STACK")]
    pub stack: Option<String>,
    /// Seconds that an instance may take to become healthy.
    #[arg(short = 't', long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=600))]
    pub start_timeout: Option<u32>,
    /// A droplet as `paas download-droplet` saved it: it is run as it is, nothing is uploaded or built besides.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["buildpacks", "staging_memory", "staging_disk"])]
    pub droplet: Option<PathBuf>,
    /// A variable of the app; again for several. Values are seen by other users of this machine while the command runs.
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_pair)]
    pub env: Vec<(String, String)>,
    /// Run this image of a registry instead of source.
    #[arg(short = 'o', long, value_name = "IMAGE", conflicts_with_all = ["image_layout", "buildpacks", "stack"])]
    pub docker_image: Option<String>,
    /// Name at the image's registry; the password is taken from CF_DOCKER_PASSWORD.
    #[arg(long, value_name = "NAME")]
    pub docker_username: Option<String>,
    /// Run the image in this folder or archive: an OCI layout, or what `docker save` writes.
    #[arg(long, value_name = "DIR|TAR", conflicts_with_all = ["buildpacks", "stack"])]
    pub image_layout: Option<PathBuf>,
    /// Upload and stage, but leave what runs as it is.
    #[arg(long)]
    pub no_start: bool,
    /// Give it a route with a random name.
    #[arg(long, conflicts_with = "no_route")]
    pub random_route: bool,
    /// Give it no route, and take those that it has.
    #[arg(long)]
    pub no_route: bool,
    #[command(flatten)]
    pub strategy: Strategy,
    /// Return once the rollout has begun.
    #[arg(long)]
    pub detach: bool,
    /// Longest time to wait for the outcome, such as 90s or 15m.
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "30m")]
    pub timeout: Duration,
    /// Value of a variable in the manifest; again for several.
    #[arg(long = "var", value_name = "NAME=VALUE", value_parser = parse_pair)]
    pub vars: Vec<(String, String)>,
    /// File with values of variables in the manifest; again for several.
    #[arg(long = "var-file", alias = "vars-file", value_name = "FILE")]
    pub var_files: Vec<PathBuf>,
}

/// Watch, continue or cancel a rollout.
#[derive(Debug, Args)]
pub struct Deploy {
    #[command(subcommand)]
    pub command: DeployCommand,
}

/// What to do with a rollout.
#[derive(Debug, Subcommand)]
pub enum DeployCommand {
    /// Watch what is being deployed for an app; ends as it ends.
    Attach {
        /// The app.
        app: String,
        /// Longest time to wait for the outcome.
        #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "30m")]
        timeout: Duration,
    },
    /// Let a canary go on: to its next step, or to the end.
    Continue {
        /// The app.
        app: String,
        /// Return at once; the rollout goes on.
        #[arg(long)]
        detach: bool,
        /// Longest time to wait for the outcome.
        #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "30m")]
        timeout: Duration,
    },
    /// Cancel the rollout of an app: its earlier version goes on.
    Cancel {
        /// The app.
        app: String,
    },
}

/// Let a canary go on: to its next step, or to the end.
#[derive(Debug, Args)]
pub struct ContinueDeployment {
    /// The app.
    pub app: String,
    /// Return at once; the rollout goes on.
    #[arg(long)]
    pub detach: bool,
    /// Longest time to wait for the outcome.
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "30m")]
    pub timeout: Duration,
}

/// Cancel the rollout of an app: its earlier version goes on.
#[derive(Debug, Args)]
pub struct CancelDeployment {
    /// The app.
    pub app: String,
}

/// `NAME=VALUE`
pub fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".into()),
    }
}

/// An amount as the manifest has it, checked.
pub fn parse_size(text: &str) -> Result<String, String> {
    match model::limits::parse_megabytes(text)? {
        0 => Err(format!("{text} is less than 1M")),
        _ => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_and_sizes_are_checked() {
        assert_eq!(parse_pair("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert!(parse_pair("A").is_err() && parse_pair("=b").is_err());
        assert!(parse_size("256M").is_ok());
        assert!(parse_size("256").is_err() && parse_size("1K").is_err());
    }
}
