//! `paas orgs`, `paas spaces`, `paas create-org` and `paas create-space`.

use super::show_list;
use crate::actor::{Cx, missing};
use crate::args::platform::{CreateOrg, CreateSpace, Orgs, Spaces};
use crate::client::Client;
use crate::client::wire::Named;
use crate::errors::Error;
use crate::ui::table::Table;
use serde_json::json;

fn names(all: &[Named]) -> Table {
    let mut table = Table::new(&["name"]);
    all.iter().for_each(|one| table.row([one.name.clone()]));
    table
}

/// Lists organisations.
pub async fn orgs(cx: &Cx, args: Orgs) -> Result<(), Error> {
    cx.ui.doing("Getting organisations");
    let orgs = cx.client()?.orgs().await?;
    show_list(
        &cx.ui,
        &args.listing,
        &orgs,
        |org| org.name.clone(),
        |_| names(&orgs),
        "you see no organisation",
    );
    Ok(())
}

/// Lists the spaces of the organisation.
pub async fn spaces(cx: &Cx, args: Spaces) -> Result<(), Error> {
    cx.ui.doing("Getting spaces");
    let config = cx.config()?;
    let client = Client::new(&config, cx.ui.clone())?;
    let org = cx.org(&client, &config).await?;
    let spaces = client.spaces(&org.guid).await?;
    show_list(
        &cx.ui,
        &args.listing,
        &spaces,
        |space| space.name.clone(),
        |_| names(&spaces),
        "no spaces yet",
    );
    Ok(())
}

/// Makes an organisation.
pub async fn create_org(cx: &Cx, args: CreateOrg) -> Result<(), Error> {
    cx.ui.doing(&format!("Making organisation {}", args.name));
    let org = cx.client()?.create_org(&args.name).await?;
    if cx.ui.json() {
        cx.ui.document(&json!({"organization": org}));
    } else {
        cx.ui.out_line(&format!("organisation {} is there", org.name));
        cx.ui.tip(&format!("work in it with `paas target -o {}`", org.name));
    }
    Ok(())
}

/// Makes a space.
pub async fn create_space(cx: &Cx, args: CreateSpace) -> Result<(), Error> {
    cx.ui.doing(&format!("Making space {}", args.name));
    let config = cx.config()?;
    let client = Client::new(&config, cx.ui.clone())?;
    let org = match &args.org {
        Some(name) => client
            .org(name)
            .await?
            .ok_or_else(|| missing("organisation", name, client.api(), &[]))?,
        None => cx.org(&client, &config).await?,
    };
    let space = client.create_space(&org.guid, &args.name).await?;
    if cx.ui.json() {
        cx.ui.document(&json!({"space": space}));
    } else {
        cx.ui
            .out_line(&format!("space {} of {} is there", space.name, org.name));
        cx.ui.tip(&format!(
            "work in it with `paas target -o {} -s {}`",
            org.name, space.name
        ));
    }
    Ok(())
}
