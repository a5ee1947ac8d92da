//! The command line's grammar and its help. What commands do is in `commands`.

pub mod app;
pub mod features;
pub mod image;
pub mod platform;
pub mod push;
pub mod security;
pub mod ssh;
pub mod staging;

use clap::{Args, Parser, Subcommand, ValueEnum};

const AFTER: &str = "\
Examples:
  paas push                        push the app in this folder
  paas push ./shop -i 3 -m 256M    three instances with 256 MB each
  paas logs shop -f                its log as it is written
  paas why shop                    why it is not running

Exit codes: 0 ok, 1 the deploy or app failed, 2 usage, 3 not authenticated or forbidden, 4 not found, 5 conflict,
6 timed out with the outcome unknown, 7 server unreachable, 75 transient and worth retrying, 130 interrupted.
Results go to standard output, everything else to standard error. Settings come from flags, PAAS_* variables, the
project file .paas.toml and the user file, in this order: `paas config explain` shows which.";

/// Push apps and look after them.
#[derive(Debug, Parser)]
#[command(name = "paas", version, about, after_help = AFTER, max_term_width = 100, subcommand_required = true,
    arg_required_else_help = true, disable_help_subcommand = false)]
pub struct Cli {
    #[command(flatten)]
    pub globals: Globals,
    #[command(subcommand)]
    pub command: Command,
}

/// Flags that every command has.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Everywhere")]
#[allow(clippy::struct_excessive_bools, reason = "they are switches")]
pub struct Globals {
    /// Print the result as one JSON document; streams print one a line.
    #[arg(long, global = true)]
    pub json: bool,
    /// Print results only.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Say more about what is done.
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// Show requests and answers, secrets masked.
    #[arg(long, global = true)]
    pub trace: bool,
    /// When to use colours.
    #[arg(long, global = true, value_enum, value_name = "WHEN")]
    pub color: Option<ColorWhen>,
    /// The context to use, as `paas login --context` named it.
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// The organisation to use.
    #[arg(long, global = true, value_name = "NAME")]
    pub org: Option<String>,
    /// The space to use.
    #[arg(long, global = true, value_name = "NAME")]
    pub space: Option<String>,
    /// Answer questions about destruction by yes.
    #[arg(short, long, global = true)]
    pub yes: bool,
    /// Fail rather than ask.
    #[arg(long, global = true)]
    pub no_input: bool,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ColorWhen {
    Auto,
    Always,
    Never,
}

/// How lists are printed.
#[derive(Debug, Clone, Default, Args)]
pub struct Listing {
    /// The form of the list.
    #[arg(short, long, value_enum, value_name = "FORM", default_value_t)]
    pub output: Output,
    /// Leave the header out.
    #[arg(long)]
    pub no_headers: bool,
}

/// Forms of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Output {
    /// Aligned columns.
    #[default]
    Table,
    /// More columns.
    Wide,
    /// One JSON document.
    Json,
    /// Names, one a line.
    Name,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    Login(platform::Login),
    Logout(platform::Logout),
    Target(platform::Target),
    Push(Box<push::Push>),
    Apps(app::Apps),
    App(app::App),
    Logs(app::Logs),
    Events(app::Events),
    Why(app::Why),
    Scale(app::Scale),
    Restart(app::Restart),
    Start(app::Start),
    Stop(app::Stop),
    Delete(app::Delete),
    Env(app::Env),
    SetEnv(app::SetEnv),
    UnsetEnv(app::UnsetEnv),
    MapRoute(app::MapRoute),
    UnmapRoute(app::UnmapRoute),
    Routes(app::Routes),
    #[command(flatten)]
    Ssh(ssh::SshCommand),
    Run(app::Run),
    Tasks(app::Tasks),
    Revisions(app::Revisions),
    Rollback(app::Rollback),
    #[command(flatten)]
    Staging(staging::StagingCommand),
    Deploy(push::Deploy),
    ContinueDeployment(push::ContinueDeployment),
    CancelDeployment(push::CancelDeployment),
    Droplet(image::Droplet),
    Orgs(platform::Orgs),
    Spaces(platform::Spaces),
    CreateOrg(platform::CreateOrg),
    CreateSpace(platform::CreateSpace),
    SecurityGroups(security::SecurityGroups),
    SecurityGroup(security::SecurityGroup),
    CreateSecurityGroup(security::CreateSecurityGroup),
    UpdateSecurityGroup(security::UpdateSecurityGroup),
    DeleteSecurityGroup(security::DeleteSecurityGroup),
    BindSecurityGroup(security::BindSecurityGroup),
    UnbindSecurityGroup(security::UnbindSecurityGroup),
    /// List the security groups in force everywhere for instances and tasks.
    RunningSecurityGroups(security::SecurityGroups),
    /// List the security groups in force everywhere for builds.
    StagingSecurityGroups(security::SecurityGroups),
    /// Put a security group in force everywhere for instances and tasks.
    BindRunningSecurityGroup(security::Globally),
    /// Put a security group in force everywhere for builds.
    BindStagingSecurityGroup(security::Globally),
    /// Let a security group no longer be in force everywhere for instances and tasks.
    UnbindRunningSecurityGroup(security::Globally),
    /// Let a security group no longer be in force everywhere for builds.
    UnbindStagingSecurityGroup(security::Globally),
    FeatureFlags(features::FeatureFlags),
    FeatureFlag(features::FeatureFlag),
    EnableFeatureFlag(features::EnableFeatureFlag),
    DisableFeatureFlag(features::DisableFeatureFlag),
    /// Show the variables that all instances and tasks get.
    RunningEnvironmentVariableGroup(features::ShowGroup),
    /// Show the variables that all builds get.
    StagingEnvironmentVariableGroup(features::ShowGroup),
    /// Set the variables that all instances and tasks get; those that are not named go.
    SetRunningEnvironmentVariableGroup(features::SetGroup),
    /// Set the variables that all builds get; those that are not named go.
    SetStagingEnvironmentVariableGroup(features::SetGroup),
    Admin(platform::Admin),
    Config(platform::ConfigArgs),
    Doctor(platform::Doctor),
    Version(platform::Version),
    Completion(platform::Completion),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_grammar_holds() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_and_flag_has_help() {
        fn check(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{} says nothing", command.get_name());
            for arg in command.get_arguments() {
                assert!(
                    arg.get_help().is_some(),
                    "{} {} says nothing",
                    command.get_name(),
                    arg.get_id()
                );
            }
            command
                .get_subcommands()
                .filter(|sub| sub.get_name() != "help")
                .for_each(check);
        }
        let mut command = Cli::command();
        command.build();
        check(&command);
    }

    #[test]
    fn a_mistyped_command_is_answered_with_the_likely_one() {
        let error = Cli::try_parse_from(["paas", "psuh"]).expect_err("unknown");
        assert!(error.to_string().contains("'push'"), "{error}");
    }
}
