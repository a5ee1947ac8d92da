//! `paasd`: the program that hosts run. It reads arguments and settings, and wires the roles together; what a role does
//! is its crate's.

mod config;
mod dev;
mod host;
mod install;
mod place;
mod state;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use place::Which;
use std::path::PathBuf;
use std::process::ExitCode;

/// All went well.
const DONE: u8 = 0;
/// Configuration or arguments are wrong (EX_USAGE).
const EXIT_USAGE: u8 = 64;

#[derive(Parser)]
#[command(
    name = "paasd",
    version,
    about = "The platform's daemon: controller, cell and router"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a whole platform on this machine, everything embedded. As root apps go on when it stops; without root they
    /// end with it, and are isolated less
    Dev {
        #[command(flatten)]
        settings: Settings,
        /// When ready, print one JSON document instead of a text
        #[arg(long)]
        json: bool,
    },
    /// Run a controller of a platform on many hosts
    #[command(args_conflicts_with_subcommands = true)]
    Controller {
        #[command(flatten)]
        role: Role,
        #[command(subcommand)]
        keeping: Option<Keeping>,
    },
    /// Run a router of a platform on many hosts
    #[command(args_conflicts_with_subcommands = true)]
    Router {
        #[command(flatten)]
        role: Role,
        #[command(subcommand)]
        join: Option<Join>,
    },
    /// Run a cell of a platform on many hosts. Its apps go on when it stops
    #[command(args_conflicts_with_subcommands = true)]
    Cell {
        #[command(flatten)]
        role: Role,
        #[command(subcommand)]
        join: Option<Join>,
    },
    /// Make the secrets of a new platform on many hosts: controller.json for its controllers
    Secrets {
        /// Directory to make them in
        directory: PathBuf,
        /// Also make a token that routers and cells may share in place of certificates of their own, in machine.json
        #[arg(long)]
        shared_token: bool,
        /// State directory of a platform on one machine, whose database goes on with many hosts: its keys are taken over
        #[arg(long, value_name = "DIR")]
        from: Option<PathBuf>,
    },
    /// End all apps and builds of a platform that is stopped, and remove its sandboxes and network. Its state stays
    Teardown {
        #[command(flatten)]
        settings: Settings,
    },
    /// Make and list root file systems that apps run on
    Stack {
        #[command(subcommand)]
        command: StackCommand,
    },
    /// Print the settings that are in force
    Config {
        #[command(flatten)]
        settings: Settings,
    },
}

/// What is done with a controller's database and blobs.
#[derive(Subcommand)]
enum Keeping {
    /// Write database and blobs into a folder; the platform may run meanwhile
    Backup {
        /// The folder
        folder: PathBuf,
        #[command(flatten)]
        settings: Settings,
    },
    /// Read a backup into a database and a store that no controller uses yet, of whichever kind
    Restore {
        /// The folder
        folder: PathBuf,
        #[command(flatten)]
        settings: Settings,
    },
}

impl Keeping {
    fn run(&self) -> anyhow::Result<anyhow::Result<u8>> {
        let (Self::Backup { settings, .. } | Self::Restore { settings, .. }) = self;
        let config = settings.load()?;
        let kept = match self {
            Self::Backup { folder, .. } => run(&config, |config| host::backup(config, folder.clone())),
            Self::Restore { folder, .. } => run(&config, |config| host::restore(config, folder.clone())),
        };
        Ok(kept.map(|()| DONE))
    }
}

#[derive(Subcommand)]
enum Join {
    /// Make this host a part of a platform, then run the role: its key and certificate are kept in the state directory
    Join {
        /// What `paas admin token create` printed; - reads it from standard input
        token: String,
        /// Only join: the role is started otherwise
        #[arg(long)]
        only: bool,
        #[command(flatten)]
        role: Role,
    },
}

#[derive(Subcommand)]
enum StackCommand {
    /// Make a stack from Debian packages, or a new version of one that is there; takes about a minute
    Create {
        #[command(flatten)]
        settings: Settings,
        /// Name that apps ask for it by
        name: String,
        /// Debian release
        #[arg(long, default_value = "bookworm")]
        suite: String,
        /// Packages beyond the minimum
        #[arg(long = "package", value_name = "PACKAGE")]
        packages: Vec<String>,
        /// Archive to take packages from; the one of this host where none is named
        #[arg(long, value_name = "ADDRESS")]
        mirror: Option<String>,
        /// File of keys that may sign the archive; those that this host trusts where none is named
        #[arg(long, value_name = "FILE")]
        keyring: Option<PathBuf>,
    },
}

#[derive(Args)]
struct Role {
    #[command(flatten)]
    settings: Settings,
    /// When ready, print one JSON document instead of a text
    #[arg(long)]
    json: bool,
}

impl Role {
    /// Loads the settings and runs the role; its exit code.
    fn run<F: Future<Output = anyhow::Result<()>>>(
        &self,
        role: impl FnOnce(config::Config, bool) -> F,
    ) -> anyhow::Result<anyhow::Result<u8>> {
        let config = self.settings.load()?;
        Ok(run(&config, |config| role(config, self.json)).map(|()| DONE))
    }

    /// The same, once this host has joined, where that is asked for.
    fn joined<F: Future<Output = anyhow::Result<()>>>(
        &self,
        join: Option<&Join>,
        kind: model::machine::Role,
        role: impl FnOnce(config::Config, bool) -> F,
    ) -> anyhow::Result<anyhow::Result<u8>> {
        let Some(Join::Join {
            token,
            only,
            role: given,
        }) = join
        else {
            return self.run(role);
        };
        let token = match token.as_str() {
            "-" => std::io::read_to_string(std::io::stdin()).context("failed to read the token")?,
            token => token.to_owned(),
        };
        given.run(|config, json| async move {
            host::join(&config, kind, &token).await?;
            if *only { Ok(()) } else { role(config, json).await }
        })
    }
}

#[derive(Args)]
struct Settings {
    /// File with settings that differ from the defaults
    #[arg(long, env = "PAASD_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory that everything is kept in
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// One setting, such as router.listen=127.0.0.1:8080
    #[arg(long = "set", value_name = "KEY=VALUE")]
    assignments: Vec<String>,
}

impl Settings {
    fn load(&self) -> anyhow::Result<config::Config> {
        let variables = std::env::vars().filter(|(name, _)| name != "PAASD_CONFIG");
        let mut config = config::load(self.config.as_deref(), variables, &self.assignments)?;
        if let Some(state) = &self.state {
            config.state = std::path::absolute(state).context("failed to find the state directory")?;
        } else if !nix::unistd::geteuid().is_root() {
            config::own_state(&mut config, |name| std::env::var(name).ok())?;
        }
        Ok(config)
    }
}

fn main() -> ExitCode {
    let settings = match &Arguments::parse().command {
        Command::Dev { settings, json } => settings.load().map(|config| start(&config, *json)),
        Command::Controller { role, keeping: None } => role.run(host::controller),
        Command::Controller {
            keeping: Some(keeping), ..
        } => keeping.run(),
        Command::Router { role, join } => role.joined(join.as_ref(), model::machine::Role::Router, host::router),
        Command::Cell { role, join } => role.joined(join.as_ref(), model::machine::Role::Cell, host::cell),
        Command::Secrets {
            directory,
            shared_token,
            from,
        } => Ok(state::create_shared(directory, *shared_token, from.as_deref()).map(|()| DONE)),
        Command::Teardown { settings } => settings.load().map(|config| tear_down(&config)),
        Command::Stack {
            command:
                StackCommand::Create {
                    settings,
                    name,
                    suite,
                    packages,
                    mirror,
                    keyring,
                },
        } => settings.load().map(|config| {
            let wanted = dev::Wanted {
                name,
                suite,
                packages,
                mirror: mirror.clone(),
                keyring: keyring.clone(),
            };
            run(&config, |config| dev::create_stack(config, wanted)).map(|()| DONE)
        }),
        Command::Config { settings } => settings.load().map(|config| print_config(&config).map(|()| DONE)),
    };
    match settings {
        Ok(Ok(code)) => ExitCode::from(code),
        Ok(Err(error)) => fail(&error, 1),
        Err(error) => fail(&error, EXIT_USAGE),
    }
}

/// Runs a platform; its exit code.
fn start(config: &config::Config, json: bool) -> anyhow::Result<u8> {
    match place::enter(place::Sockets::open(config)?)? {
        Which::Caller(code) => Ok(code),
        Which::Daemon(sockets, caller) => {
            let place = place::Place { sockets, caller };
            run(config, |config| dev::run(config, place, json)).map(|()| DONE)
        }
    }
}

/// Removes what a platform left; the exit code.
fn tear_down(config: &config::Config) -> anyhow::Result<u8> {
    match place::enter(())? {
        Which::Caller(code) => Ok(code),
        Which::Daemon((), _) => run(config, dev::teardown).map(|()| DONE),
    }
}

/// Sets up what every role needs, then runs it to its end.
fn run<F: Future<Output = anyhow::Result<()>>>(
    config: &config::Config,
    role: impl FnOnce(config::Config) -> F,
) -> anyhow::Result<()> {
    telemetry::install(&config.log, telemetry::Format::Auto)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(role(config.clone()));
    // Blocking work under way is bounded by its own deadlines; an exit does not wait for it.
    runtime.shutdown_background();
    result
}

#[allow(clippy::print_stdout, reason = "the settings are this command's result")]
fn print_config(config: &config::Config) -> anyhow::Result<()> {
    print!(
        "{}",
        toml::to_string_pretty(config).context("failed to print the settings")?
    );
    Ok(())
}

#[allow(clippy::print_stderr, reason = "the last word of a program that failed")]
fn fail(error: &anyhow::Error, code: u8) -> ExitCode {
    eprintln!("paasd: {error:#}");
    ExitCode::from(code)
}
