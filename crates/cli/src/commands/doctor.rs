//! `paas doctor`.

use crate::actor::Cx;
use crate::actor::doctor::{Verdict, run as look};
use crate::errors::Error;
use crate::ui::format::Style;
use serde_json::json;

/// Shows what stands between the user and a push; fails where something does.
pub async fn run(cx: &Cx) -> Result<(), Error> {
    cx.ui.doing("Looking at what a push needs");
    let checks = look(cx).await;
    let failed = checks.iter().filter(|check| check.result == Verdict::Failed).count();
    if cx.ui.json() {
        cx.ui.document(&json!({"checks": checks}));
    } else {
        for check in &checks {
            let mark = match check.result {
                Verdict::Ok => cx.ui.paint_out(Style::Green, "ok     "),
                Verdict::Warning => cx.ui.paint_out(Style::Yellow, "warning"),
                Verdict::Failed => cx.ui.paint_out(Style::Red, "failed "),
            };
            cx.ui.out_line(&format!("{mark} {:<14} {}", check.name, check.detail));
            if let Some(hint) = check.hint.as_ref().filter(|_| check.result != Verdict::Ok) {
                cx.ui.out_line(&format!("{:23}{hint}", ""));
            }
        }
    }
    if failed == 0 {
        Ok(())
    } else {
        Err(Error::Unwell { failed })
    }
}
