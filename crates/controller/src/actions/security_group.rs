//! Security groups: what a client asks for, checked as CF does, and the writing of it. Cells apply a change at once, to
//! what runs already too; nothing is started anew for it.

use super::{By, fresh};
use crate::context::Context;
use crate::error::{Answer, Failure};
use model::id::{SecurityGroupId, SpaceId};
use model::resource::{Space, Target};
use model::security::{SecurityGroup, SecurityRule, Use, Uses, check_rules};
use serde_json::{Map, Value, json};
use store::{Order, Page, Scope, SpaceFilter, Tx};

/// Longest name, in characters.
const MAX_NAME: usize = 250;
/// Most spaces that one request may name for a use.
const MAX_SPACES: usize = 1000;
/// Longest text of rules that an event repeats, in bytes.
const MAX_EVENT_RULES: usize = 16 * 1024;

/// What a request says about a group; what is missing stays as it is.
#[derive(Debug, Default)]
pub struct Wanted {
    name: Option<String>,
    rules: Option<Vec<SecurityRule>>,
    running: Option<bool>,
    staging: Option<bool>,
    running_spaces: Vec<String>,
    staging_spaces: Vec<String>,
}

impl Wanted {
    /// Reads the body of a request; `create` where a name is needed and spaces can be named.
    ///
    /// # Errors
    /// Everything that is wrong with it, in one text, as CF puts it.
    pub fn read(body: &Map<String, Value>, create: bool) -> Answer<Self> {
        let mut wanted = Self::default();
        let mut wrong = Vec::new();
        let known: &[&str] = if create {
            &["name", "rules", "globally_enabled", "relationships"]
        } else {
            &["name", "rules", "globally_enabled"]
        };
        let unknown: Vec<String> = body
            .keys()
            .filter(|key| !known.contains(&key.as_str()))
            .map(|key| format!("'{key}'"))
            .collect();
        if !unknown.is_empty() {
            wrong.push(format!("Unknown field(s): {}", unknown.join(", ")));
        }
        wanted.read_name(body.get("name"), create, &mut wrong);
        if let Some(rules) = body.get("rules").filter(|rules| !(create && rules.is_null())) {
            match check_rules(rules) {
                Ok(rules) => wanted.rules = Some(rules),
                Err(messages) => wrong.extend(messages),
            }
        }
        wanted.read_globally(body.get("globally_enabled"), &mut wrong);
        if create {
            wanted.read_spaces(body.get("relationships"), &mut wrong);
        }
        if wrong.is_empty() {
            return Ok(wanted);
        }
        Err(Failure::refused(wrong.join(", ")))
    }

    fn read_name(&mut self, value: Option<&Value>, create: bool, wrong: &mut Vec<String>) {
        match value {
            None if !create => {}
            None | Some(Value::Null) => wrong.push("Name can't be blank".to_owned()),
            Some(Value::String(name)) if create && name.trim().is_empty() => {
                wrong.push("Name can't be blank".to_owned());
            }
            Some(Value::String(name)) if name.is_empty() => {
                wrong.push("Name is too short (minimum is 1 character)".to_owned());
            }
            Some(Value::String(name)) if name.chars().count() > MAX_NAME => {
                wrong.push(format!("Name is too long (maximum is {MAX_NAME} characters)"));
            }
            Some(Value::String(name)) if name.chars().any(char::is_control) => {
                wrong.push("Name must not contain control characters".to_owned());
            }
            Some(Value::String(name)) => self.name = Some(name.clone()),
            Some(_) => wrong.push("Name must be a string".to_owned()),
        }
    }

    fn read_globally(&mut self, value: Option<&Value>, wrong: &mut Vec<String>) {
        let fields = match value {
            None | Some(Value::Null) => return,
            Some(Value::Object(fields)) => fields,
            Some(_) => return wrong.push("Globally enabled must be an object".to_owned()),
        };
        if fields.keys().any(|key| !matches!(key.as_str(), "running" | "staging")) {
            return wrong.push("Globally enabled only allows keys 'running' or 'staging'".to_owned());
        }
        if fields.values().any(|value| !value.is_boolean()) {
            return wrong.push("Globally enabled values must be booleans".to_owned());
        }
        self.running = fields.get("running").and_then(Value::as_bool);
        self.staging = fields.get("staging").and_then(Value::as_bool);
    }

    fn read_spaces(&mut self, value: Option<&Value>, wrong: &mut Vec<String>) {
        let fields = match value {
            None | Some(Value::Null) => return,
            Some(Value::Object(fields)) => fields,
            Some(_) => return wrong.push("Relationships 'relationships' is not an object".to_owned()),
        };
        for (name, value) in fields {
            let (spaces, title) = match name.as_str() {
                "running_spaces" => (&mut self.running_spaces, "Running spaces"),
                "staging_spaces" => (&mut self.staging_spaces, "Staging spaces"),
                _ => {
                    wrong.push(format!("Relationships Unknown field(s): '{name}'"));
                    continue;
                }
            };
            match value.as_object().and_then(to_many) {
                Some(guids) => *spaces = guids,
                None => wrong.push(format!(
                    "Relationships {title} must be structured like this: \"{name}: {{\"data\": [{{\"guid\": \
                     \"valid-guid\"}},{{\"guid\": \"valid-guid\"}}]}}\""
                )),
            }
        }
    }

    fn change(&mut self, group: &mut SecurityGroup) {
        if let Some(name) = self.name.take() {
            group.name = name;
        }
        if let Some(rules) = self.rules.take() {
            group.rules = rules;
        }
        group.globally.running = self.running.unwrap_or(group.globally.running);
        group.globally.staging = self.staging.unwrap_or(group.globally.staging);
    }
}

/// The ids of `{"data": [{"guid": …}]}`, each once.
fn to_many(body: &Map<String, Value>) -> Option<Vec<String>> {
    let mut guids: Vec<String> = Vec::new();
    for entry in body.get("data")?.as_array()? {
        let guid = entry.as_object()?.get("guid")?.as_str()?;
        if !guids.iter().any(|known| known == guid) {
            guids.push(guid.to_owned());
        }
        if guids.len() > MAX_SPACES {
            return None;
        }
    }
    Some(guids)
}

/// The spaces that a request to bind names.
///
/// # Errors
/// It names none, or not as it should.
pub fn named_spaces(body: &Map<String, Value>) -> Answer<Vec<String>> {
    if let Some(key) = body.keys().find(|key| *key != "data") {
        return Err(Failure::refused(format!("Unknown field(s): '{key}'")));
    }
    to_many(body).ok_or_else(|| {
        Failure::refused(format!(
            "Data must be an array of at most {MAX_SPACES} objects like {{\"guid\": \"valid-guid\"}}"
        ))
    })
}

fn target(group: &SecurityGroup) -> Target {
    Target {
        guid: group.id.to_string(),
        kind: "security_group".to_owned(),
        name: group.name.clone(),
    }
}

fn taken(name: &str) -> Failure {
    Failure::refused(format!("Security group with name '{name}' already exists."))
}

/// A group as an event tells it.
fn told(group: &SecurityGroup) -> Value {
    let rules = json!(group.rules);
    let rules = if rules.to_string().len() > MAX_EVENT_RULES {
        json!(format!("{} rules", group.rules.len()))
    } else {
        rules
    };
    json!({"name": group.name, "rules": rules, "globally_enabled": group.globally})
}

/// Those of `guids` that are spaces, in no order, and those that are none.
///
/// # Errors
/// The database fails.
pub async fn spaces_of(tx: &store::Db, guids: &[String], scope: Scope) -> Answer<(Vec<Space>, Vec<String>)> {
    let ids: Vec<SpaceId> = guids.iter().filter_map(|guid| guid.parse().ok()).collect();
    let filter = SpaceFilter {
        ids: Some(ids),
        ..SpaceFilter::default()
    };
    let found = tx.space_list(&filter, scope, Order::default(), Page::ALL).await?.items;
    let known = |guid: &&String| guid.parse().is_ok_and(|id| found.iter().any(|space| space.id == id));
    let missing = guids.iter().filter(|guid| !known(guid)).cloned().collect();
    Ok((found, missing))
}

async fn bind_new(tx: &Tx, group: &SecurityGroup, guids: &[String], use_: Use) -> Answer<()> {
    let (spaces, missing) = spaces_of(tx, guids, Scope::All).await?;
    if !missing.is_empty() {
        return Err(Failure::refused(format!("Spaces with guids {missing:?} do not exist.")));
    }
    let ids: Vec<SpaceId> = spaces.iter().map(|space| space.id).collect();
    tx.security_group_bind(group.id, &ids, use_).await?;
    Ok(())
}

/// A new group, bound to the spaces that are named with it.
///
/// # Errors
/// The name is taken, or a space is not there.
pub async fn create(context: &Context, mut wanted: Wanted, by: &By) -> Answer<SecurityGroup> {
    let mut group = SecurityGroup {
        id: fresh::<SecurityGroupId>(),
        name: String::new(),
        rules: Vec::new(),
        globally: Uses::default(),
        created_at: by.now,
        updated_at: by.now,
    };
    wanted.change(&mut group);
    let tx = context.store.begin().await?;
    let created = tx.security_group_create(&group).await;
    created.map_err(|error| Failure::or_taken(error, || taken(&group.name)))?;
    bind_new(&tx, &group, &wanted.staging_spaces, Use::Staging).await?;
    bind_new(&tx, &group, &wanted.running_spaces, Use::Running).await?;
    let mut data = told(&group);
    data["running_spaces"] = json!(wanted.running_spaces);
    data["staging_spaces"] = json!(wanted.staging_spaces);
    tx.event(by.event("audit.security_group.create", target(&group), None, data));
    tx.commit().await?;
    Ok(group)
}

/// Changes what is named. What runs is under the new rules within moments.
///
/// # Errors
/// The name is taken, or the group is gone.
pub async fn update(context: &Context, id: SecurityGroupId, mut wanted: Wanted, by: &By) -> Answer<SecurityGroup> {
    let tx = context.store.begin().await?;
    let found = tx.security_group_fetch(id, Scope::All).await?;
    let mut group = found.ok_or_else(|| Failure::not_found("Security group"))?;
    let before = told(&group);
    wanted.change(&mut group);
    group.updated_at = by.now;
    let updated = tx.security_group_update(&group).await;
    updated.map_err(|error| Failure::or_taken(error, || taken(&group.name)))?;
    let data = json!({"before": before, "after": told(&group)});
    tx.event(by.event("audit.security_group.update", target(&group), None, data));
    tx.commit().await?;
    Ok(group)
}

/// Removes a group and its bindings; what only it allowed is closed within moments. The job that did it.
///
/// # Errors
/// The database fails.
pub async fn delete(context: &Context, group: &SecurityGroup, by: &By) -> Answer<model::resource::Job> {
    let job = by.done_job("security_group.delete");
    let tx = context.store.begin().await?;
    tx.security_group_delete(group.id).await?;
    let data = json!({"before": told(group)});
    tx.event(by.event("audit.security_group.delete", target(group), None, data));
    tx.job_create(&job).await?;
    tx.commit().await?;
    Ok(job)
}

/// Binds a group to spaces.
///
/// # Errors
/// The database fails.
pub async fn bind(context: &Context, group: &SecurityGroup, spaces: &[Space], use_: Use, by: &By) -> Answer<()> {
    let ids: Vec<SpaceId> = spaces.iter().map(|space| space.id).collect();
    let tx = context.store.begin().await?;
    tx.security_group_bind(group.id, &ids, use_).await?;
    let kind = format!("audit.security_group.bind-{}", use_.name());
    for space in spaces {
        let data = json!({"space": space.id, "space_name": space.name.as_str()});
        tx.event(by.event(&kind, target(group), Some(space), data));
    }
    tx.commit().await?;
    Ok(())
}

/// Takes a group off a space; whether it was bound to it.
///
/// # Errors
/// The database fails.
pub async fn unbind(context: &Context, group: &SecurityGroup, space: &Space, use_: Use, by: &By) -> Answer<bool> {
    let tx = context.store.begin().await?;
    if !tx.security_group_unbind(group.id, space.id, use_).await? {
        return Ok(false);
    }
    let kind = format!("audit.security_group.unbind-{}", use_.name());
    let data = json!({"space": space.id, "space_name": space.name.as_str()});
    tx.event(by.event(&kind, target(group), Some(space), data));
    tx.commit().await?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(body: Value, create: bool) -> String {
        let body = body.as_object().expect("an object").clone();
        let failure = Wanted::read(&body, create).expect_err("refused");
        failure.errors()[0].detail.clone()
    }

    #[test]
    fn mistakes_are_told_all_at_once() {
        assert_eq!(refused(json!({}), true), "Name can't be blank");
        let all = refused(json!({"name": 7, "rules": 7, "globally_enabled": 7, "more": 1}), false);
        assert_eq!(
            all,
            "Unknown field(s): 'more', Name must be a string, Rules must be an array, Globally enabled must be an object"
        );
        let text = refused(json!({"name": "a", "globally_enabled": {"ever": true}}), true);
        assert_eq!(text, "Globally enabled only allows keys 'running' or 'staging'");
        let text = refused(json!({"name": "a", "globally_enabled": {"running": "yes"}}), true);
        assert_eq!(text, "Globally enabled values must be booleans");
        assert_eq!(
            refused(json!({"name": "x".repeat(251)}), true),
            "Name is too long (maximum is 250 characters)"
        );
        assert_eq!(
            refused(json!({"name": ""}), false),
            "Name is too short (minimum is 1 character)"
        );
        let text = refused(json!({"name": "a", "relationships": {"running_spaces": [1]}}), true);
        assert!(
            text.starts_with("Relationships Running spaces must be structured like this"),
            "{text}"
        );
    }
}
