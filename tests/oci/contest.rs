//! Cases of youki's contest about the making of a container that the runtime-tools do not have.

use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use super::expect::names;
use super::hooks::{hook, log};
use super::judge::{Outcome, ensure, refused};
use super::kit::{Bundle, received};
use super::namespaces::maps;

cases!("contest": domainname io_priority_class_rt io_priority_class_be io_priority_class_idle scheduler_policy_other
       scheduler_policy_batch personality_for_linux32 personality_for_linux64 time_ns_simple time_ns_no_offsets
       time_ns_userns fd_control_only_stdio fd_control_closes_fd fd_control_pass_single_fd no_pivot
       prohibit_symlink_proc prohibit_symlink_sys bounding_dropped_when_unset bounding_unset_with_other_caps_fails
       create_runtime create_runtime_fail start_container_env_inherit start_container_env_explicit
       devices_default_permissions seccomp_notify);

fn domainname(bundle: &mut Bundle) -> Outcome {
    bundle.config["domainname"] = json!("domainname");
    bundle.inside().map(drop)
}

/// The class stands in the upper three of sixteen bits.
fn io_priority(bundle: &mut Bundle, class: &str, number: i64, level: i64) -> Outcome {
    bundle.config["process"]["ioPriority"] = json!({ "class": class, "priority": level });
    bundle.inside()?.is("io_priority", number << 13 | level)
}

fn io_priority_class_rt(bundle: &mut Bundle) -> Outcome {
    io_priority(bundle, "IOPRIO_CLASS_RT", 1, 1)
}

fn io_priority_class_be(bundle: &mut Bundle) -> Outcome {
    io_priority(bundle, "IOPRIO_CLASS_BE", 2, 2)
}

fn io_priority_class_idle(bundle: &mut Bundle) -> Outcome {
    io_priority(bundle, "IOPRIO_CLASS_IDLE", 3, 3)
}

fn scheduler_policy_other(bundle: &mut Bundle) -> Outcome {
    bundle.config["process"]["scheduler"] = json!({ "policy": "SCHED_OTHER", "nice": 1 });
    bundle.inside()?.is("scheduler", libc::SCHED_OTHER)
}

fn scheduler_policy_batch(bundle: &mut Bundle) -> Outcome {
    bundle.config["process"]["scheduler"] = json!({ "policy": "SCHED_BATCH", "nice": 1 });
    bundle.inside()?.is("scheduler", libc::SCHED_BATCH)
}

fn personality_for_linux32(bundle: &mut Bundle) -> Outcome {
    bundle.config["linux"]["personality"] = json!({ "domain": "LINUX32" });
    bundle.inside()?.is("machine", "i686")
}

fn personality_for_linux64(bundle: &mut Bundle) -> Outcome {
    bundle.config["linux"]["personality"] = json!({ "domain": "LINUX" });
    bundle.inside()?.is("machine", "x86_64")
}

fn time_namespace(config: &mut Value) {
    config["linux"]["namespaces"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "type": "time" }));
}

/// Offsets of clocks.
pub fn offsets(config: &mut Value) {
    time_namespace(config);
    config["linux"]["timeOffsets"] = json!({
        "boottime": { "secs": 1337, "nanosecs": 3_141_519 }, "monotonic": { "secs": 7881, "nanosecs": 2_718_281 },
    });
}

fn time_ns_simple(bundle: &mut Bundle) -> Outcome {
    offsets(&mut bundle.config);
    bundle
        .inside()?
        .is("clocks", "monotonic 7881 2718281,boottime 1337 3141519")
}

fn time_ns_no_offsets(bundle: &mut Bundle) -> Outcome {
    time_namespace(&mut bundle.config);
    bundle.inside()?.is("clocks", "monotonic 0 0,boottime 0 0")
}

fn time_ns_userns(bundle: &mut Bundle) -> Outcome {
    offsets(&mut bundle.config);
    maps(&mut bundle.config, (0, 100_000, 65_534), (0, 200_000, 65_534));
    bundle
        .inside()?
        .is("clocks", "monotonic 7881 2718281,boottime 1337 3141519")
}

/// With three descriptors more than it should have.
fn descriptors(bundle: &mut Bundle, open: &str, preserve: &str, wanted: usize) -> Outcome {
    bundle.wrap(&format!("{open} exec \"$@\""));
    bundle.create_with(&["--preserve-fds", preserve])?;
    bundle.unwrap();
    bundle.start()?;
    bundle.stopped()?;
    bundle.seen().is("fds", 3 + wanted)?;
    Ok(bundle.delete()?)
}

fn fd_control_only_stdio(bundle: &mut Bundle) -> Outcome {
    // Those that are not open cannot be passed on; nor may the runtime's own be.
    let none = "exec 3<&- 4<&- 5<&- 6<&- 7<&-;";
    descriptors(bundle, none, "5", 0)
}

fn fd_control_closes_fd(bundle: &mut Bundle) -> Outcome {
    descriptors(bundle, "exec 3</dev/null 4</dev/null;", "0", 0)
}

fn fd_control_pass_single_fd(bundle: &mut Bundle) -> Outcome {
    descriptors(bundle, "exec 3</dev/null 4</dev/null;", "1", 1)
}

fn no_pivot(bundle: &mut Bundle) -> Outcome {
    bundle.create_with(&["--no-pivot"])?;
    bundle.start()?;
    bundle.stopped()?;
    Ok(bundle.delete()?)
}

/// A root that brings a link where a file system of the kernel's is to be mounted.
fn linked(bundle: &mut Bundle, name: &str) -> Outcome {
    std::fs::remove_dir(bundle.root().join(name))?;
    std::fs::create_dir(bundle.root().join("elsewhere"))?;
    symlink("elsewhere", bundle.root().join(name))?;
    refused(&format!("a mount over the link /{name}"), bundle.create())
}

fn prohibit_symlink_proc(bundle: &mut Bundle) -> Outcome {
    linked(bundle, "proc")
}

fn prohibit_symlink_sys(bundle: &mut Bundle) -> Outcome {
    linked(bundle, "sys")
}

fn bounding_dropped_when_unset(bundle: &mut Bundle) -> Outcome {
    bundle.config["process"]["capabilities"] =
        json!({ "effective": [], "permitted": [], "inheritable": [], "ambient": [] });
    bundle.inside()?.is("status.CapBnd", "0000000000000000")
}

fn bounding_unset_with_other_caps_fails(bundle: &mut Bundle) -> Outcome {
    let admin = names(&["SYS_ADMIN"]);
    bundle.config["process"]["capabilities"] =
        json!({ "effective": admin, "permitted": admin, "inheritable": admin, "ambient": [] });
    let done = bundle.create().and_then(|()| bundle.start());
    refused("capabilities beyond what is bounded", done)
}

fn create_runtime(bundle: &mut Bundle) -> Outcome {
    bundle.config["hooks"] = json!({ "createRuntime": [hook(bundle, "hook")] });
    bundle.create()?;
    ensure(log(bundle) == "hook", || "create did not run it".to_owned())?;
    bundle.start()?;
    bundle.stopped()?;
    bundle.delete()?;
    ensure(log(bundle) == "hook", || "it ran more than once".to_owned())
}

fn create_runtime_fail(bundle: &mut Bundle) -> Outcome {
    bundle.config["hooks"] = json!({ "createRuntime": super::hooks::failing(bundle) });
    refused("create with a failing hook", bundle.create())?;
    ensure(log(bundle).is_empty(), || "the hooks behind it ran".to_owned())?;
    bundle.is("none")
}

/// A hook inside, which runs in the container's namespaces but has its environment from the runtime.
fn environment(bundle: &mut Bundle, env: Option<Value>, wanted: &[(&str, &str)], unwanted: &str) -> Outcome {
    let mut hook = json!({ "path": "/probe", "args": ["probe", "environment", "/told"] });
    if let Some(env) = env {
        hook["env"] = env;
    }
    bundle.config["hooks"] = json!({ "startContainer": [hook] });
    bundle.config["process"]["env"]
        .as_array_mut()
        .unwrap()
        .push(json!("PROC_VAR=process"));
    bundle.run()?;
    let told = bundle.written("told");
    let has = |name: &str| told.lines().any(|line| line.split('=').next() == Some(name));
    for (name, value) in wanted {
        ensure(told.lines().any(|line| line == format!("{name}={value}")), || {
            format!("it has not {name}: {told:?}")
        })?;
    }
    ensure(!has(unwanted), || format!("it has {unwanted}"))
}

/// The specification leaves the environment of a hook without one to the runtime; contest wants the process's.
fn start_container_env_inherit(bundle: &mut Bundle) -> Outcome {
    environment(bundle, None, &[("PROC_VAR", "process")], "NOBODYS")
}

fn start_container_env_explicit(bundle: &mut Bundle) -> Outcome {
    environment(
        bundle,
        Some(json!(["HOOK_VAR=hook"])),
        &[("HOOK_VAR", "hook")],
        "PROC_VAR",
    )
}

fn devices_default_permissions(bundle: &mut Bundle) -> Outcome {
    bundle.config["linux"]["devices"] = json!([{ "path": "/dev/test", "type": "c", "major": 10, "minor": 200 }]);
    let seen = bundle.inside()?;
    seen.has("/dev/test", " 0666 0:0 ")
}

fn seccomp_notify(bundle: &mut Bundle) -> Outcome {
    let path = bundle.file("listener");
    let listener = std::os::unix::net::UnixListener::bind(&path)?;
    bundle.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path, "listenerMetadata": "for the listener",
        "syscalls": [{ "names": ["mkdir"], "action": "SCMP_ACT_NOTIFY" }],
    });
    bundle.args(&["call", "mkdir"]);
    bundle.create()?;
    bundle.start()?;
    let (text, fd) = received(&listener)?;
    let state: Value = serde_json::from_str(&text).map_err(|error| format!("the state is no JSON: {error}"))?;
    ensure(state["fds"] == json!(["seccompFd"]), || {
        format!("fds are {}", state["fds"])
    })?;
    ensure(state["metadata"] == "for the listener", || {
        format!("metadata is {}", state["metadata"])
    })?;
    ensure(state["state"]["id"] == json!(bundle.id), || {
        format!("it is about {}", state["state"]["id"])
    })?;
    // Nobody decides any more.
    drop(fd);
    bundle.stopped()?;
    bundle.seen().is("call", libc::ENOSYS)?;
    Ok(bundle.delete()?)
}
