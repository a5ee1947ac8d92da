//! Arguments of the commands about apps and their routes.

use super::Listing;
use super::push::{Strategy, parse_size};
use crate::ui::format::parse_duration;
use clap::{Args, Subcommand};
use std::time::Duration;

/// List the apps of the space.
#[derive(Debug, Args)]
pub struct Apps {
    #[command(flatten)]
    pub listing: Listing,
}

/// Show an app: its routes, processes and instances.
#[derive(Debug, Args)]
pub struct App {
    /// The app.
    pub app: String,
}

const LOGS_EXAMPLES: &str = "\
Examples:
  paas logs shop                 the last lines, then new ones as they are written
  paas logs shop --recent        the last lines, also of instances that are gone
  paas logs shop --since 6h --source APP/PROC/WEB";

/// Show what an app and the platform write to its log.
#[derive(Debug, Args)]
#[command(after_help = LOGS_EXAMPLES)]
pub struct Logs {
    /// The app.
    pub app: String,
    /// Show the last lines and end.
    #[arg(long, conflicts_with = "follow")]
    pub recent: bool,
    /// Go on with new lines as they are written; this is what happens without --recent.
    #[arg(short, long)]
    pub follow: bool,
    /// Lines to show at first.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub lines: Option<u32>,
    /// Only lines that are not older, such as 10m or 6h.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub since: Option<Duration>,
    /// Only lines of this source, such as APP or STG; the beginning is enough.
    #[arg(long, value_name = "SOURCE")]
    pub source: Option<String>,
    /// Only lines of this instance.
    #[arg(long, value_name = "INDEX")]
    pub instance: Option<u32>,
}

/// List what happened to an app, the newest first.
#[derive(Debug, Args)]
pub struct Events {
    /// The app.
    pub app: String,
    /// Most events to show.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=5000))]
    pub limit: u32,
    #[command(flatten)]
    pub listing: Listing,
}

/// Say why an app is as it is: what is wrong, the likely cause, what to do.
#[derive(Debug, Args)]
pub struct Why {
    /// The app.
    pub app: String,
}

const SCALE_EXAMPLES: &str = "\
Examples:
  paas scale shop              show its present size
  paas scale shop -i 5         five instances
  paas scale shop -m 512M      more memory, by a rollout without downtime
  paas scale shop --process worker -i 2";

/// Change the number of instances, or what each may use.
#[derive(Debug, Args)]
#[command(after_help = SCALE_EXAMPLES)]
pub struct Scale {
    /// The app.
    pub app: String,
    /// Instances.
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub instances: Option<u32>,
    /// Memory of each instance, such as 256M.
    #[arg(short, long, value_name = "SIZE", value_parser = parse_size)]
    pub memory: Option<String>,
    /// Disk of each instance, such as 1G.
    #[arg(short = 'k', long, value_name = "SIZE", value_parser = parse_size)]
    pub disk: Option<String>,
    /// The process.
    #[arg(long, value_name = "TYPE", default_value = "web")]
    pub process: String,
    #[command(flatten)]
    pub wait: Wait,
}

/// How long to wait for instances.
#[derive(Debug, Clone, Args)]
pub struct Wait {
    /// Return at once; the change goes on.
    #[arg(long)]
    pub detach: bool,
    /// Longest time to wait, such as 90s or 5m.
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "5m")]
    pub timeout: Duration,
}

/// Replace all instances by new ones, without downtime.
#[derive(Debug, Args)]
pub struct Restart {
    /// The app.
    pub app: String,
    #[command(flatten)]
    pub strategy: Strategy,
    #[command(flatten)]
    pub wait: Wait,
}

/// Start an app that is stopped.
#[derive(Debug, Args)]
pub struct Start {
    /// The app.
    pub app: String,
    #[command(flatten)]
    pub wait: Wait,
}

/// Stop all instances of an app.
#[derive(Debug, Args)]
pub struct Stop {
    /// The app.
    pub app: String,
    #[command(flatten)]
    pub wait: Wait,
}

/// Delete an app with all that belongs to it.
#[derive(Debug, Args)]
pub struct Delete {
    /// The app.
    pub app: String,
    /// Delete the routes that lead to it, too.
    #[arg(short)]
    pub routes: bool,
    /// Do not ask; as --yes.
    #[arg(short, long)]
    pub force: bool,
}

/// Show the variables of an app.
#[derive(Debug, Args)]
pub struct Env {
    /// The app.
    pub app: String,
}

const SET_ENV_EXAMPLES: &str = "\
Examples:
  paas set-env shop LOG_LEVEL debug
  paas set-env shop LOG_LEVEL=debug FEATURE_X=on
  paas set-env shop API_KEY < key.txt      the value from standard input: it is seen by nobody else";

/// Set variables of an app; they count from its next restart on.
#[derive(Debug, Args)]
#[command(after_help = SET_ENV_EXAMPLES)]
pub struct SetEnv {
    /// The app.
    pub app: String,
    /// NAME VALUE, or NAME=VALUE once or more; NAME alone takes the value from standard input.
    #[arg(required = true, value_name = "NAME=VALUE")]
    pub vars: Vec<String>,
}

/// Remove variables of an app; they are gone from its next restart on.
#[derive(Debug, Args)]
pub struct UnsetEnv {
    /// The app.
    pub app: String,
    /// The variables.
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
}

const ROUTE_EXAMPLES: &str = "\
Examples:
  paas map-route shop example.com --hostname www --path /cart
  paas map-route shop www.example.com/cart";

/// Lead a route to an app; it is made where it is not there.
#[derive(Debug, Args)]
#[command(after_help = ROUTE_EXAMPLES)]
pub struct MapRoute {
    #[command(flatten)]
    pub route: RouteOf,
}

/// Take a route from an app; the route itself stays.
#[derive(Debug, Args)]
pub struct UnmapRoute {
    #[command(flatten)]
    pub route: RouteOf,
}

/// A route and an app.
#[derive(Debug, Args)]
pub struct RouteOf {
    /// The app.
    pub app: String,
    /// The domain, or the whole route such as www.example.com/cart.
    pub domain: String,
    /// Host below the domain.
    #[arg(short = 'n', long, value_name = "HOST")]
    pub hostname: Option<String>,
    /// Path, beginning with /.
    #[arg(long, value_name = "PATH")]
    pub path: Option<String>,
}

/// List the routes of the space.
#[derive(Debug, Args)]
pub struct Routes {
    #[command(flatten)]
    pub listing: Listing,
}

const EXEC_EXAMPLES: &str = "\
Examples:
  paas exec shop                       a shell
  paas exec shop -i 1 -- ls -l
  paas exec shop -- cat config.json > config.json";

/// Run a command inside an instance. Ends with the command's own exit code.
#[derive(Debug, Args)]
#[command(after_help = EXEC_EXAMPLES)]
pub struct Exec {
    /// The app.
    pub app: String,
    /// The process.
    #[arg(long, value_name = "TYPE", default_value = "web")]
    pub process: String,
    /// The instance.
    #[arg(short, long = "instance", value_name = "INDEX", default_value_t = 0)]
    pub index: u32,
    /// No terminal even where there is one.
    #[arg(short = 'T', long)]
    pub no_tty: bool,
    /// The command with its arguments; a shell where there is none.
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

const RUN_EXAMPLES: &str = "\
Examples:
  paas run shop -- rake db:migrate       run it in the app's droplet, show its log, end as it ends
  paas run shop -m 1G --name import -- python import.py
  paas run shop --detach -- ./report     return at once; `paas tasks shop` shows how it goes";

/// Run a command once in an app's droplet, beside its instances.
#[derive(Debug, Args)]
#[command(after_help = RUN_EXAMPLES)]
pub struct Run {
    /// The app.
    pub app: String,
    /// A name, which its log lines carry.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Memory, such as 256M.
    #[arg(short, long, value_name = "SIZE", value_parser = parse_size)]
    pub memory: Option<String>,
    /// Return at once; the task goes on.
    #[arg(long)]
    pub detach: bool,
    /// Longest time to wait for its end, such as 10m or 2h; the task itself goes on.
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "24h")]
    pub timeout: Duration,
    /// The command with its arguments; a shell reads it.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// List the tasks of an app, or cancel one.
#[derive(Debug, Args)]
pub struct Tasks {
    /// The app.
    pub app: String,
    #[command(flatten)]
    pub listing: Listing,
    #[command(subcommand)]
    pub command: Option<TasksCommand>,
}

/// What to do with a task.
#[derive(Debug, Subcommand)]
pub enum TasksCommand {
    /// End a task that is not over.
    Cancel {
        /// Its number.
        number: u32,
    },
}

/// List what an app ran: droplet, environment and commands, the newest first.
#[derive(Debug, Args)]
pub struct Revisions {
    /// The app.
    pub app: String,
    #[command(flatten)]
    pub listing: Listing,
}

const ROLLBACK_EXAMPLES: &str = "\
Examples:
  paas rollback shop             to what it ran before
  paas rollback shop 12          to revision 12, as `paas revisions shop` lists it";

/// Return to an earlier revision of an app, without downtime.
#[derive(Debug, Args)]
#[command(after_help = ROLLBACK_EXAMPLES)]
pub struct Rollback {
    /// The app.
    pub app: String,
    /// The revision; the newest one before that which runs where none is named.
    pub revision: Option<u32>,
    #[command(flatten)]
    pub strategy: Strategy,
    #[command(flatten)]
    pub wait: Wait,
}
