//! `paas security-groups`, `security-group` and what makes, changes, binds and deletes them.

use super::show_list;
use crate::actor::{Cx, missing};
use crate::args::security::{
    BindSecurityGroup, CreateSecurityGroup, DeleteSecurityGroup, Globally, Lifecycle, SecurityGroup, SecurityGroups,
    UnbindSecurityGroup, UpdateSecurityGroup,
};
use crate::client::Client;
use crate::client::v3::Place;
use crate::client::wire::Named;
use crate::errors::Error;
use crate::ui::table::Table;
use api::v3;
use model::id::SpaceId;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;

/// Longest file of rules, in bytes: what a request may have.
const MAX_RULES: u64 = 15 * 1024 * 1024;

impl Lifecycle {
    const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Staging => "staging",
        }
    }
}

async fn found(client: &Client, name: &str) -> Result<v3::SecurityGroup, Error> {
    match client.security_group(name).await? {
        Some(group) => Ok(group),
        None => {
            let all = client.security_groups(None).await?;
            let names: Vec<String> = all.into_iter().map(|group| group.name).collect();
            Err(missing("security group", name, client.api(), &names))
        }
    }
}

/// Names of organisation and space of each space that groups are bound to.
async fn places(client: &Client, groups: &[v3::SecurityGroup]) -> Result<BTreeMap<SpaceId, (String, String)>, Error> {
    let bound = groups.iter().flat_map(|group| {
        let of = &group.relationships;
        of.running_spaces.data.iter().chain(&of.staging_spaces.data)
    });
    let ids: Vec<SpaceId> = bound
        .map(|space| space.guid)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let spaces = client.spaces_by_ids(&ids).await?;
    let orgs: BTreeMap<String, String> = if spaces.is_empty() {
        BTreeMap::new()
    } else {
        let orgs = client.orgs().await?;
        orgs.into_iter().map(|org| (org.guid, org.name)).collect()
    };
    let place = |space: Place| {
        let org = space.relationships.organization.id().map(|org| org.to_string());
        let org = org.and_then(|org| orgs.get(&org).cloned()).unwrap_or_default();
        (space.guid, (org, space.name))
    };
    Ok(spaces.into_iter().map(place).collect())
}

/// A row for each place where a group is in force.
fn table(groups: &[v3::SecurityGroup], places: &BTreeMap<SpaceId, (String, String)>) -> Table {
    let mut table = Table::new(&["name", "organisation", "space", "lifecycle"]);
    for group in groups {
        let mut rows: Vec<[&str; 3]> = Vec::new();
        let (globally, of) = (group.globally_enabled, &group.relationships);
        for (everywhere, spaces, lifecycle) in [
            (globally.running, &of.running_spaces, "running"),
            (globally.staging, &of.staging_spaces, "staging"),
        ] {
            if everywhere {
                rows.push(["<all>", "<all>", lifecycle]);
            }
            let bound = spaces.data.iter().filter_map(|space| places.get(&space.guid));
            rows.extend(bound.map(|(org, space)| [org.as_str(), space.as_str(), lifecycle]));
        }
        if rows.is_empty() {
            rows.push([""; 3]);
        }
        for [org, space, lifecycle] in rows {
            table.row([&group.name, org, space, lifecycle].map(str::to_owned));
        }
    }
    table
}

async fn show(cx: &Cx, args: &SecurityGroups, globally: Option<&'static str>) -> Result<(), Error> {
    cx.ui.doing("Getting security groups");
    let client = cx.client()?;
    let groups = client.security_groups(globally).await?;
    let places = places(&client, &groups).await?;
    show_list(
        &cx.ui,
        &args.listing,
        &groups,
        |group| group.name.clone(),
        |_| table(&groups, &places),
        "no security groups",
    );
    Ok(())
}

/// Lists security groups.
pub async fn list(cx: &Cx, args: SecurityGroups) -> Result<(), Error> {
    show(cx, &args, None).await
}

/// Lists those that are in force everywhere for one use.
pub async fn globally(cx: &Cx, args: SecurityGroups, lifecycle: Lifecycle) -> Result<(), Error> {
    show(cx, &args, Some(lifecycle.name())).await
}

/// Shows one.
pub async fn one(cx: &Cx, args: SecurityGroup) -> Result<(), Error> {
    cx.ui.doing(&format!("Getting security group {}", args.group));
    let client = cx.client()?;
    let group = found(&client, &args.group).await?;
    if cx.ui.json() {
        cx.ui.document(&group);
        return Ok(());
    }
    let rules = serde_json::to_string_pretty(&group.rules).unwrap_or_default();
    cx.ui.out_line(&format!("name: {}\nrules:", group.name));
    rules.lines().for_each(|line| cx.ui.out_line(&format!("  {line}")));
    let groups = [group];
    let places = places(&client, &groups).await?;
    cx.ui.out_line("");
    cx.ui.table(&table(&groups, &places), "in force nowhere", true);
    Ok(())
}

/// Rules from a file, or from standard input for `-`.
fn rules(path: &str) -> Result<Value, Error> {
    let mut text = String::new();
    let read = if path == "-" {
        std::io::stdin().take(MAX_RULES).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(MAX_RULES).read_to_string(&mut text))
    };
    read.map_err(|error| Error::file("read", path, &error))?;
    let wrong = |message: String| Error::Usage {
        message,
        hint: Some("`paas help create-security-group` shows what rules look like".to_owned()),
    };
    match serde_json::from_str(&text) {
        Ok(rules @ Value::Array(_)) => Ok(rules),
        Ok(_) => Err(wrong(format!("{path} does not hold a list of rules"))),
        Err(error) => Err(wrong(format!("{path} is not JSON: {error}"))),
    }
}

fn done(cx: &Cx, group: &v3::SecurityGroup, text: &str) {
    if cx.ui.json() {
        cx.ui.document(group);
    } else {
        cx.ui.out_line(text);
    }
}

/// Makes one.
pub async fn create(cx: &Cx, args: CreateSecurityGroup) -> Result<(), Error> {
    let rules = rules(&args.rules)?;
    cx.ui.doing(&format!("Making security group {}", args.group));
    let group = cx.client()?.create_security_group(&args.group, rules).await?;
    done(cx, &group, &format!("security group {} is there", group.name));
    if !cx.ui.json() {
        cx.ui.tip(&format!(
            "put it in force with `paas bind-security-group {}`",
            group.name
        ));
    }
    Ok(())
}

/// Gives one other rules.
pub async fn update(cx: &Cx, args: UpdateSecurityGroup) -> Result<(), Error> {
    let rules = rules(&args.rules)?;
    cx.ui.doing(&format!("Changing security group {}", args.group));
    let client = cx.client()?;
    let group = found(&client, &args.group).await?;
    let group = client
        .update_security_group(group.guid, json!({"rules": rules}))
        .await?;
    done(cx, &group, &format!("security group {} has other rules", group.name));
    Ok(())
}

/// Deletes one.
pub async fn delete(cx: &Cx, args: DeleteSecurityGroup) -> Result<(), Error> {
    cx.ui.doing(&format!("Deleting security group {}", args.group));
    let client = cx.client()?;
    let group = found(&client, &args.group).await?;
    if !args.force {
        let what = format!("This deletes security group {} wherever it is in force", group.name);
        cx.ui.confirm(&what, &group.name).await?;
    }
    client.delete_security_group(group.guid).await?;
    done(cx, &group, &format!("security group {} is deleted", group.name));
    Ok(())
}

/// The organisation, and of its spaces the named one or all.
async fn spaces_of(cx: &Cx, client: &Client, org: &str, space: Option<&str>) -> Result<Vec<Named>, Error> {
    let Some(org) = client.org(org).await? else {
        let names: Vec<String> = client.orgs().await?.into_iter().map(|org| org.name).collect();
        return Err(missing("organisation", org, client.api(), &names));
    };
    let mut spaces = client.spaces(&org.guid).await?;
    if let Some(name) = space {
        let names: Vec<String> = spaces.iter().map(|space| space.name.clone()).collect();
        spaces.retain(|space| space.name == name);
        if spaces.is_empty() {
            return Err(missing("space", name, &format!("organisation {}", org.name), &names));
        }
    }
    if spaces.is_empty() {
        cx.ui.warn(&format!("organisation {} has no spaces", org.name));
    }
    Ok(spaces)
}

/// Binds one to a space or to all of an organisation.
pub async fn bind(cx: &Cx, args: BindSecurityGroup) -> Result<(), Error> {
    let use_ = args.lifecycle.name();
    cx.ui.doing(&format!("Binding security group {}", args.group));
    let (client, spaces) = match &args.org {
        Some(org) => {
            let client = cx.client()?;
            let spaces = spaces_of(cx, &client, org, cx.flags.space.as_deref()).await?;
            (client, spaces)
        }
        None => {
            let target = cx.target().await?;
            (target.client, vec![target.space])
        }
    };
    let group = found(&client, &args.group).await?;
    let guids: Vec<String> = spaces.iter().map(|space| space.guid.clone()).collect();
    if !guids.is_empty() {
        client.bind_security_group(group.guid, &guids, use_).await?;
    }
    let names: Vec<&str> = spaces.iter().map(|space| space.name.as_str()).collect();
    let text = format!(
        "security group {} is in force ({use_}) in {}",
        group.name,
        names.join(", ")
    );
    done(cx, &group, &text);
    Ok(())
}

/// Takes one off a space.
pub async fn unbind(cx: &Cx, args: UnbindSecurityGroup) -> Result<(), Error> {
    let use_ = args.lifecycle.name();
    cx.ui.doing(&format!("Taking off security group {}", args.group));
    let (client, spaces) = match (&args.org, &args.space) {
        (Some(org), space) => {
            let client = cx.client()?;
            let spaces = spaces_of(cx, &client, org, space.as_deref()).await?;
            (client, spaces)
        }
        (None, _) => {
            let target = cx.target().await?;
            (target.client, vec![target.space])
        }
    };
    let group = found(&client, &args.group).await?;
    for space in &spaces {
        client.unbind_security_group(group.guid, &space.guid, use_).await?;
    }
    let names: Vec<&str> = spaces.iter().map(|space| space.name.as_str()).collect();
    let text = format!("security group {} is off ({use_}) in {}", group.name, names.join(", "));
    done(cx, &group, &text);
    Ok(())
}

/// Puts one in force everywhere for one use, or no longer.
pub async fn set_globally(cx: &Cx, args: Globally, lifecycle: Lifecycle, holds: bool) -> Result<(), Error> {
    let use_ = lifecycle.name();
    cx.ui.doing(&format!("Changing security group {}", args.group));
    let client = cx.client()?;
    let group = found(&client, &args.group).await?;
    let change = json!({"globally_enabled": {use_: holds}});
    let group = client.update_security_group(group.guid, change).await?;
    let how = if holds { "is" } else { "is no longer" };
    done(
        cx,
        &group,
        &format!("security group {} {how} in force everywhere ({use_})", group.name),
    );
    Ok(())
}
