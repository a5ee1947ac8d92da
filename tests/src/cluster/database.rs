//! A real PostgreSQL on a host of a cluster: durable as in production, ended as by a crash or an operator, started again.

use super::switch::Host;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for its first answer.
const START: Duration = Duration::from_secs(60);
/// Who it runs as: it refuses to be root.
const USER: &str = "postgres";
/// Runs $1 on the folder $2 at the address $3 until standard input ends.
const GUARD: &str = r#"
"$1" -D "$2/data" -k "$2" -c listen_addresses="$3" -c max_connections=300 >>"$2/server.log" 2>&1 </dev/null &
server=$!
read -r _
kill -INT "$server"
wait "$server"
"#;

/// A server.
pub struct Database {
    host: Host,
    bin: PathBuf,
    folder: tempfile::TempDir,
    guard: Option<Child>,
}

impl Database {
    /// Makes an empty one on the host and starts it; `clients` is the block that may connect.
    #[must_use]
    pub fn start(host: &Host, clients: &str) -> Self {
        let bin = crate::debian::postgres().expect("Debian's package postgresql is installed");
        let folder = tempfile::Builder::new().prefix("paas-postgres-").tempdir();
        let folder = folder.expect("a folder");
        let owned = Command::new("chown").arg(USER).arg(folder.path()).status();
        assert!(owned.expect("chown starts").success());
        let mut database = Self {
            host: host.clone(),
            bin,
            folder,
            guard: None,
        };
        let data = database.folder.path().join("data");
        let options = [
            "--username=paas",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "-D",
        ];
        let mut initdb = as_user(Command::new("setpriv"));
        initdb.arg(database.bin.join("initdb")).args(options).arg(&data);
        let made = initdb.current_dir("/").stdout(Stdio::null()).status();
        assert!(made.expect("initdb starts").success());
        let access = std::fs::read_to_string(data.join("pg_hba.conf")).expect("made");
        let access = format!("{access}\nhost all all {clients} trust\n");
        std::fs::write(data.join("pg_hba.conf"), access).expect("written");
        database.up();
        database
    }

    /// Starts it again.
    pub fn up(&mut self) {
        let mut guard = as_user(self.host.command("setpriv"));
        guard
            .args(["/bin/sh", "-c", GUARD, "postgres-guard"])
            .arg(self.bin.join("postgres"))
            .arg(self.folder.path())
            .arg(&self.host.address);
        let guard = guard.current_dir("/").stdin(Stdio::piped()).spawn();
        self.guard = Some(guard.expect("nsenter starts"));
        self.await_answer();
    }

    fn await_answer(&self) {
        let deadline = Instant::now() + START;
        let mut ask = Command::new(self.bin.join("pg_isready"));
        ask.arg("-q").args(["-h", &self.host.address]);
        while !ask.status().expect("pg_isready starts").success() {
            assert!(
                Instant::now() < deadline,
                "PostgreSQL does not answer:\n{}",
                std::fs::read_to_string(self.folder.path().join("server.log")).unwrap_or_default()
            );
            std::thread::yield_now();
        }
    }

    /// Ends it, open connections too.
    pub fn stop(&mut self) {
        if let Some(mut guard) = self.guard.take() {
            drop(guard.stdin.take());
            let _ = guard.wait();
        }
    }

    /// For controllers.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://paas@{}/postgres", self.host.address)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.stop();
    }
}

fn as_user(mut command: Command) -> Command {
    command
        .args(["--reuid", USER, "--regid", USER, "--clear-groups"])
        .stdin(Stdio::null());
    command
}
