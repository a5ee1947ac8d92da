//! Hooks: when they run, in which order, with what as their input, and what their failure does.

use serde_json::{Value, json};

use super::judge::{Outcome, Trouble, ensure, refused};
use super::kit::Bundle;

cases!("runtime-tools": hooks hooks_stdin prestart prestart_fail poststart poststart_fail poststop poststop_fail);

/// A program of the host for a hook.
pub fn shell(script: &str) -> Value {
    json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "timeout": 10 })
}

/// A hook that adds `text` to the log.
pub fn hook(bundle: &Bundle, text: &str) -> Value {
    shell(&format!("echo {text} >> {}", bundle.file("log")))
}

/// What hooks, and the program, said.
pub fn log(bundle: &Bundle) -> String {
    let text = std::fs::read_to_string(bundle.file("log")).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Has the program add `process` to the log as well, which it sees as a file of its root.
pub fn program_logs(bundle: &mut Bundle) {
    std::fs::write(bundle.file("log"), "").unwrap();
    std::fs::write(bundle.root().join("log"), "").unwrap();
    let mount = json!({ "destination": "/log", "type": "none", "source": bundle.file("log"), "options": ["bind"] });
    bundle.config["mounts"].as_array_mut().unwrap().push(mount);
    bundle.args(&["append", "/log", "process"]);
}

fn hooks(bundle: &mut Bundle) -> Outcome {
    let two = |one: &str| json!([hook(bundle, &format!("{one}1")), hook(bundle, &format!("{one}2"))]);
    let all = json!({ "prestart": two("prestart"), "poststart": two("poststart"), "poststop": two("poststop") });
    bundle.config["hooks"] = all;
    bundle.run()?;
    let told = log(bundle);
    let order = "prestart1 prestart2 poststart1 poststart2 poststop1 poststop2";
    ensure(told == order, || format!("they ran as {told:?}"))
}

/// The state that a hook got.
fn kept(bundle: &Bundle, kind: &str) -> Result<Value, Trouble> {
    let text = std::fs::read_to_string(bundle.file(kind)).unwrap_or_default();
    let state: Value = serde_json::from_str(&text).map_err(|error| format!("{kind}: {error}"))?;
    ensure(state["id"] == json!(bundle.id), || {
        format!("{kind}: id is {}", state["id"])
    })?;
    let path = bundle.path().canonicalize()?;
    ensure(state["bundle"] == json!(path), || {
        format!("{kind}: bundle is {}", state["bundle"])
    })?;
    let annotations = &state["annotations"];
    ensure(*annotations == json!({ "org.example.key": "value" }), || {
        format!("{kind}: annotations are {annotations}")
    })?;
    Ok(state)
}

fn hooks_stdin(bundle: &mut Bundle) -> Outcome {
    for kind in ["prestart", "poststart", "poststop"] {
        bundle.config["hooks"][kind] = json!([shell(&format!("cat > {}", bundle.file(kind)))]);
    }
    bundle.config["annotations"] = json!({ "org.example.key": "value" });
    bundle.run()?;
    for (kind, wanted) in [("prestart", &["creating", "created"][..]), ("poststart", &["running"])] {
        let state = kept(bundle, kind)?;
        ensure(state["pid"] == json!(bundle.pid()), || {
            format!("{kind}: pid is {}", state["pid"])
        })?;
        let status = state["status"].as_str().unwrap_or_default();
        ensure(wanted.contains(&status), || format!("{kind}: status is {status:?}"))?;
    }
    let state = kept(bundle, "poststop")?;
    ensure(state["status"] == "stopped", || {
        format!("poststop: status is {}", state["status"])
    })
}

fn prestart(bundle: &mut Bundle) -> Outcome {
    program_logs(bundle);
    bundle.config["hooks"] = json!({ "prestart": [hook(bundle, "hook")] });
    bundle.create()?;
    ensure(log(bundle) == "hook", || {
        format!("after create the log has {:?}", log(bundle))
    })?;
    bundle.start()?;
    bundle.stopped()?;
    ensure(log(bundle) == "hook process", || {
        format!("in the end the log has {:?}", log(bundle))
    })?;
    Ok(bundle.delete()?)
}

/// One that fails, and one behind it.
pub fn failing(bundle: &Bundle) -> Value {
    json!([{ "path": "/bin/false", "args": ["false"] }, hook(bundle, "next")])
}

fn prestart_fail(bundle: &mut Bundle) -> Outcome {
    program_logs(bundle);
    bundle.config["hooks"] = json!({ "prestart": failing(bundle) });
    let started = bundle.create().and_then(|()| bundle.start());
    refused("making a container whose hook fails", started)?;
    ensure(log(bundle).is_empty(), || {
        format!("what comes after it ran: {:?}", log(bundle))
    })?;
    bundle.is("none")
}

fn poststart(bundle: &mut Bundle) -> Outcome {
    program_logs(bundle);
    bundle.args(&["sleep"]);
    bundle.config["hooks"] = json!({ "poststart": [hook(bundle, "hook")] });
    bundle.create()?;
    ensure(log(bundle).is_empty(), || "it ran before start".to_owned())?;
    bundle.start()?;
    ensure(log(bundle) == "hook", || "start did not wait for it".to_owned())?;
    bundle.finish()
}

fn poststart_fail(bundle: &mut Bundle) -> Outcome {
    bundle.config["hooks"] = json!({ "poststart": failing(bundle) });
    bundle.args(&["sleep"]);
    bundle.create()?;
    bundle.start()?;
    ensure(log(bundle) == "next", || "the hooks behind it did not run".to_owned())?;
    bundle.is("running")?;
    bundle.finish()
}

fn poststop(bundle: &mut Bundle) -> Outcome {
    program_logs(bundle);
    bundle.config["hooks"] = json!({ "poststop": [hook(bundle, "hook")] });
    bundle.create()?;
    ensure(log(bundle).is_empty(), || {
        format!("after create the log has {:?}", log(bundle))
    })?;
    bundle.start()?;
    bundle.stopped()?;
    ensure(log(bundle) == "process", || {
        format!("after its end the log has {:?}", log(bundle))
    })?;
    bundle.delete()?;
    ensure(log(bundle) == "process hook", || {
        "delete did not wait for it".to_owned()
    })
}

fn poststop_fail(bundle: &mut Bundle) -> Outcome {
    bundle.config["hooks"] = json!({ "poststop": failing(bundle) });
    bundle.run()?;
    ensure(log(bundle) == "next", || "the hooks behind it did not run".to_owned())?;
    bundle.is("none")
}
