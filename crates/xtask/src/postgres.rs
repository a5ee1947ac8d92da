//! A PostgreSQL of Debian's packages for one test run: own folder, a socket and no port, gone afterwards.
//!
//! The server runs under a shell that waits for this process: it ends with us, however we end.

use crate::{debian, shell};
use anyhow::{Context as _, Result, bail};
use std::io::Read as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How the tests learn where it is.
pub const URL_VARIABLE: &str = "PAAS_TEST_POSTGRES_URL";
/// Longest wait for its first answer.
const START: Duration = Duration::from_secs(60);
/// Runs $1 in the folder $2 until standard input ends.
const GUARD: &str = r#"
"$1" -D "$2/data" -k "$2" -c listen_addresses= -c max_connections=300 \
    -c fsync=off -c synchronous_commit=off -c full_page_writes=off >"$2/server.log" 2>&1 </dev/null &
server=$!
read -r _
kill -INT "$server"
wait "$server"
"#;

/// A running server.
pub struct Postgres {
    guard: Child,
    folder: PathBuf,
}

impl Postgres {
    /// Starts one.
    pub fn start() -> Result<Self> {
        let bin = installed().context("PostgreSQL is not installed: apt-get install postgresql")?;
        let folder = std::env::temp_dir().join(format!("paas-xtask-postgres-{}", std::process::id()));
        std::fs::create_dir(&folder).with_context(|| format!("failed to create {}", folder.display()))?;
        // From here on dropping it cleans up.
        let mut server = Self {
            guard: Command::new("true").spawn().context("failed to run true")?,
            folder,
        };
        let user = unprivileged();
        if let Some((uid, gid)) = user {
            chown(&server.folder, Some(uid), Some(gid)).context("failed to hand over the server's folder")?;
        }
        let open = std::fs::File::open(&server.folder)?;
        open.set_permissions(std::fs::Permissions::from_mode(0o755))?;
        let data = server.folder.join("data");
        let options = [
            "--username=paas",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
            "-D",
        ];
        let mut initdb = server.command(&bin.join("initdb"), user);
        shell::run(initdb.args(options).arg(&data).stdout(Stdio::null()))?;
        let mut guard = server.command(Path::new("/bin/sh"), user);
        guard
            .arg("-c")
            .arg(GUARD)
            .arg("postgres-guard")
            .arg(bin.join("postgres"))
            .arg(&server.folder);
        server.guard.wait()?;
        server.guard = guard
            .stdin(Stdio::piped())
            .spawn()
            .context("failed to start PostgreSQL")?;
        server.await_answer(&bin)?;
        Ok(server)
    }

    /// For [`URL_VARIABLE`].
    pub fn url(&self) -> String {
        format!("postgres:///postgres?host={}&user=paas", self.folder.display())
    }

    /// A command in the server's folder, as a user that it accepts: it refuses to run as root.
    fn command(&self, program: &Path, user: Option<(u32, u32)>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.folder);
        if let Some((uid, gid)) = user {
            command.uid(uid).gid(gid);
        }
        command
    }

    fn await_answer(&self, bin: &Path) -> Result<()> {
        let deadline = Instant::now() + START;
        let mut ask = Command::new(bin.join("pg_isready"));
        ask.arg("-q").arg("-h").arg(&self.folder);
        while !ask.status().context("failed to run pg_isready")?.success() {
            if Instant::now() > deadline {
                let mut log = String::new();
                let _ = std::fs::File::open(self.folder.join("server.log"))
                    .and_then(|mut file| file.read_to_string(&mut log));
                bail!("PostgreSQL does not answer after {} seconds:\n{log}", START.as_secs());
            }
            // The server tells nobody when it is ready.
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Folder of the newest server's programs.
pub fn installed() -> Option<PathBuf> {
    let elsewhere = || shell::find("initdb").and_then(|file| Some(file.parent()?.to_owned()));
    debian::postgres().or_else(elsewhere)
}

/// Who the server runs as where we are root: `postgres`, else `nobody`. `None` where we are somebody ourselves.
fn unprivileged() -> Option<(u32, u32)> {
    if !shell::is_root() {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let of = |name: &str| {
        let mut fields = users.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let fields = fields.find(|fields| fields.first() == Some(&name))?;
        Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
    };
    of("postgres").or_else(|| of("nobody")).or(Some((65534, 65534)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_and_leaves_nothing() {
        let server = Postgres::start().unwrap();
        let folder = server.folder.clone();
        let psql = installed().unwrap().join("psql");
        let answer = Command::new(psql)
            .args(["-At", "-c", "select 6 * 7", &server.url()])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&answer.stdout), "42\n", "{answer:?}");
        drop(server);
        assert!(!folder.exists());
        let processes = Command::new("ps").args(["-eo", "args"]).output().unwrap();
        let processes = String::from_utf8_lossy(&processes.stdout);
        assert!(!processes.contains(folder.to_str().unwrap()), "{processes}");
    }
}
