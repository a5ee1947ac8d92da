//! What the process is given: user, privileges, limits, names.

use serde_json::{Value, json};

use super::expect::every_capability;
use super::judge::{Outcome, Trouble, refused};
use super::kit::Bundle;

cases!("runtime-tools": default process process_capabilities process_capabilities_fail process_oom_score_adj
       process_rlimits process_rlimits_fail process_user hostname linux_seccomp linux_sysctl
       linux_process_apparmor_profile);

/// The template with the filter and the paths that ours proposes for hands.
fn default(bundle: &mut Bundle) -> Outcome {
    let folder = bundle.path().join("proposal");
    std::fs::create_dir(&folder)?;
    let status = std::process::Command::new(env!("CARGO_BIN_EXE_paas-init"))
        .arg("spec")
        .arg("-b")
        .arg(&folder)
        .status()?;
    assert!(status.success(), "the proposal is made");
    let text = std::fs::read(folder.join("config.json"))?;
    let proposal: Value = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    for key in ["seccomp", "maskedPaths", "readonlyPaths"] {
        bundle.config["linux"][key] = proposal["linux"][key].clone();
    }
    bundle.inside().map(drop)
}

fn process(bundle: &mut Bundle) -> Outcome {
    std::fs::create_dir(bundle.root().join("test"))?;
    let process = &mut bundle.config["process"];
    process["cwd"] = json!("/test");
    process["env"]
        .as_array_mut()
        .unwrap()
        .extend([json!("testa=valuea"), json!("testb=123")]);
    bundle.inside().map(drop)
}

fn process_capabilities(bundle: &mut Bundle) -> Outcome {
    bundle.config["process"]["capabilities"] = every_capability();
    bundle.inside().map(drop)
}

fn process_capabilities_fail(bundle: &mut Bundle) -> Outcome {
    let all = bundle.config["process"]["capabilities"]["bounding"]
        .as_array_mut()
        .unwrap();
    all.push(json!("CAP_TEST"));
    refused("a capability that does not exist", bundle.create())
}

fn process_oom_score_adj(bundle: &mut Bundle) -> Outcome {
    bundle.config["process"]["oomScoreAdj"] = json!(500);
    bundle.inside().map(drop)
}

fn process_rlimits(bundle: &mut Bundle) -> Outcome {
    const GIB: u64 = 1 << 30;
    let all = [
        ("RLIMIT_AS", 2 * GIB, GIB),
        ("RLIMIT_CORE", 4 * GIB, 3 * GIB),
        ("RLIMIT_DATA", 6 * GIB, 5 * GIB),
        ("RLIMIT_FSIZE", 8 * GIB, 7 * GIB),
        ("RLIMIT_STACK", 10 * GIB, 9 * GIB),
        ("RLIMIT_CPU", 120, 60),
        ("RLIMIT_NOFILE", 4000, 3000),
    ];
    let all = all.map(|(kind, hard, soft)| json!({ "type": kind, "hard": hard, "soft": soft }));
    bundle.config["process"]["rlimits"] = json!(all);
    bundle.inside().map(drop)
}

fn process_rlimits_fail(bundle: &mut Bundle) -> Outcome {
    bundle.config["process"]["rlimits"] = json!([{ "type": "RLIMIT_TEST", "hard": 1024, "soft": 1024 }]);
    refused("a limit that does not exist", bundle.create())
}

fn process_user(bundle: &mut Bundle) -> Outcome {
    bundle.config["process"]["user"] = json!({ "uid": 10, "gid": 10, "additionalGids": [5], "umask": 0o002 });
    bundle.inside().map(drop)
}

fn hostname(bundle: &mut Bundle) -> Outcome {
    bundle.config["hostname"] = json!("hostname-specific");
    bundle.inside()?;
    // Without one there is nothing to be seen but that it does no harm.
    bundle.config["hostname"] = json!("");
    bundle.inside()?;
    bundle.config.as_object_mut().unwrap().remove("hostname");
    bundle.inside().map(drop)
}

fn linux_seccomp(bundle: &mut Bundle) -> Outcome {
    bundle.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["getcwd"], "action": "SCMP_ACT_ERRNO" }],
    });
    bundle.args(&["call", "getcwd"]);
    bundle.run()?.is("call", libc::EPERM)?;
    bundle.args(&["call", "mkdir"]);
    bundle.run()?.is("call", 0)
}

fn linux_sysctl(bundle: &mut Bundle) -> Outcome {
    bundle.config["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1" });
    bundle.inside().map(drop)
}

fn linux_process_apparmor_profile(bundle: &mut Bundle) -> Outcome {
    let enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").unwrap_or_default();
    if enabled.trim() != "Y" {
        return Err(Trouble::Impossible("this kernel has no AppArmor".to_owned()));
    }
    bundle.config["process"]["apparmorProfile"] = json!("acme_secure_profile");
    refused("a profile that is not loaded", bundle.create())
}
