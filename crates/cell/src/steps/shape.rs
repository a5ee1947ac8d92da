//! The sandbox of a piece of work: what runs in it, with what, and what it may use. Pure.

use crate::account::Account;
use crate::config::Config;
use crate::env;
use crate::error::Error;
use crate::logs::Source;
use crate::steps::prepare::Prepared;
use api::cell::{Exec as Request, Purpose};
use model::id::WorkId;
use model::image::ImageConfig;
use model::staging::BuildInput;
use model::work::{WorkKind, WorkSpec};
use sandbox::net::Egress;
use sandbox::{
    Bind, ExecSpec, IoLimits, Limits, LogPolicy, MAX_LINE, Network, Process, Rlimit, RlimitKind, Sidecar, Spec,
};
use std::path::{Path, PathBuf};

/// The lifecycle, as sandboxes see it.
const LIFECYCLE: &str = "/.paas/lifecycle";
/// Where builds find the built-in buildpacks.
const BUILDPACKS: &str = "/.paas/buildpacks";
/// Where builds find the operator's mirror.
const MIRROR: &str = "/.paas/mirror";
/// Tells buildpacks where it is.
const MIRROR_VARIABLE: &str = "BP_MIRROR";
/// What the lifecycle of a build reads.
const BUILD_INPUT: &str = "/paas/build.json";
/// Open files of a process.
const OPEN_FILES: u64 = 16_384;
/// A shell for sessions that name no command.
const SHELL: &str = "if command -v bash >/dev/null 2>&1; then exec bash -l; else exec sh -l; fi";
/// What the sandbox replaces by its own address in values of the environment.
const ADDRESS: Option<&str> = Some(sandbox::ADDRESS);
const MIB: u64 = 1 << 20;

/// The sandbox of `work`, under `policy`.
pub(crate) fn sandbox(
    config: &Config,
    work: WorkId,
    spec: &WorkSpec,
    prepared: &Prepared,
    policy: Egress,
) -> Result<Spec, Error> {
    let build = matches!(spec.kind, WorkKind::Build(_));
    let mut binds = prepared.binds.clone();
    // An image is started as it says itself, by nothing of the platform's.
    if spec.kind.image().is_none() {
        binds.push(readonly(&config.lifecycle_path, LIFECYCLE));
    }
    if build {
        binds.push(readonly(&config.buildpacks_dir, BUILDPACKS));
        binds.extend(config.mirror_dir.as_deref().map(|mirror| readonly(mirror, MIRROR)));
    }
    let hosts = format!("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n127.0.1.1 {work}\n");
    let mut files = vec![(PathBuf::from("/etc/hosts"), hosts.into_bytes(), 0o644)];
    if let Some(input) = &prepared.input {
        files.push((PathBuf::from(BUILD_INPUT), encode(input)?, 0o600));
    }
    Ok(Spec {
        id: work.to_string(),
        hostname: work.to_string(),
        layers: prepared.lowers.clone(),
        disk_bytes: u64::from(spec.limits.disk_mb).max(16) * MIB,
        inodes: if build {
            config.limits.build_inodes
        } else {
            config.limits.inodes
        },
        binds,
        process: process(config, work, spec, prepared)?,
        limits: Limits {
            memory_bytes: u64::from(spec.limits.memory_mb).max(4) * MIB,
            cpu_weight: spec.limits.cpu_weight(),
            cpu_quota: None,
            pids: spec.limits.pids.max(4),
            io: IoLimits::default(),
        },
        network: Network::Isolated { policy },
        log: log_policy(config, spec),
        files,
        sidecars: sidecars(work, spec, &prepared.account),
    })
}

fn readonly(source: &Path, target: &str) -> Bind {
    Bind {
        source: source.to_owned(),
        target: target.into(),
        readonly: true,
    }
}

fn encode(input: &BuildInput) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(input).map_err(|error| Error::Result {
        reason: format!("its input can't be written: {error}"),
    })
}

fn process(config: &Config, work: WorkId, spec: &WorkSpec, prepared: &Prepared) -> Result<Process, Error> {
    let account = &prepared.account;
    let (argv, cwd) = match (&spec.kind, spec.kind.image()) {
        (kind, Some(image)) => (image_argv(kind, image)?, workdir(image)),
        (WorkKind::Instance(instance), None) => {
            let mut argv = launch(instance.process_type.as_str());
            if let Some(command) = &instance.command {
                argv.extend(["--".to_owned(), command.clone()]);
            }
            (argv, env::HOME)
        }
        (WorkKind::Task(task), None) => {
            let mut argv = launch("task");
            argv.extend(["--".to_owned(), task.command.clone()]);
            (argv, env::HOME)
        }
        (WorkKind::Build(_), None) => {
            let argv = [LIFECYCLE, "build", "--input", BUILD_INPUT].map(str::to_owned);
            (argv.to_vec(), env::BUILD_HOME)
        }
    };
    Ok(Process {
        argv,
        env: environment(config, work, spec, prepared.certificates, account),
        cwd: cwd.into(),
        uid: account.uid,
        gid: account.gid,
        terminal: false,
        rlimits: vec![
            Rlimit {
                resource: RlimitKind::Nofile,
                soft: OPEN_FILES,
                hard: OPEN_FILES,
            },
            Rlimit {
                resource: RlimitKind::Core,
                soft: 0,
                hard: 0,
            },
        ],
    })
}

/// What an image's process runs: a command that somebody gave by the image's shell, else what the image says.
fn image_argv(kind: &WorkKind, image: &ImageConfig) -> Result<Vec<String>, Error> {
    let command = match kind {
        WorkKind::Instance(instance) => instance.command.as_deref(),
        WorkKind::Task(task) => Some(task.command.as_str()),
        WorkKind::Build(_) => None,
    };
    let argv = match command.filter(|command| !command.trim().is_empty()) {
        Some(command) => ["/bin/sh", "-c", command].map(str::to_owned).to_vec(),
        None => image.argv(),
    };
    if argv.is_empty() {
        return Err(Error::Image {
            reason: "it has neither ENTRYPOINT nor CMD, and no start command was given".to_owned(),
        });
    }
    Ok(argv)
}

fn workdir(image: &ImageConfig) -> &str {
    if image.workdir.is_empty() { "/" } else { &image.workdir }
}

/// What runs beside an instance: as its process does, with a command of its own.
fn sidecars(work: WorkId, spec: &WorkSpec, account: &Account) -> Vec<Sidecar> {
    let WorkKind::Instance(instance) = &spec.kind else {
        return Vec::new();
    };
    let image = instance.image.as_ref();
    let mut all: Vec<Sidecar> = Vec::new();
    for sidecar in &instance.sidecars {
        let mut argv = match image {
            Some(_) => ["/bin/sh", "-c"].map(str::to_owned).to_vec(),
            None => launch(instance.process_type.as_str()),
        };
        argv.extend(image.is_none().then(|| "--".to_owned()));
        argv.push(sidecar.command.clone());
        let mut name = plain(&sidecar.name);
        if all.iter().any(|other| other.name == name) {
            // Two names of the platform's, one for sandboxes.
            name = format!("{}-{}", name.chars().take(60).collect::<String>(), all.len());
        }
        let share = sidecar
            .memory_mb
            .map(|megabytes| megabytes.min(spec.limits.memory_mb).max(4));
        all.push(Sidecar {
            name,
            argv,
            env: env::sidecar(work, spec, instance, sidecar, account, ADDRESS),
            cwd: image.map_or(env::HOME, workdir).into(),
            memory_bytes: share.map(|megabytes| u64::from(megabytes) * MIB),
        });
    }
    all
}

/// A sidecar's name as one that a sandbox takes.
fn plain(name: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let text = name.chars().map(|c| if fits(c) { c } else { '-' });
    let text: String = text.skip_while(|c| !c.is_ascii_alphanumeric()).take(64).collect();
    if text.is_empty() { "sidecar".to_owned() } else { text }
}

fn launch(process_type: &str) -> Vec<String> {
    [LIFECYCLE, "launch", "--process", process_type]
        .map(str::to_owned)
        .to_vec()
}

fn environment(
    config: &Config,
    work: WorkId,
    spec: &WorkSpec,
    certificates: bool,
    account: &Account,
) -> Vec<(String, String)> {
    match &spec.kind {
        WorkKind::Instance(instance) => env::instance(work, spec, instance, account, ADDRESS),
        WorkKind::Task(_) => env::task(work, spec, account, ADDRESS),
        WorkKind::Build(_) => {
            let mut platform = config.staging_env.clone();
            if config.mirror_dir.is_some() {
                platform.push((MIRROR_VARIABLE.to_owned(), MIRROR.to_owned()));
            }
            env::build(work, spec, &platform, certificates, ADDRESS)
        }
    }
}

fn log_policy(config: &Config, spec: &WorkSpec) -> LogPolicy {
    let rate = spec
        .limits
        .log_bytes_per_second
        .unwrap_or(config.limits.log_bytes_per_second);
    LogPolicy {
        rate_bytes_per_second: rate,
        burst_bytes: rate.saturating_mul(2).max(64 << 10),
        keep_bytes: config.limits.log_keep_bytes,
        max_line: MAX_LINE,
    }
}

/// A session that somebody has in the work of `spec`, in the environment that its process has. A supervisor stands before
/// it, so that nothing of it is left; in an image there is none, as nothing of the platform's is there.
///
/// # Errors
/// Why there is none of this purpose, for people.
pub(crate) fn session(
    config: &Config,
    spec: &WorkSpec,
    account: &Account,
    request: &Request,
) -> Result<ExecSpec, &'static str> {
    let image = spec.kind.image();
    let mut argv = match (image, &request.purpose, request.command.as_slice()) {
        (None, Purpose::Command, _) => {
            let mut argv = [LIFECYCLE, "session", "--"].map(str::to_owned).to_vec();
            argv.extend(launch(process_type(spec)));
            argv.push("--".to_owned());
            argv
        }
        (None, _, _) => [LIFECYCLE, "session", "--", LIFECYCLE].map(str::to_owned).to_vec(),
        // One word is a text for the shell, as the lifecycle has it.
        (Some(_), Purpose::Command, [] | [_]) => ["/bin/sh", "-c"].map(str::to_owned).to_vec(),
        (Some(_), Purpose::Command, _) => Vec::new(),
        (Some(_), _, _) => return Err("connections and files are not had in an instance of an image, commands are"),
    };
    match (&request.purpose, request.command.as_slice()) {
        (Purpose::Command, []) => argv.push(SHELL.to_owned()),
        (Purpose::Command, command) => argv.extend(command.iter().cloned()),
        (Purpose::Connect { host, port }, _) => argv.extend(["connect".to_owned(), host.clone(), port.to_string()]),
        (Purpose::Files, _) => argv.push("sftp".to_owned()),
    }
    let env = environment(config, request.work, spec, false, account);
    Ok(ExecSpec {
        argv,
        env: env::session(env, &request.variables, request.terminal.is_some()),
        cwd: image.map_or(env::HOME, workdir).into(),
        uid: account.uid,
        tty: request.terminal,
    })
}

fn process_type(spec: &WorkSpec) -> &str {
    match &spec.kind {
        WorkKind::Instance(instance) => instance.process_type.as_str(),
        WorkKind::Task(_) | WorkKind::Build(_) => "task",
    }
}

/// Whose log lines the work writes.
pub(crate) fn source(work: WorkId, spec: &WorkSpec) -> Source {
    let (source_type, instance) = match &spec.kind {
        WorkKind::Instance(instance) => {
            let process_type = instance.process_type.as_str().to_ascii_uppercase();
            (format!("APP/PROC/{process_type}"), instance.index)
        }
        WorkKind::Task(task) => (format!("APP/TASK/{}", task.name), 0),
        WorkKind::Build(_) => ("STG".to_owned(), 0),
    };
    let sidecars = match &spec.kind {
        WorkKind::Instance(instance) => instance.sidecars.as_slice(),
        WorkKind::Task(_) | WorkKind::Build(_) => &[],
    };
    let sidecar = |name: &str| format!("{source_type}/SIDECAR/{}", name.to_ascii_uppercase());
    Source {
        work,
        app: spec.owner.app,
        sidecars: sidecars.iter().map(|one| sidecar(&one.name)).collect(),
        source_type,
        instance: instance.to_string(),
    }
}
