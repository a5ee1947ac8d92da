//! Cases of youki's contest about containers that run: further processes, a pause, other limits.

use serde_json::{Value, json};

use super::expect::names;
use super::judge::{Outcome, Trouble, ensure, refused};
use super::kit::{Bundle, groups_of};
use super::seen::Seen;

cases!("contest": exec_env_inherits_spec exec_env_overrides_spec exec_env_adds exec_env_process_json exec_preserve_fds
       exec_ignore_paused exec_no_capabilities exec_unset_bounding_capabilities exec_new_privileges
       exec_some_capabilities exec_capabilities_by_flag exec_mounts exec_time_ns update_common);

/// A container that runs, its process waiting.
fn running(bundle: &mut Bundle) -> Outcome {
    bundle.args(&["sleep"]);
    bundle.create()?;
    Ok(bundle.start()?)
}

/// Executes the probe with `options`, and what it told.
fn executed(bundle: &Bundle, options: &[&str], args: &[&str]) -> Result<Seen, Trouble> {
    let mut words = vec!["exec"];
    words.extend(options);
    words.extend([bundle.id.as_str(), "/probe"]);
    words.extend(args);
    let told = bundle.call(&words)?;
    Ok(Seen::parse(&String::from_utf8_lossy(&told)))
}

fn env(bundle: &mut Bundle) -> Outcome {
    bundle.config["process"]["env"]
        .as_array_mut()
        .unwrap()
        .push(json!("MY_VAR=from_spec"));
    running(bundle)
}

fn exec_env_inherits_spec(bundle: &mut Bundle) -> Outcome {
    env(bundle)?;
    executed(bundle, &[], &["see"])?.is("env.MY_VAR", "from_spec")?;
    bundle.finish()
}

fn exec_env_overrides_spec(bundle: &mut Bundle) -> Outcome {
    env(bundle)?;
    executed(bundle, &["--env", "MY_VAR=from_cli"], &["see"])?.is("env.MY_VAR", "from_cli")?;
    bundle.finish()
}

fn exec_env_adds(bundle: &mut Bundle) -> Outcome {
    env(bundle)?;
    let seen = executed(bundle, &["--env", "NEW_VAR=hello"], &["see"])?;
    seen.is("env.NEW_VAR", "hello")?;
    seen.is("env.MY_VAR", "from_spec")?;
    bundle.finish()
}

/// Executes a process that is described as a whole.
fn described(bundle: &Bundle, process: &Value) -> Result<Seen, Trouble> {
    std::fs::write(bundle.file("process.json"), process.to_string())?;
    let told = bundle.call(&["exec", "--process", &bundle.file("process.json"), &bundle.id])?;
    Ok(Seen::parse(&String::from_utf8_lossy(&told)))
}

fn exec_env_process_json(bundle: &mut Bundle) -> Outcome {
    env(bundle)?;
    let process = json!({
        "terminal": false, "cwd": "/tmp", "args": ["/probe", "see"], "env": ["PROC_VAR=from_process"],
        "user": { "uid": 5, "gid": 6 },
    });
    let seen = described(bundle, &process)?;
    seen.is("env.PROC_VAR", "from_process")?;
    seen.is("env.MY_VAR", "nothing")?;
    seen.is("cwd", "/tmp")?;
    seen.is("status.Uid", "5 5 5 5")?;
    bundle.finish()
}

fn exec_preserve_fds(bundle: &mut Bundle) -> Outcome {
    running(bundle)?;
    std::fs::write(bundle.file("given"), "hello world\n")?;
    bundle.wrap(&format!("exec 3<{} 4</dev/null; exec \"$@\"", bundle.file("given")));
    let told = bundle.call(&[
        "exec",
        "--preserve-fds=1",
        &bundle.id,
        "/probe",
        "cat",
        "/proc/self/fd/3",
    ]);
    let seen = executed(bundle, &["--preserve-fds=1"], &["see"]);
    bundle.unwrap();
    let told = told?;
    ensure(told.starts_with(b"hello world"), || {
        format!("it read {:?}", String::from_utf8_lossy(&told))
    })?;
    seen?.is("fds", 4)?;
    bundle.finish()
}

fn exec_ignore_paused(bundle: &mut Bundle) -> Outcome {
    running(bundle)?;
    bundle.call(&["pause", &bundle.id])?;
    bundle.is("paused")?;
    refused(
        "exec in a paused one",
        executed(bundle, &[], &["see"]).map_err(|_| String::new()),
    )?;
    bundle.call(&["resume", &bundle.id])?;
    bundle.is("running")?;
    executed(bundle, &["--ignore-paused"], &["see"])?.is("cwd", "/")?;
    bundle.finish()
}

fn sets(bundle: &mut Bundle, all: Value, promise: bool) -> Result<Seen, Trouble> {
    bundle.config["process"]["capabilities"] = all;
    bundle.config["process"]["noNewPrivileges"] = json!(promise);
    running(bundle)?;
    executed(bundle, &[], &["see"])
}

const NONE: &str = "0000000000000000";

fn exec_no_capabilities(bundle: &mut Bundle) -> Outcome {
    let none = json!({ "bounding": [], "effective": [], "permitted": [], "inheritable": [], "ambient": [] });
    let seen = sets(bundle, none, true)?;
    for set in ["Inh", "Prm", "Eff", "Bnd", "Amb"] {
        seen.is(&format!("status.Cap{set}"), NONE)?;
    }
    seen.is("status.NoNewPrivs", 1)?;
    bundle.finish()
}

fn exec_unset_bounding_capabilities(bundle: &mut Bundle) -> Outcome {
    let unset = json!({ "effective": [], "permitted": [], "inheritable": [], "ambient": [] });
    sets(bundle, unset, true)?.is("status.CapBnd", NONE)?;
    bundle.finish()
}

fn exec_new_privileges(bundle: &mut Bundle) -> Outcome {
    let none = json!({ "bounding": [], "effective": [], "permitted": [], "inheritable": [], "ambient": [] });
    let seen = sets(bundle, none, false)?;
    seen.is("status.CapAmb", NONE)?;
    seen.is("status.NoNewPrivs", 0)?;
    bundle.finish()
}

fn exec_some_capabilities(bundle: &mut Bundle) -> Outcome {
    let admin = names(&["SYS_ADMIN"]);
    let some = json!({ "bounding": admin, "effective": admin, "permitted": admin, "inheritable": [], "ambient": [] });
    let seen = sets(bundle, some, true)?;
    for (set, bits) in [
        ("Inh", NONE),
        ("Amb", NONE),
        ("Bnd", ADMIN),
        ("Prm", ADMIN),
        ("Eff", ADMIN),
    ] {
        seen.is(&format!("status.Cap{set}"), bits)?;
    }
    bundle.finish()
}

const ADMIN: &str = "0000000000200000";

fn exec_capabilities_by_flag(bundle: &mut Bundle) -> Outcome {
    let (granted, inherited) = (names(&["KILL", "CHOWN"]), names(&["CHOWN"]));
    bundle.config["process"]["capabilities"] = json!({
        "bounding": granted, "effective": granted, "permitted": granted, "inheritable": inherited,
        "ambient": inherited,
    });
    running(bundle)?;
    let seen = executed(bundle, &["--cap=CAP_SYSLOG"], &["see"])?;
    seen.is("status.CapBnd", "0000000400000021")?;
    seen.is("status.CapEff", "0000000400000021")?;
    seen.is("status.CapInh", "0000000000000001")?;
    seen.is("status.CapAmb", "0000000000000001")?;
    bundle.finish()
}

fn exec_mounts(bundle: &mut Bundle) -> Outcome {
    bundle.config["root"]["readonly"] = json!(true);
    running(bundle)?;
    let seen = executed(bundle, &[], &["see", "/"])?;
    seen.has("/", "writable=false")?;
    let options = seen.mount("/sys")?.options;
    ensure(options.split(',').any(|word| word == "ro"), || {
        format!("/sys is {options}")
    })?;
    bundle.finish()
}

fn exec_time_ns(bundle: &mut Bundle) -> Outcome {
    super::contest::offsets(&mut bundle.config);
    running(bundle)?;
    executed(bundle, &[], &["see"])?.is("clocks", "monotonic 7881 2718281,boottime 1337 3141519")?;
    bundle.finish()
}

/// What stands in a file of the container's group, whatever hierarchy it is in.
fn limit(bundle: &Bundle, file: &str) -> Result<String, Trouble> {
    let found = groups_of(&bundle.id)
        .into_iter()
        .find_map(|group| std::fs::read_to_string(group.join(file)).ok());
    let found = found.ok_or_else(|| Trouble::Impossible(format!("this machine has no {file}")))?;
    Ok(found.trim().to_owned())
}

fn update_common(bundle: &mut Bundle) -> Outcome {
    bundle.config["linux"]["resources"]["pids"] = json!({ "limit": 20 });
    bundle.config["linux"]["resources"]["memory"] = json!({ "limit": 33_554_432, "reservation": 25_165_824 });
    running(bundle)?;
    let steps = [
        (&["--memory", "67108864"][..], "memory.limit_in_bytes", "67108864"),
        (
            &["--memory-reservation", "33554432"],
            "memory.soft_limit_in_bytes",
            "33554432",
        ),
        (&["--pids-limit", "10"], "pids.max", "10"),
        (
            &["--cpu-period", "900000", "--cpu-quota", "600000"],
            "cpu.cfs_quota_us",
            "600000",
        ),
        (&["--cpu-share", "200"], "cpu.shares", "200"),
        (&["--cpuset-cpus", "0"], "cpuset.cpus", "0"),
    ];
    for (options, file, wanted) in steps {
        let mut words = vec!["update"];
        words.extend(options);
        words.push(&bundle.id);
        bundle.call(&words)?;
        let found = limit(bundle, file)?;
        ensure(found == wanted, || {
            format!("after update {options:?} {file} is {found}")
        })?;
    }
    bundle.finish()
}
