//! `paas env`, `paas set-env` and `paas unset-env`.

use crate::actor::Cx;
use crate::args::app::{Env, SetEnv, UnsetEnv};
use crate::errors::Error;
use crate::ui::format;
use serde_json::{Map, Value, json};

/// Shows the variables of an app, the user's own first.
pub async fn show(cx: &Cx, args: Env) -> Result<(), Error> {
    cx.ui
        .doing(&format!("Getting variables of {} in {}", args.app, cx.place()));
    let target = cx.target().await?;
    let app = target.app(&args.app).await?;
    let env = target.client.env(&app.guid).await?;
    if cx.ui.json() {
        cx.ui.document(&env);
    } else {
        cx.ui.out(&text(&env));
    }
    Ok(())
}

fn text(env: &Value) -> String {
    let mut text = String::new();
    for (title, key) in [
        ("Set by users", "environment_variables"),
        ("Services", "system_env_json"),
        ("Given by the platform", "application_env_json"),
        ("For all apps, at run time", "running_env_json"),
        ("For all apps, while staging", "staging_env_json"),
    ] {
        let Some(vars) = env.get(key).and_then(Value::as_object).filter(|vars| !vars.is_empty()) else {
            continue;
        };
        text.push_str(&format!("{}{title}:\n", if text.is_empty() { "" } else { "\n" }));
        for (name, value) in vars {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            text.push_str(&format!("{name}={}\n", format::harmless(&value)));
        }
    }
    if text.is_empty() {
        "no variables are set\n".into()
    } else {
        text
    }
}

/// Sets variables.
pub async fn set(cx: &Cx, args: SetEnv) -> Result<(), Error> {
    let vars = assignments(cx, &args.vars).await?;
    change(cx, &args.app, vars).await
}

/// Removes variables.
pub async fn unset(cx: &Cx, args: UnsetEnv) -> Result<(), Error> {
    change(
        cx,
        &args.app,
        args.names.into_iter().map(|name| (name, Value::Null)).collect(),
    )
    .await
}

async fn change(cx: &Cx, app: &str, vars: Map<String, Value>) -> Result<(), Error> {
    let names: Vec<String> = vars.keys().cloned().collect();
    cx.ui
        .doing(&format!("Changing {} of {app} in {}", names.join(", "), cx.place()));
    let target = cx.target().await?;
    let app = target.app(app).await?;
    let answer = target.client.set_env(&app.guid, Value::Object(vars)).await?;
    if cx.ui.json() {
        cx.ui.document(&answer);
        return Ok(());
    }
    cx.ui.out_line(&format!("changed {}", names.join(", ")));
    if app.state == "STARTED" {
        cx.ui.tip(&format!(
            "it counts from the next start on: `paas restart {}`",
            app.name
        ));
    }
    Ok(())
}

/// `NAME VALUE`, `NAME=VALUE ...`, or `NAME` with the value on standard input.
async fn assignments(cx: &Cx, words: &[String]) -> Result<Map<String, Value>, Error> {
    let assigned = |word: &String| word.split_once('=').filter(|(name, _)| is_name(name)).is_some();
    match words {
        [name] if !assigned(name) => {
            check(name)?;
            let value = cx
                .ui
                .ask_secret(&format!("Value of {name}"), "give the value on standard input")
                .await?;
            Ok(Map::from_iter([(name.clone(), json!(value.expose()))]))
        }
        [name, value] if !assigned(name) => {
            check(name)?;
            Ok(Map::from_iter([(name.clone(), json!(value))]))
        }
        words => words
            .iter()
            .map(|word| match word.split_once('=') {
                Some((name, value)) => check(name).map(|()| (name.to_owned(), json!(value))),
                None => Err(Error::usage(format!("{word} has no value: write NAME=VALUE"))),
            })
            .collect(),
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

fn check(name: &str) -> Result<(), Error> {
    if is_name(name) {
        Ok(())
    } else {
        Err(Error::usage(format!("{name:?} is not the name of a variable")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Globals;
    use crate::config::Environment;
    use crate::ui::{Settings, Ui};

    async fn parsed(words: &[&str]) -> Result<Map<String, Value>, Error> {
        let cx = Cx::new(
            Ui::new(Settings::default()),
            Environment::fake(std::path::Path::new("/"), &[]),
            &Globals::default(),
        );
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        assignments(&cx, &words).await
    }

    #[tokio::test]
    async fn both_ways_of_writing_an_assignment() {
        assert_eq!(
            Value::Object(parsed(&["A", "x=y"]).await.expect("parses")),
            json!({"A": "x=y"})
        );
        assert_eq!(
            Value::Object(parsed(&["A=1", "B=x=y"]).await.expect("parses")),
            json!({"A": "1", "B": "x=y"})
        );
        assert!(parsed(&["A=1", "B"]).await.is_err());
        assert!(parsed(&["a b", "1"]).await.is_err());
    }

    #[test]
    fn the_users_own_come_first() {
        let env = json!({"system_env_json": {"VCAP_SERVICES": {}}, "environment_variables": {"A": "1"}, "running_env_json": {}});
        assert_eq!(text(&env), "Set by users:\nA=1\n\nServices:\nVCAP_SERVICES={}\n");
    }
}
