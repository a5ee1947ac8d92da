//! Arguments of the commands about logins, tenants, operators and the program itself.

use super::Listing;
use clap::{Args, Subcommand};
use clap_complete::Shell;

const LOGIN_EXAMPLES: &str = "\
Examples:
  paas login https://api.example.com -u ann          asks for the password
  paas login -u ann < password.txt                   the API of the present context, password from standard input
  paas login https://api.example.com --sso           asks for a one-time code, which a page of the platform shows
  paas login https://api.example.com --device        shows a code to allow the log-in with on another device
  paas login https://api.example.com --context prod  a second platform beside the first

Where a platform runs on this machine (`paasd dev`) no login is needed.";

/// Log in to a platform.
#[derive(Debug, Args)]
#[command(after_help = LOGIN_EXAMPLES)]
pub struct Login {
    /// Address of the API; the present context's where it is left out.
    #[arg(value_name = "API")]
    pub api: Option<String>,
    /// User name; asked for where it is left out.
    #[arg(short, long, value_name = "USER")]
    pub username: Option<String>,
    /// Read the password, or the one-time code, from standard input; also done where that is no terminal.
    #[arg(short, long)]
    pub password_stdin: bool,
    /// Log in with a one-time code, which a page of the platform shows.
    #[arg(long, conflicts_with_all = ["username", "device"])]
    pub sso: bool,
    /// Log in by a browser on another device.
    #[arg(long, conflicts_with = "username")]
    pub device: bool,
}

/// Forget the tokens of the present context.
#[derive(Debug, Args)]
pub struct Logout {}

/// Show or choose the organisation and the space that commands work in.
#[derive(Debug, Args)]
pub struct Target {
    /// The organisation; its only space is chosen with it.
    #[arg(short = 'o', value_name = "ORG", id = "target_org")]
    pub org: Option<String>,
    /// The space.
    #[arg(short = 's', value_name = "SPACE", id = "target_space")]
    pub space: Option<String>,
}

/// List the organisations that you may see.
#[derive(Debug, Args)]
pub struct Orgs {
    #[command(flatten)]
    pub listing: Listing,
}

/// List the spaces of the organisation.
#[derive(Debug, Args)]
pub struct Spaces {
    #[command(flatten)]
    pub listing: Listing,
}

/// Make an organisation.
#[derive(Debug, Args)]
pub struct CreateOrg {
    /// Its name.
    pub name: String,
}

/// Make a space.
#[derive(Debug, Args)]
pub struct CreateSpace {
    /// Its name.
    pub name: String,
    /// The organisation; the targeted one where it is left out.
    #[arg(short = 'o', value_name = "ORG", id = "of_org")]
    pub org: Option<String>,
}

/// For operators of the platform.
#[derive(Debug, Args)]
pub struct Admin {
    #[command(subcommand)]
    pub command: AdminCommand,
}

/// What operators do.
#[derive(Debug, Subcommand)]
pub enum AdminCommand {
    /// List the hosts that run apps, or keep new work away from one.
    Cells {
        #[command(flatten)]
        listing: Listing,
        #[command(subcommand)]
        action: Option<CellAction>,
    },
    /// Make, list and delete tokens that hosts join the platform with.
    Token {
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// List the hosts that joined with a token, or remove one.
    Machines {
        #[command(flatten)]
        listing: Listing,
        #[command(subcommand)]
        action: Option<MachineAction>,
    },
    /// List the stacks with the apps that ask for them.
    Stacks {
        #[command(flatten)]
        listing: Listing,
    },
    /// Replace the instances of all apps of a stack, so that they run on its newest version; nothing is built.
    RollStack(RollStack),
    /// Sign access tokens with a new key from now on.
    ///
    /// The platform does so by itself now and then. Tokens by earlier keys stay valid until they are over.
    RotateKeys {
        /// End all tokens by earlier keys at once: everybody gets a new one, which takes no log-in.
        #[arg(long)]
        revoke: bool,
    },
}

const TOKEN_EXAMPLES: &str = "\
Examples:
  paas admin token create --role cell                     good for one host, for an hour
  paas admin token create --role router --expires 10m --label rack-7
  paasd cell join TOKEN                                   on the new host, and nothing else

The token is shown once. It names the platform's controllers and its authority, so the new host needs to know nothing else.";

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make one that one host joins with, once.
    #[command(after_help = TOKEN_EXAMPLES)]
    Create {
        /// What the host is to be: cell or router.
        #[arg(long, value_parser = ["cell", "router"])]
        role: String,
        /// How long it is good, such as 10m or 1h.
        #[arg(long, value_name = "TIME", value_parser = crate::ui::format::parse_duration, default_value = "1h")]
        expires: std::time::Duration,
        /// What to remember it and the host by.
        #[arg(long, value_name = "TEXT", default_value = "")]
        label: String,
        /// Most memory that the cell may offer, in MiB; whatever it says, where left out.
        #[arg(long, value_name = "MIB")]
        max_memory: Option<u64>,
    },
    /// List those that may be used, and those that were.
    List {
        #[command(flatten)]
        listing: Listing,
    },
    /// Delete one, so that nobody joins with it.
    Delete {
        /// Its id.
        id: String,
    },
}

/// What to do with a host that joined.
#[derive(Debug, Subcommand)]
pub enum MachineAction {
    /// End a host's certificates: it is no part of the platform any more, and what ran there is placed elsewhere.
    Revoke {
        /// Its name or id.
        machine: String,
    },
}

const ROLL_EXAMPLES: &str = "\
Examples:
  paasd stack create debian12            make a new version of a stack, on each host that runs apps
  paas admin roll-stack debian12         and bring over what runs, four apps at once

An app goes over by a rollout as any other: its old instances serve until new ones are healthy. One that fails keeps
what it has, and the others go on.";

/// Which stack, and how fast.
#[derive(Debug, Args)]
#[command(after_help = ROLL_EXAMPLES)]
pub struct RollStack {
    /// The stack.
    pub stack: String,
    /// Apps that are rolled at once.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub parallel: u32,
    /// Longest time to wait for one app, such as 90s or 15m.
    #[arg(long, value_name = "TIME", value_parser = crate::ui::format::parse_duration, default_value = "15m")]
    pub timeout: std::time::Duration,
}

/// What to do with a cell.
#[derive(Debug, Subcommand)]
pub enum CellAction {
    /// Give a cell no new work; what it has stays.
    Cordon {
        /// Its name or id.
        cell: String,
    },
    /// Show a cell with all that it runs.
    Show {
        /// Its name or id.
        cell: String,
    },
    /// Give a cell no new work, and move its instances elsewhere, a few at a time; none is missed meanwhile.
    Drain {
        /// Its name or id.
        cell: String,
        /// Instances that move at once.
        #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000))]
        at_once: u32,
        /// Do not wait until it is empty.
        #[arg(long)]
        no_wait: bool,
        /// Longest time to wait, such as 90s or 15m; it goes on beyond.
        #[arg(long, value_name = "TIME", value_parser = crate::ui::format::parse_duration, default_value = "15m")]
        timeout: std::time::Duration,
    },
    /// Forget a cell for good. One that is alive has to be drained first.
    Remove {
        /// Its name or id.
        cell: String,
    },
    /// Give a cell new work again.
    Uncordon {
        /// Its name or id.
        cell: String,
    },
}

/// Show where settings come from, and choose among contexts.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    pub command: ConfigCommand,
}

/// What to do with the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Show each setting with its value and where it comes from.
    Explain,
    /// List the contexts.
    Contexts,
    /// Use another context from now on.
    Use {
        /// The context.
        name: String,
    },
}

/// Find out what stands between you and a push.
#[derive(Debug, Args)]
pub struct Doctor {}

/// Show the versions of this program and of the server.
#[derive(Debug, Args)]
pub struct Version {}

/// Print a script that completes commands in a shell.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  paas completion bash > ~/.local/share/bash-completion/completions/paas")]
pub struct Completion {
    /// The shell.
    pub shell: Shell,
}
