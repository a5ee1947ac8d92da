//! Cases of our own: what the specification says, or what those who drive runtimes rely on, and no public case asks for.

use std::os::unix::net::UnixListener;
use std::process::Stdio;

use serde_json::{Value, json};

use super::hooks::{hook, log, shell};
use super::judge::{Outcome, ensure, refused};
use super::kit::{Bundle, PATIENCE, readable, received};
use super::namespaces::maps;

cases!("further": hooks_in_order hook_working_folder hook_timeout hook_environment start_container_fail
       create_container_fail mounts_propagation mounts_over_a_file capabilities_unknown capabilities_beyond
       labels_that_cannot_be_had seccomp_arguments seccomp_killed namespaces_twice uid_mappings_of_many
       cgroup_namespace state_of_the_killed start_of_what_cannot_run delete_force delete_of_nobody run_exit_code
       run_detached run_leaves_nothing list console_socket ps features_or_version spec_is_one kill_all_that_is_in_it);

fn hooks_in_order(bundle: &mut Bundle) -> Outcome {
    let one = |name: &str| json!([hook(bundle, name)]);
    let inside = json!([{ "path": "/probe", "args": ["probe", "append", "/inside", "startContainer"] }]);
    bundle.config["hooks"] = json!({
        "prestart": one("prestart"), "createRuntime": one("createRuntime"), "createContainer": one("createContainer"),
        "startContainer": inside, "poststart": one("poststart"), "poststop": one("poststop"),
    });
    bundle.create()?;
    let told = log(bundle);
    ensure(told == "prestart createRuntime createContainer", || {
        format!("before start they ran as {told:?}")
    })?;
    ensure(bundle.written("inside").is_empty(), || {
        "startContainer ran before start".to_owned()
    })?;
    bundle.start()?;
    bundle.stopped()?;
    ensure(bundle.written("inside") == "startContainer\n", || {
        "startContainer did not run inside".to_owned()
    })?;
    bundle.delete()?;
    let told = log(bundle);
    let all = "prestart createRuntime createContainer poststart poststop";
    ensure(told == all, || format!("they ran as {told:?}"))
}

/// Hooks of the host get the state, whatever their folder; here that they can rely on being told.
fn hook_working_folder(bundle: &mut Bundle) -> Outcome {
    bundle.config["hooks"] = json!({ "createRuntime": [shell(&format!("pwd > {}", bundle.file("where")))] });
    bundle.run()?;
    let told = std::fs::read_to_string(bundle.file("where"))?;
    ensure(told.starts_with('/'), || format!("it is in {told:?}"))
}

fn hook_timeout(bundle: &mut Bundle) -> Outcome {
    let slow = json!([{ "path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1 }]);
    bundle.config["hooks"] = json!({ "createRuntime": slow });
    refused("create with a hook that does not end", bundle.create())
}

fn hook_environment(bundle: &mut Bundle) -> Outcome {
    let script = format!("env > {}", bundle.file("env"));
    let one = json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["ONLY=this"] });
    bundle.config["hooks"] = json!({ "createRuntime": [one] });
    bundle.create()?;
    let env = std::fs::read_to_string(bundle.file("env"))?;
    ensure(env.contains("ONLY=this\n"), || "the variable is not there".to_owned())?;
    ensure(!env.contains("HOME="), || {
        "it inherited the runtime's environment".to_owned()
    })?;
    bundle.finish()
}

fn start_container_fail(bundle: &mut Bundle) -> Outcome {
    bundle.config["hooks"] = json!({ "startContainer": [{ "path": "/probe", "args": ["probe", "exit", "3"] }] });
    bundle.args(&["append", "/output", "called"]);
    bundle.create()?;
    let started = bundle.start();
    bundle.ended()?;
    ensure(bundle.written("output").is_empty(), || "the program ran".to_owned())?;
    refused("start with a failing hook", started)
}

fn create_container_fail(bundle: &mut Bundle) -> Outcome {
    bundle.config["hooks"] = json!({ "createContainer": super::hooks::failing(bundle) });
    refused("create with a failing hook", bundle.create())?;
    ensure(log(bundle).is_empty(), || "the hooks behind it ran".to_owned())?;
    bundle.is("none")
}

fn mounts_propagation(bundle: &mut Bundle) -> Outcome {
    let ways = [
        ("shared", "shared:"),
        ("rshared", "shared:"),
        ("unbindable", "unbindable"),
        ("private", ""),
    ];
    for (way, _) in ways {
        let target = format!("/mnt/{way}");
        let mount = json!({ "destination": target, "type": "tmpfs", "source": "tmpfs", "options": [way] });
        bundle.config["mounts"].as_array_mut().unwrap().push(mount);
    }
    let seen = bundle.inside()?;
    for (way, wanted) in ways {
        let found = seen.mount(&format!("/mnt/{way}"))?.propagation;
        ensure(found.contains(wanted), || format!("{way} is {found:?}"))?;
        ensure(!wanted.is_empty() || found.is_empty(), || format!("{way} is {found:?}"))?;
    }
    Ok(())
}

fn mounts_over_a_file(bundle: &mut Bundle) -> Outcome {
    std::fs::write(bundle.file("given"), "given")?;
    let mount = json!({ "destination": "/etc/new", "source": bundle.file("given"), "options": ["bind", "ro"] });
    bundle.config["mounts"].as_array_mut().unwrap().push(mount);
    bundle.args(&["see", "=/etc/new", "/etc/new"]);
    let seen = bundle.run()?;
    seen.is("=/etc/new", "given")?;
    seen.has("/etc/new", "writable=false")
}

/// Since 1.1 no error but a warning.
fn capabilities_unknown(bundle: &mut Bundle) -> Outcome {
    bundle.config["ociVersion"] = json!("1.1.0");
    let all = bundle.config["process"]["capabilities"]["bounding"]
        .as_array_mut()
        .unwrap();
    all.push(json!("CAP_TEST"));
    bundle.inside()?;
    let said = std::fs::read_to_string(bundle.file("err"))?;
    ensure(said.contains("CAP_TEST"), || "it does not warn".to_owned())
}

/// What the runtime has not got it cannot grant; it does without, and says so.
fn capabilities_beyond(bundle: &mut Bundle) -> Outcome {
    bundle.config["ociVersion"] = json!("1.1.0");
    let sets = bundle.config["process"]["capabilities"].as_object_mut().unwrap();
    for set in sets.values_mut() {
        set.as_array_mut().unwrap().push(json!("CAP_SYS_RESOURCE"));
    }
    bundle.inside().map(drop)
}

fn labels_that_cannot_be_had(bundle: &mut Bundle) -> Outcome {
    if std::path::Path::new("/sys/fs/selinux/enforce").exists() {
        return Err(super::judge::Trouble::Impossible("this kernel has SELinux".to_owned()));
    }
    bundle.config["process"]["selinuxLabel"] = json!("system_u:system_r:svirt_lxc_net_t:s0:c124,c675");
    refused(
        "a label on a kernel without labels",
        bundle.create().and_then(|()| bundle.start()),
    )
}

fn seccomp_arguments(bundle: &mut Bundle) -> Outcome {
    bundle.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 19,
                       "args": [{ "index": 1, "value": 0o700, "op": "SCMP_CMP_EQ" }] }],
    });
    bundle.args(&["call", "mkdir"]);
    bundle.run()?.is("call", libc::ENODEV)?;
    bundle.args(&["call", "mkdir-other"]);
    bundle.run()?.is("call", 0)
}

fn seccomp_killed(bundle: &mut Bundle) -> Outcome {
    bundle.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["mkdir"], "action": "SCMP_ACT_KILL_PROCESS" }],
    });
    bundle.args(&["call", "mkdir"]);
    bundle.create()?;
    bundle.start()?;
    let code = bundle.ended()?;
    ensure(code == 128 + libc::SIGSYS, || format!("it ended with {code}"))?;
    bundle.finish()
}

fn namespaces_twice(bundle: &mut Bundle) -> Outcome {
    bundle.config["linux"]["namespaces"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "type": "pid" }));
    refused("a namespace that stands twice", bundle.create())
}

fn uid_mappings_of_many(bundle: &mut Bundle) -> Outcome {
    maps(&mut bundle.config, (0, 100_000, 1000), (0, 200_000, 1000));
    for key in ["uidMappings", "gidMappings"] {
        let more = json!({ "containerID": 1000, "hostID": 300_000, "size": 500 });
        bundle.config["linux"][key].as_array_mut().unwrap().push(more);
    }
    bundle.config["process"]["user"] = json!({ "uid": 1001, "gid": 1002 });
    bundle.inside().map(drop)
}

/// In a namespace of its own the group it is in is the root.
fn cgroup_namespace(bundle: &mut Bundle) -> Outcome {
    bundle.config["linux"]["namespaces"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "type": "cgroup" }));
    bundle.args(&["see", "=/proc/self/cgroup"]);
    let seen = bundle.run()?;
    let line = seen.get("=/proc/self/cgroup");
    ensure(line.ends_with(":/"), || format!("it is in {line:?}"))
}

fn state_of_the_killed(bundle: &mut Bundle) -> Outcome {
    bundle.args(&["sleep"]);
    bundle.create()?;
    bundle.start()?;
    bundle.is("running")?;
    bundle.kill("KILL")?;
    let code = bundle.ended()?;
    ensure(code == 128 + libc::SIGKILL, || format!("it ended with {code}"))?;
    bundle.is("stopped")?;
    Ok(bundle.delete()?)
}

/// Told at the latest when it is started.
fn start_of_what_cannot_run(bundle: &mut Bundle) -> Outcome {
    bundle.config["process"]["args"] = json!(["/no/such/program"]);
    refused(
        "a program that is not there",
        bundle.create().and_then(|()| bundle.start()),
    )
}

fn delete_force(bundle: &mut Bundle) -> Outcome {
    bundle.args(&["sleep"]);
    bundle.create()?;
    bundle.start()?;
    bundle.call(&["delete", "--force", &bundle.id])?;
    refused("state of a deleted one", bundle.state())
}

fn delete_of_nobody(bundle: &mut Bundle) -> Outcome {
    bundle
        .call(&["delete", "--force", &bundle.id])
        .map(drop)
        .map_err(Into::into)
}

/// Runs it as people do; what it ends with.
fn run(bundle: &mut Bundle, more: &[&str]) -> std::process::ExitStatus {
    bundle.write_config();
    let dir = bundle.file("");
    let mut words = vec!["run", "--bundle", &dir];
    words.extend(more);
    words.push(&bundle.id);
    bundle
        .command(&words)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap()
}

fn run_exit_code(bundle: &mut Bundle) -> Outcome {
    bundle.args(&["exit", "42"]);
    let status = run(bundle, &[]);
    ensure(status.code() == Some(42), || format!("run ended with {status}"))?;
    bundle.is("none")
}

fn run_detached(bundle: &mut Bundle) -> Outcome {
    bundle.args(&["sleep"]);
    let pid_file = bundle.file("first");
    let status = run(bundle, &["--detach", "--pid-file", &pid_file]);
    ensure(status.success(), || format!("run ended with {status}"))?;
    bundle.hold(&std::fs::read_to_string(pid_file)?)?;
    bundle.is("running")?;
    bundle.finish()
}

fn run_leaves_nothing(bundle: &mut Bundle) -> Outcome {
    bundle.args(&["exit", "0"]);
    let status = run(bundle, &[]);
    ensure(status.success(), || format!("run ended with {status}"))?;
    let left = super::kit::groups_of(&bundle.id);
    ensure(left.is_empty(), || "control groups are left".to_owned())
}

fn list(bundle: &mut Bundle) -> Outcome {
    bundle.create()?;
    let text = bundle.call(&["list", "--format", "json"])?;
    let all: Value = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    let mut all = all.as_array().into_iter().flatten();
    let found = all.any(|one| one["id"] == json!(bundle.id) && one["status"] == "created");
    ensure(found, || "it is not listed".to_owned())?;
    bundle.finish()
}

/// A terminal arrives at the socket and is the container's.
fn console_socket(bundle: &mut Bundle) -> Outcome {
    bundle.config["process"]["terminal"] = json!(true);
    bundle.args(&["see"]);
    let path = bundle.file("tty");
    let listener = UnixListener::bind(&path)?;
    bundle.create_with(&["--console-socket", &path])?;
    let (_, terminal) = received(&listener)?;
    bundle.start()?;
    let mut told = Vec::new();
    let mut chunk = [0u8; 4096];
    // The other end's last user gone is told as an error.
    while readable(&terminal, PATIENCE).is_ok() {
        match rustix::io::read(&terminal, &mut chunk[..]) {
            Ok(length) if length > 0 => told.extend_from_slice(&chunk[..length]),
            _ => break,
        }
    }
    let told = String::from_utf8_lossy(&told).into_owned();
    ensure(told.contains("terminal\t1"), || {
        "its standard input is no terminal".to_owned()
    })?;
    bundle.finish()
}

fn ps(bundle: &mut Bundle) -> Outcome {
    bundle.args(&["sleep"]);
    bundle.create()?;
    bundle.start()?;
    let text = bundle.call(&["ps", "--format", "json", &bundle.id])?;
    let all: Value = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    ensure(all == json!([bundle.pid()]), || format!("it tells of {all}"))?;
    bundle.finish()
}

fn features_or_version(bundle: &mut Bundle) -> Outcome {
    let text = match bundle.call(&["features"]) {
        Ok(text) => text,
        // Runtimes of before that command tell their specification with their version.
        Err(_) => bundle.call(&["--version"])?,
    };
    let text = String::from_utf8_lossy(&text).into_owned();
    let told = text.contains("ociVersionMax") || text.contains("spec: 1.");
    ensure(told, || format!("it says {text:?}"))
}

fn spec_is_one(bundle: &mut Bundle) -> Outcome {
    std::fs::create_dir(bundle.file("proposal"))?;
    bundle.call(&["spec", "--bundle", &bundle.file("proposal")])?;
    let text = std::fs::read(bundle.path().join("proposal/config.json"))?;
    let spec: Value = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    ensure(spec["root"]["path"] == "rootfs", || "it has no root".to_owned())?;
    let first = |key: &str| spec[key].clone();
    bundle.config["linux"]["maskedPaths"] = first("linux")["maskedPaths"].clone();
    bundle.config["linux"]["namespaces"] = first("linux")["namespaces"].clone();
    bundle.inside().map(drop)
}

fn kill_all_that_is_in_it(bundle: &mut Bundle) -> Outcome {
    bundle.args(&["sleep"]);
    bundle.create()?;
    bundle.start()?;
    bundle.call(&["kill", "--all", &bundle.id, "KILL"])?;
    bundle.stopped()?;
    Ok(bundle.delete()?)
}
