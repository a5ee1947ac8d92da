//! One file for each verb: from arguments to a use case, and from its result to what is shown.

mod admin;
mod app;
mod apps;
mod buildpacks;
mod builds;
mod cells;
mod completion;
mod config;
mod delete;
mod deploy;
mod doctor;
mod droplets;
mod env;
mod events;
mod exec;
mod export;
mod features;
mod login;
mod logs;
mod machines;
mod push;
mod revisions;
mod routes;
mod scale;
mod security_groups;
mod ssh;
mod stacks;
mod state;
mod target;
mod tasks;
mod tenants;
mod version;
mod why;

use self::security_groups::set_globally;
use crate::actor::Cx;
use crate::args::security::Lifecycle;
use crate::args::staging::StagingCommand;
use crate::args::{Command, Listing, Output};
use crate::errors::Error;
use crate::ui::Ui;
use crate::ui::table::Table;
use serde::Serialize;

/// Runs a command; returns the exit code of one that succeeded, which is 0 but for `exec` and `ssh`.
///
/// # Errors
/// Why the command failed.
pub async fn run(cx: &Cx, command: Command) -> Result<u8, Error> {
    match command {
        Command::Ssh(command) => return ssh::run(cx, command).await,
        Command::Login(args) => login::login(cx, args).await,
        Command::Logout(_) => login::logout(cx),
        Command::Target(args) => target::run(cx, args).await,
        Command::Push(args) => push::run(cx, &args).await,
        Command::Apps(args) => apps::run(cx, args).await,
        Command::App(args) => app::run(cx, args).await,
        Command::Logs(args) => logs::run(cx, args).await,
        Command::Events(args) => events::run(cx, args).await,
        Command::Why(args) => why::run(cx, args).await,
        Command::Scale(args) => scale::run(cx, args).await,
        Command::Restart(args) => state::restart(cx, args).await,
        Command::Start(args) => state::start(cx, args).await,
        Command::Stop(args) => state::stop(cx, args).await,
        Command::Delete(args) => delete::run(cx, args).await,
        Command::Env(args) => env::show(cx, args).await,
        Command::SetEnv(args) => env::set(cx, args).await,
        Command::UnsetEnv(args) => env::unset(cx, args).await,
        Command::MapRoute(args) => routes::map(cx, args).await,
        Command::UnmapRoute(args) => routes::unmap(cx, args).await,
        Command::Routes(args) => routes::list(cx, args).await,
        Command::Run(args) => tasks::run(cx, args).await,
        Command::Tasks(args) => tasks::tasks(cx, args).await,
        Command::Revisions(args) => revisions::list(cx, args).await,
        Command::Rollback(args) => revisions::rollback(cx, args).await,
        Command::Staging(command) => staging(cx, command).await,
        Command::Deploy(args) => deploy::run(cx, args).await,
        Command::ContinueDeployment(args) => deploy::go_on(cx, &args.app, args.detach, args.timeout).await,
        Command::CancelDeployment(args) => deploy::cancel(cx, &args.app).await,
        Command::Droplet(args) => export::run(cx, args).await,
        Command::Orgs(args) => tenants::orgs(cx, args).await,
        Command::Spaces(args) => tenants::spaces(cx, args).await,
        Command::CreateOrg(args) => tenants::create_org(cx, args).await,
        Command::CreateSpace(args) => tenants::create_space(cx, args).await,
        Command::SecurityGroups(args) => security_groups::list(cx, args).await,
        Command::SecurityGroup(args) => security_groups::one(cx, args).await,
        Command::CreateSecurityGroup(args) => security_groups::create(cx, args).await,
        Command::UpdateSecurityGroup(args) => security_groups::update(cx, args).await,
        Command::DeleteSecurityGroup(args) => security_groups::delete(cx, args).await,
        Command::BindSecurityGroup(args) => security_groups::bind(cx, args).await,
        Command::UnbindSecurityGroup(args) => security_groups::unbind(cx, args).await,
        Command::RunningSecurityGroups(args) => security_groups::globally(cx, args, Lifecycle::Running).await,
        Command::StagingSecurityGroups(args) => security_groups::globally(cx, args, Lifecycle::Staging).await,
        Command::BindRunningSecurityGroup(args) => set_globally(cx, args, Lifecycle::Running, true).await,
        Command::BindStagingSecurityGroup(args) => set_globally(cx, args, Lifecycle::Staging, true).await,
        Command::UnbindRunningSecurityGroup(args) => set_globally(cx, args, Lifecycle::Running, false).await,
        Command::UnbindStagingSecurityGroup(args) => set_globally(cx, args, Lifecycle::Staging, false).await,
        Command::FeatureFlags(args) => features::list(cx, args).await,
        Command::FeatureFlag(args) => features::one(cx, args).await,
        Command::EnableFeatureFlag(args) => features::set(cx, args.name, true).await,
        Command::DisableFeatureFlag(args) => features::set(cx, args.name, false).await,
        Command::RunningEnvironmentVariableGroup(_) => features::group(cx, "running").await,
        Command::StagingEnvironmentVariableGroup(_) => features::group(cx, "staging").await,
        Command::SetRunningEnvironmentVariableGroup(args) => features::set_group(cx, args, "running").await,
        Command::SetStagingEnvironmentVariableGroup(args) => features::set_group(cx, args, "staging").await,
        Command::Admin(args) => admin::run(cx, args).await,
        Command::Config(args) => config::run(cx, args),
        Command::Doctor(_) => doctor::run(cx).await,
        Command::Version(_) => version::run(cx).await,
        Command::Completion(args) => completion::run(cx, args),
    }
    .map(|()| 0)
}

async fn staging(cx: &Cx, command: StagingCommand) -> Result<(), Error> {
    match command {
        StagingCommand::Builds(args) => builds::run(cx, args).await,
        StagingCommand::CancelBuild(args) => builds::cancel(cx, args).await,
        StagingCommand::ClearCache(args) => builds::clear_cache(cx, args).await,
        StagingCommand::DownloadDroplet(args) => droplets::download(cx, args).await,
        StagingCommand::Buildpacks(args) => buildpacks::list(cx, args).await,
        StagingCommand::CreateBuildpack(args) => buildpacks::create(cx, args).await,
        StagingCommand::UpdateBuildpack(args) => buildpacks::update(cx, *args).await,
        StagingCommand::DeleteBuildpack(args) => buildpacks::delete(cx, args).await,
    }
}

/// The form in which a list is shown.
fn form(ui: &Ui, listing: &Listing) -> Output {
    if ui.json() { Output::Json } else { listing.output }
}

/// Shows a list: as a document, as names, or as a table.
fn show_list<T: Serialize>(
    ui: &Ui,
    listing: &Listing,
    items: &[T],
    name: impl Fn(&T) -> String,
    table: impl FnOnce(bool) -> Table,
    empty: &str,
) {
    match form(ui, listing) {
        Output::Json => ui.document(&serde_json::json!({"resources": items})),
        Output::Name => items.iter().for_each(|item| ui.out_line(&name(item))),
        form => ui.table(&table(form == Output::Wide), empty, !listing.no_headers),
    }
}
