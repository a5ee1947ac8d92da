//! Arguments of the commands about security groups. Names and order are those of `cf`.

use super::Listing;
use clap::{Args, ValueEnum};

const RULES_HELP: &str = "\
The rules are a JSON list, such as
  [
    {\"protocol\": \"tcp\", \"destination\": \"10.0.11.0/24\", \"ports\": \"80,443\", \"description\": \"the proxy\"},
    {\"protocol\": \"udp\", \"destination\": \"10.0.12.1-10.0.12.9\", \"ports\": \"53\"},
    {\"protocol\": \"icmp\", \"destination\": \"0.0.0.0/0\", \"type\": 8, \"code\": 0, \"log\": true},
    {\"protocol\": \"all\", \"destination\": \"10.0.13.7,10.0.13.8\"}
  ]
A rule allows; what no rule of any group allows is refused. A change holds at once, for what runs too.";

/// List the security groups that you may see, with the spaces that they are bound to.
#[derive(Debug, Args)]
pub struct SecurityGroups {
    #[command(flatten)]
    pub listing: Listing,
}

/// Show the rules of a security group, and where it is in force.
#[derive(Debug, Args)]
pub struct SecurityGroup {
    /// Its name.
    #[arg(value_name = "GROUP")]
    pub group: String,
}

/// Make a security group, in force nowhere yet.
#[derive(Debug, Args)]
#[command(after_help = RULES_HELP)]
pub struct CreateSecurityGroup {
    /// Its name.
    #[arg(value_name = "GROUP")]
    pub group: String,
    /// File with its rules as JSON; - for standard input.
    #[arg(value_name = "RULES")]
    pub rules: String,
}

/// Give a security group other rules.
#[derive(Debug, Args)]
#[command(after_help = RULES_HELP)]
pub struct UpdateSecurityGroup {
    /// Its name.
    #[arg(value_name = "GROUP")]
    pub group: String,
    /// File with its rules as JSON; - for standard input.
    #[arg(value_name = "RULES")]
    pub rules: String,
}

/// Delete a security group: what only it allows is refused at once.
#[derive(Debug, Args)]
pub struct DeleteSecurityGroup {
    /// Its name.
    #[arg(value_name = "GROUP")]
    pub group: String,
    /// Do not ask.
    #[arg(short, long)]
    pub force: bool,
}

/// What a binding is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Lifecycle {
    /// Instances and tasks.
    #[default]
    Running,
    /// Builds.
    Staging,
}

/// Put a security group in force in a space, or in all spaces of an organisation.
#[derive(Debug, Args)]
#[command(after_help = "With ORG and without --space it is bound to all spaces of the organisation.")]
pub struct BindSecurityGroup {
    /// Its name.
    #[arg(value_name = "GROUP")]
    pub group: String,
    /// The organisation; where it is left out, the targeted space is meant.
    #[arg(value_name = "ORG", id = "bind_org")]
    pub org: Option<String>,
    /// What it is for.
    #[arg(long, value_enum, value_name = "USE", default_value_t)]
    pub lifecycle: Lifecycle,
}

/// Take a security group off a space.
#[derive(Debug, Args)]
pub struct UnbindSecurityGroup {
    /// Its name.
    #[arg(value_name = "GROUP")]
    pub group: String,
    /// The organisation; where it is left out, the targeted space is meant.
    #[arg(value_name = "ORG", id = "unbind_org", requires = "unbind_space")]
    pub org: Option<String>,
    /// The space.
    #[arg(value_name = "SPACE", id = "unbind_space")]
    pub space: Option<String>,
    /// What it is for.
    #[arg(long, value_enum, value_name = "USE", default_value_t)]
    pub lifecycle: Lifecycle,
}

/// A security group that is in force everywhere, or is to be.
#[derive(Debug, Args)]
pub struct Globally {
    /// Its name.
    #[arg(value_name = "GROUP")]
    pub group: String,
}
