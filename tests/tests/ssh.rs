//! Sessions inside instances, as stock clients have them: OpenSSH's ssh, scp and ssh-keygen, and `paas ssh`.

use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use tests::{Api, Ended, Platform, text};

/// Longest time for a client, in seconds: it is ended then, which fails the test.
const PATIENCE: &str = "60";
const APP: &str = "shop";

struct World {
    platform: Platform,
    api: Api,
    app: String,
    process: String,
    host: String,
    port: String,
    folder: tempfile::TempDir,
}

impl World {
    fn start() -> Self {
        let platform = Platform::start();
        let folder = tests::app("static-site");
        let _ = platform
            .paas(["push", folder.path().to_str().expect("UTF-8"), "-n", APP])
            .ok();
        let api = Api::of(&platform);
        let guid = |path: &str| text(&get(&api, path)["resources"][0]["guid"]).to_owned();
        let app = guid(&format!("/v3/apps?names={APP}"));
        let process = guid(&format!("/v3/apps/{app}/processes"));
        let link = get(&api, "/")["links"]["app_ssh"].clone();
        let (host, port) = text(&link["href"]).split_once(':').expect("host:port");
        let folder = tempfile::tempdir().expect("a folder");
        let asks = folder.path().join("ask");
        std::fs::write(&asks, "#!/bin/sh\necho \"$THE_CODE\"\n").expect("written");
        std::fs::set_permissions(&asks, std::fs::Permissions::from_mode(0o755)).expect("set");
        Self {
            app,
            process,
            host: host.to_owned(),
            port: port.to_owned(),
            folder,
            api,
            platform,
        }
    }

    fn known(&self) -> PathBuf {
        self.folder.path().join("known")
    }

    fn code(&self) -> String {
        self.platform.paas(["ssh-code"]).ok().stdout.trim().to_owned()
    }

    /// A client of OpenSSH's, with `code` as its password.
    fn client(&self, program: &str, code: &str) -> Command {
        let mut client = Command::new("timeout");
        let known = format!("UserKnownHostsFile={}", self.known().display());
        let port = format!("Port={}", self.port);
        let user = format!("User=cf:{}/0", self.process);
        client.args(["-k", "5", PATIENCE, program, "-F", "none"]);
        for option in [
            known.as_str(),
            port.as_str(),
            user.as_str(),
            "GlobalKnownHostsFile=/dev/null",
            "StrictHostKeyChecking=accept-new",
            "NumberOfPasswordPrompts=1",
            "PubkeyAuthentication=no",
            "LogLevel=ERROR",
        ] {
            client.args(["-o", option]);
        }
        client
            .env("SSH_ASKPASS", self.folder.path().join("ask"))
            .env("SSH_ASKPASS_REQUIRE", "force")
            .env("THE_CODE", code)
            .stdin(Stdio::null());
        client
    }

    fn ssh(&self, arguments: &[&str]) -> Ended {
        self.ssh_with(&self.code(), arguments, "")
    }

    /// The client to its end, with this input.
    fn ssh_with(&self, code: &str, arguments: &[&str], input: &str) -> Ended {
        let (options, command) = arguments.split_at(arguments.len().saturating_sub(1));
        let mut child = self
            .client("ssh", code)
            .args(options)
            .arg(&self.host)
            .args(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("ssh is installed");
        let mut stdin = child.stdin.take().expect("piped");
        // It may have ended already.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        child.wait_with_output().expect("it ends").into()
    }

    /// `ssh -W`: a connection from inside the instance, with this input.
    fn through(&self, target: &str, input: &str) -> Ended {
        let mut child = self
            .client("ssh", &self.code())
            .args(["-W", target, &self.host])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("ssh is installed");
        let mut stdin = child.stdin.take().expect("piped");
        let _ = stdin.write_all(input.as_bytes());
        let mut said = String::new();
        child
            .stdout
            .take()
            .expect("piped")
            .read_to_string(&mut said)
            .expect("text");
        drop(stdin);
        let mut ended: Ended = child.wait_with_output().expect("it ends").into();
        ended.stdout = said;
        ended
    }

    fn scp(&self, arguments: &[&str]) -> Ended {
        let mut scp = self.client("scp", &self.code());
        let here = self.folder.path().display().to_string();
        let there = format!("{}:", self.host);
        let filled = arguments
            .iter()
            .map(|word| word.replace("LOCAL", &here).replace("REMOTE:", &there));
        scp.args(filled).output().expect("scp is installed").into()
    }

    fn events(&self, kind: &str) -> Vec<Value> {
        let path = format!("/v3/audit_events?types={kind}&target_guids={}", self.app);
        get(&self.api, &path)["resources"]
            .as_array()
            .cloned()
            .unwrap_or_default()
    }
}

fn get(api: &Api, path: &str) -> Value {
    let (status, answer) = api.call("GET", path, &Value::Null);
    assert_eq!(status, 200, "{path}: {answer}");
    answer
}

/// Ends what a test started, however it ends.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn people_reach_instances_as_they_are_used_to() {
    let world = World::start();
    commands(&world);
    codes(&world);
    files(&world);
    connections(&world);
    our_own(&world);
    nothing_is_left(&world);
    switches(&world);
    the_end_of_an_instance(&world);
}

fn commands(world: &World) {
    let line = "echo $USER $PWD $CF_INSTANCE_INDEX; echo $VCAP_APPLICATION | grep -c shop; cat; echo oh >&2; exit 7";
    let ran = world.ssh_with(&world.code(), &[line], "some input\n").code(7);
    assert_eq!(ran.stdout, "vcap /home/vcap/app 0\n1\nsome input\n");
    assert_eq!(ran.stderr, "oh\n");
    // The key is the one that the API tells clients.
    let listed = Command::new("ssh-keygen")
        .arg("-lf")
        .arg(world.known())
        .output()
        .expect("it is installed");
    let root = get(&world.api, "/");
    let told = text(&root["links"]["app_ssh"]["meta"]["host_key_fingerprint"]).to_owned();
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.contains(&format!("SHA256:{told}")), "{listed} {told}");

    let ran = world.ssh_with(&world.code(), &["-tt", "tty; stty size; echo $TERM"], "");
    assert!(
        ran.stdout.contains("/dev/pts/") && ran.stdout.contains("24 80"),
        "{ran:?}"
    );
    let ran = world
        .ssh_with(&world.code(), &["-tt", "exec sh"], "echo in a shell; exit 3\n")
        .code(3);
    assert!(ran.stdout.contains("in a shell\r\n"), "{ran:?}");
    let ran = world.ssh(&["-v", "-o", "LogLevel=DEBUG", "kill -TERM $$"]);
    assert!(ran.stderr.contains("exit-signal"), "{ran:?}");
}

fn codes(world: &World) {
    let code = world.code();
    let _ = world.ssh_with(&code, &["true"], "").ok();
    for code in [code.as_str(), "wrong", ""] {
        let refused = world.ssh_with(code, &["true"], "").code(255);
        assert!(refused.stderr.contains("denied"), "{refused:?}");
    }
}

fn files(world: &World) {
    let data: Vec<u8> = (0..3_000_000_u32)
        .map(|n| n.to_le_bytes()[1] ^ n.to_le_bytes()[0])
        .collect();
    let there = |name: &str| world.folder.path().join(name);
    std::fs::write(there("up"), &data).expect("written");
    let _ = world.scp(&["LOCAL/up", "REMOTE:up"]).ok();
    let _ = world.scp(&["-p", "REMOTE:up", "LOCAL/down"]).ok();
    assert!(std::fs::read(there("down")).expect("it came") == data);
    // Folders, and the older protocol, which is a program of the instance.
    std::fs::create_dir(there("tree")).expect("made");
    std::fs::write(there("tree/leaf"), "green").expect("written");
    let _ = world.scp(&["-r", "LOCAL/tree", "REMOTE:."]).ok();
    let _ = world.scp(&["-O", "REMOTE:tree/leaf", "LOCAL/leaf"]).ok();
    assert_eq!(std::fs::read_to_string(there("leaf")).expect("it came"), "green");
    let refused = world.scp(&["LOCAL/up", "REMOTE:/etc/up"]);
    assert!(
        refused.code != 0 && refused.stderr.contains("ermission denied"),
        "{refused:?}"
    );
}

fn connections(world: &World) {
    let page = world.through("localhost:8080", "GET / HTTP/1.0\r\nHost: shop\r\n\r\n");
    assert!(page.stdout.starts_with("HTTP/1.0 200"), "{page:?}");
    // The platform's own API listens at this port of the host, and in the instance nobody does.
    let port = world.platform.api.rsplit(':').next().expect("a port");
    for host in ["localhost", "127.0.0.1", "[::1]"] {
        let refused = world.through(&format!("{host}:{port}"), "");
        assert!(refused.stderr.contains("forwarding failed"), "{refused:?}");
    }
}

fn our_own(world: &World) {
    let ran = world.platform.paas(["ssh", APP, "-c", "echo hi; exit 5"]).code(5);
    assert_eq!(ran.stdout, "hi\n");
    let _ = world.platform.paas(["ssh", APP, "-c", "kill -INT $$"]).code(130);
    let _ = world.platform.paas(["ssh", APP, "-i", "9", "-c", "true"]).code(2);

    let mut child = Guard(
        world
            .platform
            .command(["ssh", APP, "-N", "-L", "0:localhost:8080"])
            .stderr(Stdio::piped())
            .spawn()
            .expect("paas starts"),
    );
    let mut line = String::new();
    let mut stderr = BufReader::new(child.0.stderr.take().expect("piped"));
    while !line.contains("leads to") {
        line.clear();
        assert!(
            stderr.read_line(&mut line).expect("text") > 0,
            "it says where it listens"
        );
    }
    let address = line.split_whitespace().find(|word| word.starts_with("127.0.0.1:"));
    let url = format!("http://{}/", address.expect("an address"));
    for _ in 0..2 {
        assert_eq!(reqwest::blocking::get(&url).expect("answered").status(), 200);
    }
    let pid = nix::unistd::Pid::from_raw(child.0.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("ours");
    assert_eq!(child.0.wait().expect("it ends").code(), Some(130));
}

fn nothing_is_left(world: &World) {
    let line = "setsid sleep 1001 >/dev/null 2>&1 & nohup sleep 1002 >/dev/null 2>&1 & echo begun";
    let _ = world.ssh(&[line]).ok();
    let ran = world
        .platform
        .paas(["ssh", APP, "-c", "pgrep -a sleep || echo none"])
        .ok();
    assert_eq!(ran.stdout, "none\n");
}

fn switches(world: &World) {
    let authorized = world.events("audit.app.ssh-authorized");
    assert_eq!(authorized[0]["data"], json!({"index": 0}));
    assert_eq!(world.events("audit.app.ssh-unauthorized"), [] as [Value; 0]);
    let said = world.platform.paas(["disable-ssh", APP]).ok();
    assert_eq!(said.stdout, "ssh support is disabled for app 'shop'\n");
    let said = world.platform.paas(["ssh-enabled", APP]).ok();
    assert!(said.stdout.contains("ssh is disabled for app"), "{said:?}");
    let refused = world.ssh(&["true"]).code(255);
    assert!(refused.stderr.contains("denied"), "{refused:?}");
    let refused = world.platform.paas(["ssh", APP, "-c", "true"]).code(3);
    assert!(refused.stderr.contains("ssh is disabled for app"), "{refused:?}");
    assert_eq!(world.events("audit.app.ssh-unauthorized").len(), 2);
    let _ = world.platform.paas(["enable-ssh", APP]).ok();
    let _ = world.platform.paas(["disallow-space-ssh", "dev"]).ok();
    let refused = world.platform.paas(["ssh", APP, "-c", "true"]).code(3);
    assert!(
        refused.stderr.contains("ssh is disabled for space 'dev'"),
        "{refused:?}"
    );
    let _ = world.platform.paas(["allow-space-ssh", "dev"]).ok();
    let _ = world.ssh(&["true"]).ok();
}

fn the_end_of_an_instance(world: &World) {
    let mut child = Guard(
        world
            .client("ssh", &world.code())
            .args([&world.host, "echo begun; exec sleep 1000"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("ssh is installed"),
    );
    let mut line = String::new();
    let mut stdout = BufReader::new(child.0.stdout.take().expect("piped"));
    stdout.read_line(&mut line).expect("text");
    assert_eq!(line, "begun\n");
    let _ = world.platform.paas(["stop", APP]).ok();
    let code = child.0.wait().expect("it ends").code();
    assert!(
        code.is_some_and(|code| code != 0 && code != 124),
        "ended with the instance: {code:?}"
    );
    let refused = world.ssh(&["true"]).code(255);
    assert!(refused.stderr.contains("not running"), "{refused:?}");
}
