//! `paas config`.

use crate::actor::{Cx, missing};
use crate::args::platform::{ConfigArgs, ConfigCommand};
use crate::config::file::UserFile;
use crate::errors::Error;
use crate::ui::table::Table;
use serde_json::json;

/// Shows or changes the configuration.
pub fn run(cx: &Cx, args: ConfigArgs) -> Result<(), Error> {
    match args.command {
        ConfigCommand::Explain => explain(cx),
        ConfigCommand::Contexts => contexts(cx),
        ConfigCommand::Use { name } => use_context(cx, &name),
    }
}

fn explain(cx: &Cx) -> Result<(), Error> {
    let config = cx.config()?;
    if cx.ui.json() {
        cx.ui.document(&json!({"settings": config.settings}));
        return Ok(());
    }
    let mut table = Table::new(&["setting", "value", "source"]);
    for setting in &config.settings {
        table.row([
            setting.key.to_owned(),
            setting.value.clone().unwrap_or_else(|| "-".into()),
            setting.source.clone(),
        ]);
    }
    cx.ui.table(&table, "no settings", true);
    Ok(())
}

fn contexts(cx: &Cx) -> Result<(), Error> {
    let config = cx.config()?;
    let user = UserFile::read(&config.user_path)?;
    if cx.ui.json() {
        let all: Vec<_> = user
            .contexts
            .iter()
            .map(|(name, context)| json!({"name": name, "api": context.api, "user": context.username, "current": *name == config.context_name}))
            .collect();
        cx.ui.document(&json!({"contexts": all}));
        return Ok(());
    }
    let mut table = Table::new(&["", "name", "api", "user", "org", "space"]);
    for (name, context) in &user.contexts {
        let mark = if *name == config.context_name { "*" } else { "" };
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        table.row([
            mark.to_owned(),
            name.clone(),
            context.api.clone(),
            text(&context.username),
            text(&context.org),
            text(&context.space),
        ]);
    }
    cx.ui.table(&table, "no contexts yet; `paas login` makes one", true);
    Ok(())
}

fn use_context(cx: &Cx, name: &str) -> Result<(), Error> {
    let path = cx.env.config_dir().join("config.toml");
    let user = UserFile::read(&path)?;
    if !user.contexts.contains_key(name) {
        let names: Vec<String> = user.contexts.into_keys().collect();
        return Err(missing("context", name, &path.display().to_string(), &names));
    }
    UserFile::update(&path, |file| file.current = Some(name.to_owned()))?;
    if cx.ui.json() {
        cx.ui.document(&json!({"context": name}));
    } else {
        cx.ui.out_line(&format!("context {name} is used from now on"));
    }
    Ok(())
}
