//! Arguments of `droplet`.

use clap::{Args, Subcommand};
use std::path::PathBuf;

const EXPORT_EXAMPLES: &str = "\
Examples:
  paas droplet export shop --base debian:12-slim --output shop.tar
  paas droplet export shop --base ./base-layout --to registry.example.com/team/shop:1.2

What comes out is an OCI image: with its runtime, dependencies and app as layers of their own, whose digests stay the same
as long as the droplet does. What the platform's stack has, the image needs below it: --base names an image for that, in a
registry or on this machine; `scratch` stands for nothing. An app that is an image needs none.

Passwords: PAAS_REGISTRY_PASSWORD with --username. Registries in PAAS_INSECURE_REGISTRIES are spoken to without TLS.";

/// Take an app's droplet elsewhere.
#[derive(Debug, Args)]
pub struct Droplet {
    #[command(subcommand)]
    pub command: DropletCommand,
}

/// What to do with a droplet.
#[derive(Debug, Subcommand)]
pub enum DropletCommand {
    Export(Box<Export>),
}

/// Save an app's droplet as an image, or push it to a registry.
#[derive(Debug, Args)]
#[command(after_help = EXPORT_EXAMPLES)]
pub struct Export {
    /// The app.
    pub app: String,
    /// Folder or archive (.tar) to write; must not be there yet.
    #[arg(short, long, value_name = "DIR|TAR", required_unless_present = "to")]
    pub output: Option<PathBuf>,
    /// Where to push the image, such as registry.example.com/team/shop:1.2.
    #[arg(long, value_name = "IMAGE")]
    pub to: Option<String>,
    /// Image below the droplet: a layout, an archive of one, an image in a registry, or `scratch`.
    #[arg(long, value_name = "DIR|TAR|IMAGE")]
    pub base: Option<String>,
    /// Name at the registries.
    #[arg(short, long, value_name = "NAME")]
    pub username: Option<String>,
}
