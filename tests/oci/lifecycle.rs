//! The operations themselves: what they do, what they refuse, what they leave.

use std::path::Path;

use serde_json::{Value, json};

use super::judge::{Outcome, Trouble, ensure, refused};
use super::kit::{Bundle, groups_of, readable};

cases!("runtime-tools": create start state kill kill_no_effect killsig delete delete_resources
       delete_only_create_resources config_updates_without_affect pidfile misc_props);

fn create(bundle: &mut Bundle) -> Outcome {
    bundle.write_config();
    let dir = bundle.file("");
    refused("create without a name", bundle.call(&["create", "--bundle", &dir]))?;
    bundle.create()?;
    let state = bundle.state()?;
    ensure(state["id"] == json!(bundle.id), || {
        format!("state names {}", state["id"])
    })?;
    let again = bundle.call(&["create", "--bundle", &dir, &bundle.id]);
    refused("create of a name that is taken", again)?;
    bundle.is("created")
}

fn start(bundle: &mut Bundle) -> Outcome {
    bundle.args(&["append", "/output", "called"]);
    bundle.write_config();
    refused("start without a name", bundle.call(&["start"]))?;
    refused("start of what is not there", bundle.start())?;
    bundle.create()?;
    ensure(bundle.written("output").is_empty(), || {
        "the program ran before start".to_owned()
    })?;
    bundle.start()?;
    bundle.stopped()?;
    ensure(bundle.written("output") == "called\n", || {
        "the program did not run".to_owned()
    })?;
    refused("start of a stopped one", bundle.start())?;
    ensure(bundle.written("output") == "called\n", || {
        "the program ran twice".to_owned()
    })?;
    bundle.delete()?;
    // Whether it can be created without a process is the runtime's affair; it must not start.
    let process = bundle
        .config
        .as_object_mut()
        .and_then(|config| config.remove("process"));
    let started = bundle.create().and_then(|()| bundle.start());
    bundle.config["process"] = process.unwrap_or_default();
    refused("start without a process", started)
}

fn state(bundle: &mut Bundle) -> Outcome {
    refused("state without a name", bundle.call(&["state"]))?;
    refused("state of what is not there", bundle.state())?;
    bundle.create()?;
    let state = bundle.state()?;
    for key in ["ociVersion", "id", "status", "bundle"] {
        ensure(state[key].is_string(), || format!("{key} is {}", state[key]))?;
    }
    ensure(state["pid"] == json!(bundle.pid()), || {
        format!("pid is {}, not {}", state["pid"], bundle.pid())
    })?;
    let path = bundle.path().canonicalize()?;
    ensure(state["bundle"] == json!(path), || {
        format!("bundle is {}", state["bundle"])
    })?;
    bundle.finish()
}

fn kill(bundle: &mut Bundle) -> Outcome {
    bundle.args(&["sleep"]);
    refused("kill without a name", bundle.call(&["kill"]))?;
    refused("kill of what is not there", bundle.kill("KILL"))?;
    bundle.create()?;
    bundle.kill("KILL")?;
    bundle.stopped()?;
    refused("kill of a stopped one", bundle.kill("KILL"))?;
    bundle.delete()?;
    bundle.create()?;
    bundle.start()?;
    bundle.kill("KILL")?;
    bundle.stopped()?;
    Ok(bundle.delete()?)
}

fn kill_no_effect(bundle: &mut Bundle) -> Outcome {
    bundle.args(&["exit", "0"]);
    bundle.create()?;
    bundle.start()?;
    bundle.stopped()?;
    let before = bundle.state()?;
    let _ = bundle.kill("KILL");
    let after = bundle.state()?;
    ensure(before == after, || format!("state changed from {before} to {after}"))?;
    Ok(bundle.delete()?)
}

fn killsig(bundle: &mut Bundle) -> Outcome {
    for (name, number) in [("TERM", "15"), ("USR1", "10"), ("USR2", "12")] {
        bundle.args(&["on", number, &format!("/{name}"), "/ready"]);
        let ready = bundle.root().join("ready");
        // A pipe with a name: who opens it waits for the other end, so nobody has to look again and again.
        let _ = std::fs::remove_file(&ready);
        nix::unistd::mkfifo(&ready, nix::sys::stat::Mode::from_bits_truncate(0o666)).map_err(std::io::Error::from)?;
        let pipe = std::fs::File::options().read(true).write(true).open(&ready)?;
        bundle.create()?;
        bundle.start()?;
        readable(&pipe.into(), super::kit::PATIENCE)?;
        bundle.kill(name)?;
        bundle.stopped()?;
        ensure(bundle.root().join(name).exists(), || format!("{name} did not arrive"))?;
        bundle.delete()?;
    }
    Ok(())
}

fn delete(bundle: &mut Bundle) -> Outcome {
    refused("delete without a name", bundle.call(&["delete"]))?;
    refused("delete of what is not there", bundle.delete())?;
    bundle.args(&["sleep"]);
    bundle.create()?;
    bundle.start()?;
    refused("delete of a running one", bundle.delete())?;
    bundle.is("running")?;
    bundle.finish()?;
    refused("state of a deleted one", bundle.state())?;
    bundle.create()?;
    refused("delete of a created one", bundle.delete())?;
    bundle.is("created")?;
    bundle.finish()
}

fn delete_resources(bundle: &mut Bundle) -> Outcome {
    bundle.config["linux"]["resources"]["pids"] = json!({ "limit": 1000 });
    bundle.create()?;
    ensure(!groups_of(&bundle.id).is_empty(), || {
        "there is no control group at its path".to_owned()
    })?;
    bundle.start()?;
    bundle.stopped()?;
    bundle.delete()?;
    let left = groups_of(&bundle.id);
    ensure(left.is_empty(), || format!("control groups are left: {left:?}"))
}

fn delete_only_create_resources(bundle: &mut Bundle) -> Outcome {
    let hierarchy = Path::new("/sys/fs/cgroup/pids");
    if !hierarchy.exists() {
        return Err(Trouble::Impossible("there is no v1 hierarchy of pids".to_owned()));
    }
    let other = hierarchy.join(format!("{}-other", bundle.id));
    std::fs::create_dir(&other)?;
    let outcome = in_another_group(bundle, &other);
    let there = other.is_dir();
    let _ = std::fs::remove_dir(&other);
    outcome?;
    ensure(there, || "a group that is not the container's is gone".to_owned())
}

fn in_another_group(bundle: &mut Bundle, other: &Path) -> Outcome {
    bundle.create()?;
    std::fs::write(other.join("cgroup.procs"), bundle.pid().to_string())?;
    bundle.start()?;
    bundle.stopped()?;
    Ok(bundle.delete()?)
}

fn config_updates_without_affect(bundle: &mut Bundle) -> Outcome {
    let config = &mut bundle.config;
    config["process"]["oomScoreAdj"] = json!(100);
    config["linux"]["maskedPaths"] = json!(["/proc/kcore"]);
    config["linux"]["readonlyPaths"] = json!(["/proc/fs"]);
    config["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1" });
    config["linux"]["rootfsPropagation"] = json!("shared");
    let words = super::expect::asked(&bundle.config);
    bundle.args(&words.iter().map(String::as_str).collect::<Vec<_>>());
    bundle.create()?;
    std::fs::write(bundle.path().join("config.json"), r#"{"ociVersion":"1.0.0"}"#)?;
    bundle.start()?;
    bundle.stopped()?;
    super::expect::holds(&bundle.config, &bundle.seen())?;
    Ok(bundle.delete()?)
}

fn pidfile(bundle: &mut Bundle) -> Outcome {
    bundle.args(&["sleep"]);
    bundle.create()?;
    let text = std::fs::read_to_string(bundle.file("first"))?;
    let pid = bundle.state()?["pid"].to_string();
    ensure(text == pid, || format!("the file says {text:?}, the state {pid}"))?;
    bundle.start()?;
    bundle.finish()
}

fn misc_props(bundle: &mut Bundle) -> Outcome {
    bundle.args(&["exit", "0"]);
    bundle.config["annotations"] = json!({ "org.unknown.key": "" });
    bundle.config["unknown"] = json!({ "unknown": ["x"] });
    bundle.config["linux"]["unknown"] = json!(1);
    bundle.run()?;
    let invalid: [(&str, Value); 3] = [
        ("ociVersion", json!("invalid")),
        ("root", json!(1)),
        ("mounts", json!("none")),
    ];
    for (key, value) in invalid {
        let before = std::mem::replace(&mut bundle.config[key], value);
        refused(&format!("an invalid {key}"), bundle.create())?;
        bundle.config[key] = before;
    }
    Ok(())
}
