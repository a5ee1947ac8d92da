//! Arguments of the commands about feature flags and environment variable groups. Names are those of `cf`.

use super::Listing;
use clap::Args;

/// List the switches of the platform.
#[derive(Debug, Args)]
pub struct FeatureFlags {
    #[command(flatten)]
    pub listing: Listing,
}

/// Show a switch of the platform.
#[derive(Debug, Args)]
pub struct FeatureFlag {
    /// Its name.
    pub name: String,
}

/// Allow what a feature flag is about.
#[derive(Debug, Args)]
pub struct EnableFeatureFlag {
    /// Its name.
    pub name: String,
}

/// Forbid what a feature flag is about.
#[derive(Debug, Args)]
pub struct DisableFeatureFlag {
    /// Its name.
    pub name: String,
}

/// Show variables that the whole platform has.
#[derive(Debug, Args)]
pub struct ShowGroup {}

/// Set variables that the whole platform has.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  paas set-running-environment-variable-group '{\"http_proxy\": \"http://proxy:3128\"}'"
)]
pub struct SetGroup {
    /// All of them, as a JSON object, or a file that holds it.
    #[arg(value_name = "JSON")]
    pub variables: String,
}
