//! Arguments of the commands about sessions inside instances. Flags are those of `cf`.

use clap::{Args, Subcommand};
use std::net::IpAddr;
use std::str::FromStr;

const SSH_EXAMPLES: &str = "\
Examples:
  paas ssh shop                          a shell in the first instance
  paas ssh shop -i 1 -c 'ls -l'          a command in the second; ends with its exit code
  paas ssh shop -N -L 9229:localhost:9229
                                         port 9229 here is port 9229 in the instance, until Ctrl-C
  paas ssh shop -c 'tar c logs' > logs.tar

With ssh, scp and sftp: the address is what `paas doctor` or the API's root document says (app_ssh), the user
cf:PROCESS-GUID/INDEX, and the password what `paas ssh-code` prints.";

/// The commands about sessions.
#[derive(Debug, Subcommand)]
pub enum SshCommand {
    Exec(super::app::Exec),
    Ssh(Ssh),
    SshCode(SshCode),
    SshEnabled(SshEnabled),
    EnableSsh(EnableSsh),
    DisableSsh(DisableSsh),
    SpaceSshAllowed(SpaceSshAllowed),
    AllowSpaceSsh(AllowSpaceSsh),
    DisallowSpaceSsh(DisallowSpaceSsh),
}

/// Open a shell in an instance, run a command there, or reach what listens there.
#[derive(Debug, Args)]
#[command(after_help = SSH_EXAMPLES)]
pub struct Ssh {
    /// The app.
    pub app: String,
    /// The process.
    #[arg(long, value_name = "TYPE", default_value = "web")]
    pub process: String,
    /// The instance.
    #[arg(
        short,
        long = "app-instance-index",
        visible_alias = "instance",
        value_name = "INDEX",
        default_value_t = 0
    )]
    pub index: u32,
    /// A command, which a shell reads; a shell of its own where there is none.
    #[arg(short, long, value_name = "COMMAND")]
    pub command: Option<String>,
    /// Connect a port here with one that is reached from inside the instance; may be given more than once.
    #[arg(short = 'L', value_name = "[ADDRESS:]PORT:HOST:PORT")]
    pub forward: Vec<Forward>,
    /// Run nothing, only connect ports.
    #[arg(short = 'N', long = "skip-remote-execution", conflicts_with = "command")]
    pub nothing: bool,
    /// A terminal, although a command is run.
    #[arg(short = 't', long = "request-pseudo-tty", conflicts_with = "no_tty")]
    pub tty: bool,
    /// No terminal even where there is one.
    #[arg(short = 'T', long = "disable-pseudo-tty")]
    pub no_tty: bool,
}

/// Print a one-time code, which is the password of the next connection by SSH.
#[derive(Debug, Args)]
pub struct SshCode {}

/// Say whether people may have sessions in an app's instances.
#[derive(Debug, Args)]
pub struct SshEnabled {
    /// The app.
    pub app: String,
}

/// Let people have sessions in an app's instances.
#[derive(Debug, Args)]
pub struct EnableSsh {
    /// The app.
    pub app: String,
}

/// Let nobody have sessions in an app's instances.
#[derive(Debug, Args)]
pub struct DisableSsh {
    /// The app.
    pub app: String,
}

/// Say whether people may have sessions in the apps of a space.
#[derive(Debug, Args)]
pub struct SpaceSshAllowed {
    /// The space.
    #[arg(value_name = "SPACE")]
    pub name: String,
}

/// Let people have sessions in the apps of a space.
#[derive(Debug, Args)]
pub struct AllowSpaceSsh {
    /// The space.
    #[arg(value_name = "SPACE")]
    pub name: String,
}

/// Let nobody have sessions in the apps of a space.
#[derive(Debug, Args)]
pub struct DisallowSpaceSsh {
    /// The space.
    #[arg(value_name = "SPACE")]
    pub name: String,
}

/// A port here and what it leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// Where to listen; this machine alone where nothing is said.
    pub address: IpAddr,
    pub port: u16,
    /// As the instance would reach it: `host:port`.
    pub target: String,
}

/// Takes a host from the front, in brackets where it is an IPv6 address, and the colon after it.
fn host(text: &str) -> Option<(&str, &str)> {
    match text.strip_prefix('[') {
        Some(rest) => rest.split_once("]:"),
        None => text.split_once(':'),
    }
}

impl FromStr for Forward {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "it is written [ADDRESS:]PORT:HOST:PORT".to_owned();
        let (first, rest) = host(text).ok_or_else(wrong)?;
        // A port in front means that there is no address.
        let (address, port, rest) = match first.parse::<u16>() {
            Ok(port) => ("127.0.0.1", port, rest),
            Err(_) => {
                let (port, rest) = rest.split_once(':').ok_or_else(wrong)?;
                (first, port.parse().map_err(|_| wrong())?, rest)
            }
        };
        let address = match address {
            "localhost" => "127.0.0.1",
            "*" | "" => "0.0.0.0",
            address => address,
        };
        let address = address.parse().map_err(|_| format!("{address} is no address"))?;
        let (host, to) = host(rest).ok_or_else(wrong)?;
        let to: u16 = to.parse().map_err(|_| wrong())?;
        if host.is_empty() || to == 0 {
            return Err(wrong());
        }
        Ok(Self {
            address,
            port,
            target: format!("{host}:{to}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_written_as_for_ssh() {
        for (text, address, port, target) in [
            ("8080:localhost:80", "127.0.0.1", 8080, "localhost:80"),
            ("0:db.internal:5432", "127.0.0.1", 0, "db.internal:5432"),
            ("*:1:h:2", "0.0.0.0", 1, "h:2"),
            ("localhost:1:h:2", "127.0.0.1", 1, "h:2"),
            ("[::1]:1:[fd00::2]:2", "::1", 1, "fd00::2:2"),
        ] {
            let forward: Forward = text.parse().expect(text);
            assert_eq!(
                (forward.address.to_string(), forward.port),
                (address.to_owned(), port),
                "{text}"
            );
            assert_eq!(forward.target, target);
        }
        for text in [
            "",
            "80",
            "80:host",
            "80::80",
            "80:host:0",
            "80:host:x",
            "a:b:c:d",
            "70000:h:1",
        ] {
            assert!(text.parse::<Forward>().is_err(), "{text}");
        }
    }
}
