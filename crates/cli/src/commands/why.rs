//! `paas why`: findings first, the facts that they rest on after them.

use crate::actor::Cx;
use crate::args::app::Why;
use crate::errors::Error;
use crate::ui::Ui;
use crate::ui::format::{self, Style};
use serde_json::Value;

/// Says why an app is as it is.
pub async fn run(cx: &Cx, args: Why) -> Result<(), Error> {
    cx.ui.doing(&format!("Looking into {} in {}", args.app, cx.place()));
    let target = cx.target().await?;
    let app = target.app(&args.app).await?;
    let why = target.client.why(&app.guid).await?;
    if cx.ui.json() {
        cx.ui.document(&why);
    } else {
        cx.ui.out(&text(&why, &app.name, &cx.ui));
    }
    Ok(())
}

fn text(why: &Value, app: &str, ui: &Ui) -> String {
    let mut text = String::new();
    let findings = list(why, "findings");
    if findings.is_empty() {
        text.push_str(&format!("nothing is wrong with {app}\n"));
    }
    for finding in findings {
        let severity = member(finding, "severity");
        let style = if severity == "error" { Style::Red } else { Style::Yellow };
        text.push_str(&format!(
            "{} {}\n",
            ui.paint_out(style, &format!("{severity}:")),
            member(finding, "title")
        ));
        for (label, name) in [("cause:", "cause"), ("do:", "remedy")] {
            let value = member(finding, name);
            if !value.is_empty() {
                text.push_str(&format!("  {label:<6} {value}\n"));
            }
        }
    }
    for process in list(why, "processes") {
        text.push_str(&process_text(process));
    }
    if let Some(deployment) = why.get("deployment").filter(|deployment| !deployment.is_null()) {
        let state = ["state", "reason"]
            .iter()
            .map(|name| member(deployment, name))
            .find(|text| !text.is_empty());
        text.push_str(&format!(
            "\ndeployment: {}\n",
            state.unwrap_or_else(|| "under way".into())
        ));
    }
    text
}

fn process_text(process: &Value) -> String {
    let number = |name: &str| process.get(name).and_then(Value::as_u64).unwrap_or(0);
    let mut text = format!(
        "\n{}: {} of {} running\n",
        member(process, "type"),
        number("running"),
        number("wanted")
    );
    for instance in list(process, "instances") {
        let mut line = format!(
            "  #{} {}",
            shown(instance.get("index")),
            member(instance, "state").to_lowercase()
        );
        for (label, name) in [
            ("since", "since"),
            ("on cell", "cell"),
            ("crashes:", "crashes"),
            ("next try", "next_try_at"),
        ] {
            let value = shown(instance.get(name));
            if !value.is_empty() && value != "0" {
                line.push_str(&format!(", {label} {value}"));
            }
        }
        let cause = member(instance, "cause");
        if !cause.is_empty() {
            line.push_str(&format!("\n     {cause}"));
        }
        text.push_str(&format!("{line}\n"));
    }
    for unplaced in list(process, "unplaced") {
        let change = shown(unplaced.get("smallest_change"));
        let change = if change.is_empty() {
            change
        } else {
            format!("\n     smallest change that would help: {change}")
        };
        text.push_str(&format!(
            "  #{} has no place: {}{change}\n",
            shown(unplaced.get("index")),
            member(unplaced, "reason")
        ));
    }
    text
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn member(value: &Value, name: &str) -> String {
    format::harmless(value.get(name).and_then(Value::as_str).unwrap_or_default())
}

fn shown(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => format::harmless(text),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::Settings;
    use serde_json::json;

    #[test]
    fn findings_come_first() {
        let why = json!({
            "state": "STARTED",
            "processes": [{"type": "web", "wanted": 3, "running": 1, "instances": [
                {"index": 0, "state": "RUNNING", "since": "2026-03-01T12:00:00Z", "cell": "a", "crashes": 0},
                {"index": 1, "state": "CRASHED", "cause": "Exited with status 1", "crashes": 4, "next_try_at": "2026-03-01T12:05:00Z"}],
                "unplaced": [{"index": 2, "reason": "no cell has 4096 MB free", "smallest_change": "memory 2048 MB"}]}],
            "deployment": null,
            "findings": [{"severity": "error", "title": "instance 1 keeps crashing", "cause": "Exited with status 1", "remedy": "see its log"}],
        });
        insta::assert_snapshot!(text(&why, "shop", &Ui::new(Settings::default())));
        assert!(text(&json!({}), "shop", &Ui::new(Settings::default())).starts_with("nothing is wrong"));
    }
}
