//! `paas buildpacks` and what makes, changes and deletes them.

use super::show_list;
use crate::actor::{Cx, missing};
use crate::args::staging::{Buildpacks, CreateBuildpack, DeleteBuildpack, UpdateBuildpack, Which};
use crate::client::Client;
use crate::client::wire_staging::Buildpack;
use crate::errors::Error;
use crate::source::{scan, zip};
use crate::ui::table::Table;
use serde_json::{Map, Value, json};
use std::path::Path;

/// Lists them in their order.
pub async fn list(cx: &Cx, args: Buildpacks) -> Result<(), Error> {
    cx.ui.doing("Getting buildpacks");
    let all = cx.client()?.buildpacks().await?;
    show_list(
        &cx.ui,
        &args.listing,
        &all,
        |one| one.name.clone(),
        |wide| table(&all, wide),
        "no buildpacks",
    );
    Ok(())
}

fn table(all: &[Buildpack], wide: bool) -> Table {
    let mut header = vec!["position", "name", "stack", "state", "filename"];
    header.extend(wide.then_some("guid"));
    let mut table = Table::new(&header).right(0);
    for one in all {
        let mut row = vec![
            one.position.to_string(),
            one.name.clone(),
            one.stack.clone().unwrap_or_default(),
            state(one),
            one.filename.clone().unwrap_or_default(),
        ];
        row.extend(wide.then(|| one.guid.clone()));
        table.row(row);
    }
    table
}

/// Whether it is used, and whether it can be changed.
fn state(one: &Buildpack) -> String {
    let used = match (one.state.as_str(), one.enabled) {
        ("AWAITING_UPLOAD", _) => "without contents",
        (_, true) => "enabled",
        (_, false) => "disabled",
    };
    if one.locked {
        format!("{used}, locked")
    } else {
        used.to_owned()
    }
}

/// The one that is meant; where several have its name, the stack tells which.
async fn found(client: &Client, which: &Which) -> Result<Buildpack, Error> {
    let all = client.buildpacks().await?;
    let names: Vec<String> = all.iter().map(|one| one.name.clone()).collect();
    let of_name = all.into_iter().filter(|one| one.name == which.name);
    let mut fitting: Vec<Buildpack> = of_name
        .filter(|one| which.stack.is_none() || one.stack == which.stack)
        .collect();
    match fitting.len() {
        0 => Err(missing("buildpack", &which.name, client.api(), &names)),
        1 => Ok(fitting.remove(0)),
        _ => Err(Error::usage(format!(
            "several buildpacks are named {}: name the stack with --stack",
            which.name
        ))),
    }
}

/// The archive at `path`, or one of the folder there, and how it is called.
fn bits(path: &Path) -> Result<(std::fs::File, String), Error> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if !path.is_dir() {
        let file = std::fs::File::open(path).map_err(|error| Error::file("read", path, &error))?;
        return Ok((file, name));
    }
    let tree = scan::scan(path)?;
    let files: Vec<_> = tree.files.iter().collect();
    let (file, _) = zip::pack(&files, &tree.links, &tree.empty_folders)?;
    Ok((file, format!("{name}.zip")))
}

/// Adds one. Where its contents are refused, it is not there afterwards.
pub async fn create(cx: &Cx, args: CreateBuildpack) -> Result<(), Error> {
    cx.ui.doing(&format!("Creating buildpack {}", args.name));
    let (file, filename) = bits(&cx.env.cwd.join(&args.path))?;
    let client = cx.client()?;
    let body = json!({"name": args.name, "position": args.position, "enabled": !args.disable, "stack": args.stack});
    let made = client.create_buildpack(body).await?;
    if let Err(error) = client.fill_buildpack(&made.guid, &file, &filename).await {
        let _ = client.delete_buildpack(&made.guid).await;
        return Err(error);
    }
    show(cx, &client, &made.guid, "is there").await
}

/// Changes one.
pub async fn update(cx: &Cx, args: UpdateBuildpack) -> Result<(), Error> {
    cx.ui.doing(&format!("Changing buildpack {}", args.which.name));
    let file = args
        .path
        .as_ref()
        .map(|path| bits(&cx.env.cwd.join(path)))
        .transpose()?;
    let client = cx.client()?;
    let one = found(&client, &args.which).await?;
    // One that was locked takes contents only after it is unlocked, and one that is to be locked only before.
    let (before, after) = changes(&args);
    if !before.is_empty() {
        client.update_buildpack(&one.guid, Value::Object(before)).await?;
    }
    if let Some((file, filename)) = &file {
        client.fill_buildpack(&one.guid, file, filename).await?;
    }
    if !after.is_empty() {
        client.update_buildpack(&one.guid, Value::Object(after)).await?;
    }
    show(cx, &client, &one.guid, "is changed").await
}

/// What is changed before new contents come, and what after.
fn changes(args: &UpdateBuildpack) -> (Map<String, Value>, Map<String, Value>) {
    let (mut before, mut after) = (Map::new(), Map::new());
    if args.unlock {
        before.insert("locked".to_owned(), json!(false));
    }
    if let Some(stack) = &args.assign_stack {
        before.insert("stack".to_owned(), json!(stack));
    }
    if let Some(name) = &args.rename {
        after.insert("name".to_owned(), json!(name));
    }
    if let Some(position) = args.position {
        after.insert("position".to_owned(), json!(position));
    }
    if args.enable || args.disable {
        after.insert("enabled".to_owned(), json!(args.enable));
    }
    if args.lock {
        after.insert("locked".to_owned(), json!(true));
    }
    (before, after)
}

async fn show(cx: &Cx, client: &Client, guid: &str, what: &str) -> Result<(), Error> {
    let all = client.buildpacks().await?;
    let Some(one) = all.into_iter().find(|one| one.guid == guid) else {
        return Ok(());
    };
    if cx.ui.json() {
        cx.ui.document(&one);
    } else {
        cx.ui.out_line(&format!(
            "{} {what}: position {}, {}",
            one.name,
            one.position,
            state(&one)
        ));
    }
    Ok(())
}

/// Deletes one.
pub async fn delete(cx: &Cx, args: DeleteBuildpack) -> Result<(), Error> {
    cx.ui.doing(&format!("Deleting buildpack {}", args.which.name));
    let client = cx.client()?;
    let one = found(&client, &args.which).await?;
    if !args.force {
        cx.ui
            .confirm(&format!("This deletes the buildpack {}", one.name), &one.name)
            .await?;
    }
    client.delete_buildpack(&one.guid).await?;
    if cx.ui.json() {
        cx.ui.document(&one);
    } else {
        cx.ui.out_line(&format!("buildpack {} is deleted", one.name));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::staging::StagingCommand;
    use crate::args::{Cli, Command};
    use clap::Parser as _;

    fn update(arguments: &[&str]) -> (Map<String, Value>, Map<String, Value>) {
        let all = ["paas", "update-buildpack", "b"].iter().chain(arguments);
        match Cli::try_parse_from(all).expect("parses").command {
            Command::Staging(StagingCommand::UpdateBuildpack(args)) => changes(&args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn locks_are_opened_before_and_closed_after_new_contents() {
        let (before, after) = update(&["--unlock", "--disable", "-i", "3"]);
        assert_eq!(Value::Object(before), json!({"locked": false}));
        assert_eq!(Value::Object(after), json!({"enabled": false, "position": 3}));
        let (before, after) = update(&["--lock", "--rename", "c"]);
        assert!(before.is_empty());
        assert_eq!(Value::Object(after), json!({"name": "c", "locked": true}));
    }

    #[test]
    fn the_list_says_what_is_used() {
        let one = |state: &str, enabled: bool, locked: bool| -> Buildpack {
            serde_json::from_value(json!({
                "guid": "g", "name": "theirs", "position": 1, "state": state, "enabled": enabled, "locked": locked,
            }))
            .expect("reads")
        };
        assert_eq!(state(&one("READY", true, true)), "enabled, locked");
        assert_eq!(state(&one("READY", false, false)), "disabled");
        assert_eq!(state(&one("AWAITING_UPLOAD", true, false)), "without contents");
        assert!(
            table(&[one("READY", true, false)], true)
                .render(false, None)
                .contains("theirs")
        );
    }

    #[test]
    fn a_folder_becomes_an_archive() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("bin")).expect("a folder");
        std::fs::write(folder.path().join("bin/detect"), "#!/bin/sh\n").expect("a file");
        let (file, name) = bits(folder.path()).expect("packed");
        assert!(name.ends_with(".zip") && file.metadata().expect("its size").len() > 20);
        assert!(bits(Path::new("/nowhere.zip")).is_err());
    }
}
