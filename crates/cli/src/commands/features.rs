//! `paas feature-flags`, `enable-feature-flag` and the like, and the environment variable groups.

use super::show_list;
use crate::actor::Cx;
use crate::args::features::{FeatureFlag, FeatureFlags, SetGroup};
use crate::client::v3;
use crate::errors::Error;
use crate::ui::table::Table;
use serde_json::{Map, Value};

/// Longest file of variables, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

fn table(flags: &[v3::FeatureFlag]) -> Table {
    let mut table = Table::new(&["name", "state"]);
    for flag in flags {
        let state = if flag.enabled { "enabled" } else { "disabled" };
        table.row([flag.name.clone(), state.to_owned()]);
    }
    table
}

/// Lists feature flags.
pub async fn list(cx: &Cx, args: FeatureFlags) -> Result<(), Error> {
    cx.ui.doing("Getting feature flags");
    let flags = cx.client()?.feature_flags().await?;
    show_list(
        &cx.ui,
        &args.listing,
        &flags,
        |flag| flag.name.clone(),
        |_| table(&flags),
        "no feature flags",
    );
    Ok(())
}

fn show(cx: &Cx, flag: &v3::FeatureFlag) {
    if cx.ui.json() {
        cx.ui.document(flag);
        return;
    }
    let state = if flag.enabled { "enabled" } else { "disabled" };
    cx.ui.out_line(&format!("{} is {state}", flag.name));
    if let Some(message) = &flag.custom_error_message {
        cx.ui.out_line(&format!("users are told: {message}"));
    }
}

/// Shows one.
pub async fn one(cx: &Cx, args: FeatureFlag) -> Result<(), Error> {
    let flag = cx.client()?.feature_flag(&args.name).await?;
    show(cx, &flag);
    Ok(())
}

/// Sets one.
pub async fn set(cx: &Cx, name: String, enabled: bool) -> Result<(), Error> {
    cx.ui.doing(&format!("Setting {name}"));
    let flag = cx.client()?.set_feature_flag(&name, enabled).await?;
    show(cx, &flag);
    Ok(())
}

fn show_group(cx: &Cx, group: &v3::EnvironmentVariableGroup) {
    if cx.ui.json() {
        cx.ui.document(group);
        return;
    }
    let mut table = Table::new(&["name", "value"]);
    for (name, value) in &group.var {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        table.row([name.clone(), text]);
    }
    cx.ui.table(&table, "no variables", true);
}

/// Shows the variables of all that is running, or staged.
pub async fn group(cx: &Cx, name: &'static str) -> Result<(), Error> {
    cx.ui.doing(&format!("Getting the {name} environment variable group"));
    let group = cx.client()?.variable_group(name).await?;
    show_group(cx, &group);
    Ok(())
}

/// The object itself, or the file that holds it.
fn variables(text: &str) -> Result<Map<String, Value>, Error> {
    use std::io::Read as _;
    let mut read = String::new();
    let json = if text.trim_start().starts_with('{') {
        text
    } else {
        let file = std::fs::File::open(text).and_then(|file| file.take(MAX_FILE).read_to_string(&mut read));
        file.map_err(|error| Error::file("read", text, &error))?;
        &read
    };
    serde_json::from_str(json).map_err(|error| Error::Usage {
        message: format!("the variables are no JSON object: {error}"),
        hint: None,
    })
}

/// Makes the variables exactly these.
pub async fn set_group(cx: &Cx, args: SetGroup, name: &'static str) -> Result<(), Error> {
    let wanted = variables(&args.variables)?;
    cx.ui.doing(&format!("Setting the {name} environment variable group"));
    let client = cx.client()?;
    let before = client.variable_group(name).await?;
    let mut change: Map<String, Value> = before.var.into_iter().map(|(name, _)| (name, Value::Null)).collect();
    change.extend(wanted);
    let group = client.change_variable_group(name, change).await?;
    show_group(cx, &group);
    if !cx.ui.json() {
        cx.ui
            .tip("apps get them with their next start, builds with the next one");
    }
    Ok(())
}
