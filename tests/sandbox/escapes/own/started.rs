//! What depends on how a sandbox is started: its working folder, the program before it, keyring, console.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::{Host, Outcome, attempt, attempt_spec, output, table};
use crate::escapes::bundle::{Bundle, Line};
use crate::escapes::outside::Outside;
use crate::kit::{printed, probe};
use crate::lifecycle::exec_spec;

#[test]
fn working_folder() {
    let name = "working-folder";
    let host = Host::new();
    let outside = Outside::new(&host);
    let mut spec = attempt_spec(&host, &outside, name);
    let real = attempt(&host, &spec, name).held(name, "a sandbox");
    let bundle = Bundle::new(&host, &spec, &[]);
    Outcome::read(name, &bundle.run()).held(name, "a bundle that says the same");
    // Through whatever the one that starts it has open.
    for descriptor in 3..24 {
        spec.process.cwd = format!("/proc/self/fd/{descriptor}").into();
        if let Ok(sandbox) = host.runtime().create(&spec) {
            sandbox.destroy().unwrap();
            panic!("a descriptor {descriptor} of init's became the working folder");
        }
    }
    further_processes_stay_inside(&host, name);
    let mut enter = Command::new("nsenter");
    enter.arg(format!("--root={}", bundle.root.display()));
    enter.arg(format!("--wd={}", outside.folder().parent().unwrap().display()));
    enter.args(["/bin/probe", "escape", name, "outside"]);
    let reached = Outcome::read(name, &output(&mut enter)).escaped(name, "another folder");
    table::record(name, &real, &reached);
    drop((bundle, outside));
    host.finish();
}

/// The same for those that are started later.
fn further_processes_stay_inside(host: &Host, name: &str) {
    let sandbox = host.create(&host.spec("further", &["sleep"]));
    for descriptor in 3..24 {
        let mut spec = exec_spec(&["escape", name, "outside"]);
        spec.cwd = format!("/proc/self/fd/{descriptor}").into();
        let Ok(mut exec) = sandbox.exec(&spec) else { continue };
        let told = std::io::read_to_string(std::fs::File::from(exec.stdout.take().unwrap())).unwrap();
        Outcome::read(name, &told).held(name, "a further process");
    }
    sandbox.destroy().unwrap();
}

#[test]
fn program_of_init() {
    let name = "program-of-init";
    let host = Host::new();
    let outside = Outside::new(&host);
    let real = attempt(&host, &attempt_spec(&host, &outside, name), name).held(name, "a sandbox");
    the_program_of_init_is_run_inside(&host);
    // A program of the host's that ends while it is looked at; only processes of the namespace are in sight.
    let starter = host.dir.path().join("starter");
    let program = std::fs::read(probe()).unwrap();
    std::fs::write(&starter, [&program[..], b"of the host"].concat()).unwrap();
    std::fs::set_permissions(&starter, std::fs::Permissions::from_mode(0o755)).unwrap();
    let bundle = Bundle::new(&host, &attempt_spec(&host, &outside, name), &[]);
    std::fs::create_dir(bundle.root.join("proc")).unwrap();
    let script =
        "mount -t proc proc \"$2/proc\" && { \"$1\" moment & chroot \"$2\" /bin/probe escape \"$3\" starter; }";
    let mut beside = Command::new("unshare");
    beside.args(["--mount", "--pid", "--fork", "sh", "-c", script, "sh"]);
    beside.arg(&starter).arg(&bundle.root).arg(name);
    let reached = Outcome::read(name, &output(&mut beside)).escaped(name, "beside a program of the host");
    table::record(name, &real, &reached);
    drop((bundle, outside));
    host.finish();
}

/// An app can have the platform's program run, but that is all.
fn the_program_of_init_is_run_inside(host: &Host) {
    let name = "program-of-init";
    let mut spec = host.spec("exe", &["escape", name, "any"]);
    (spec.process.uid, spec.process.gid) = (0, 0);
    let sandbox = host.create(&spec);
    while sandbox.exit().unwrap().is_none() {
        let mut itself = exec_spec(&[]);
        itself.argv = vec!["/proc/self/exe".to_owned(), "list".to_owned()];
        itself.uid = 0;
        match sandbox.exec(&itself) {
            Ok(exec) => drop(exec.wait(std::time::Instant::now() + crate::kit::PATIENCE).unwrap()),
            Err(_ended_or_refused) => {}
        }
    }
    let told = crate::kit::text(&crate::kit::records(&sandbox), sandbox::log::Stream::Out);
    Outcome::read(name, &told).held(name, "a sandbox that runs the program of init");
    sandbox.destroy().unwrap();
}

/// Set for the process that has a key in its session.
const IN_SESSION: &str = "SANDBOX_TEST_IN_SESSION";

#[test]
fn keyring_of_others() {
    let name = "keyring-of-others";
    if std::env::var(IN_SESSION).is_err() {
        // Everything is started in a session of its own, with a key in it.
        let mut session = Command::new(probe());
        session
            .args(["with-key", "paas-escape"])
            .arg(std::env::current_exe().unwrap());
        session.args(["--exact", "escapes::own::started::keyring_of_others", "--nocapture"]);
        let told = output(session.env(IN_SESSION, "yes"));
        assert!(told.contains("1 passed"), "{told}");
        return;
    }
    let host = Host::new();
    let outside = Outside::new(&host);
    let mut spec = attempt_spec(&host, &outside, name);
    spec.process.argv.push("paas-escape".to_owned());
    let real = attempt(&host, &spec, name).held(name, "a sandbox");
    let told = |lines: &[Line]| Outcome::read(name, &Bundle::new(&host, &spec, lines).run());
    told(&[]).held(name, "a bundle that says the same");
    told(&[Line::NoFilter]).held(name, "a bundle with a keyring of its own");
    let reached = told(&[Line::NoFilter, Line::CallersKeyring]).escaped(name, "a weakened bundle");
    table::record(name, &real, &reached);
    drop(outside);
    host.finish();
}

#[test]
fn console() {
    let name = "console";
    let host = Host::new();
    let outside = Outside::new(&host);
    let mut spec = attempt_spec(&host, &outside, name);
    let real = attempt(&host, &spec, name).held(name, "a sandbox");
    // Whatever a layer has in its place, with a terminal or without one.
    let evil = host.dir.path().join("evil");
    std::fs::create_dir_all(evil.join("dev")).unwrap();
    std::os::unix::fs::symlink("/shown/typed", evil.join("dev/console")).unwrap();
    std::os::unix::fs::symlink("/shown/typed", evil.join("dev/tty")).unwrap();
    spec.layers.insert(0, evil);
    attempt(&host, &spec, name).held(name, "a sandbox with a link there");
    spec.process.terminal = true;
    attempt(&host, &spec, name).held(name, "a sandbox with a terminal and a link there");
    assert!(!outside.folder().join("typed").exists(), "the link was followed");
    spec.process.terminal = false;
    spec.layers.remove(0);

    let pty = nix::pty::openpty(None, None).unwrap();
    let path = nix::unistd::ttyname(&pty.slave).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    let mut bundle = Bundle::new(&host, &spec, &[]);
    Outcome::read(name, &bundle.run()).held(name, "a bundle that says the same");
    bundle.bind(&path, "/dev/console");
    let reached = Outcome::read(name, &bundle.run()).escaped(name, "a weakened bundle");
    let mut typed = [0; 64];
    let length = nix::unistd::read(&pty.master, &mut typed).unwrap();
    assert!(typed[..length].starts_with(b"typed from inside"));
    table::record(name, &real, &reached);
    drop((bundle, outside));
    host.finish();
}

#[test]
fn an_app_that_is_init_itself_ends_like_any_other() {
    let host = Host::new();
    let mut spec = host.spec("itself", &[]);
    spec.process.argv = vec!["/proc/self/exe".to_owned(), "spawner".to_owned()];
    // Whatever it does there, it does as the app, without privileges and within its limits.
    match host.runtime().create(&spec) {
        Ok(sandbox) => sandbox.destroy().unwrap(),
        Err(refused) => assert!(matches!(refused, sandbox::Error::Program { .. }), "{refused}"),
    }
    let beside = host.create(&host.spec("beside", &["sleep"]));
    printed(&beside, "asleep");
    beside.destroy().unwrap();
    host.finish();
}
