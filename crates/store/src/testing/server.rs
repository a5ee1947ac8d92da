//! A private PostgreSQL for tests, shared by all test processes of this machine's user and gone soon after the last.
//!
//! Every test process holds a shared lock on a file for as long as it lives; a watchdog beside the server stops it once
//! it gets that lock for itself. So nothing is left behind, however tests end.

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const URL_VARIABLE: &str = "PAAS_TEST_POSTGRES_URL";
const START_WAIT: Duration = Duration::from_secs(60);
const REMEDY: &str = "PostgreSQL is not installed. Install it (Debian: apt-get install postgresql), or set \
                      PAAS_TEST_POSTGRES_URL to a server on which databases may be created";
/// Runs the server until nobody holds the lock. $1 folder, $2 program.
const WATCHDOG: &str = r#"
exec 9<"$1/use.lock"
"$2" -D "$1/data" -k "$1" -c listen_addresses= -c max_connections=300 \
    -c fsync=off -c synchronous_commit=off -c full_page_writes=off >"$1/server.log" 2>&1 9<&- &
server=$!
while sleep 2; do
    kill -0 "$server" 2>/dev/null || exit 1
    flock -n -x 9 && break
done
kill -INT "$server"
wait "$server"
"#;

/// A database of its own on the test server.
pub(super) struct TestDatabase {
    admin: String,
    name: String,
    base: Base,
}

enum Base {
    Given(String),
    Private(PathBuf),
}

impl TestDatabase {
    pub(super) async fn create() -> Self {
        let base = match std::env::var(URL_VARIABLE) {
            Ok(url) => Base::Given(url),
            Err(_) => Base::Private(tokio::task::spawn_blocking(server).await.expect("the server starts")),
        };
        let name = format!("paas_{}", uuid::Uuid::from_u128(rand::random()).simple());
        let admin = base.url("postgres");
        let mut conn = connect(&admin).await;
        sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name}")))
            .execute(&mut conn)
            .await
            .expect("a database can be created");
        Self { admin, name, base }
    }

    pub(super) fn url(&self) -> String {
        self.base.url(&self.name)
    }

    pub(super) async fn remove(self) {
        let mut conn = connect(&self.admin).await;
        let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        sqlx::raw_sql(AssertSqlSafe(drop))
            .execute(&mut conn)
            .await
            .expect("the database can be dropped");
    }
}

impl Base {
    fn url(&self, database: &str) -> String {
        match self {
            Self::Given(url) => {
                let (head, query) = url.split_once('?').unwrap_or((url, ""));
                let server = head
                    .rfind('/')
                    .filter(|at| *at >= "postgres://".len())
                    .map_or(head, |at| &head[..at]);
                let question = if query.is_empty() { "" } else { "?" };
                format!("{server}/{database}{question}{query}")
            }
            Self::Private(folder) => format!("postgres:///{database}?host={}&user=paas", folder.display()),
        }
    }
}

async fn connect(url: &str) -> PgConnection {
    let deadline = Instant::now() + START_WAIT;
    loop {
        match PgConnection::connect(url).await {
            Ok(conn) => return conn,
            Err(error) if Instant::now() > deadline => panic!("PostgreSQL does not answer: {error}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// The folder of the running server; starts it where it is not running.
fn server() -> PathBuf {
    let bin = newest_installed().expect(REMEDY);
    let (uid, gid) = unprivileged();
    let folder = std::env::temp_dir().join(format!("paas-test-postgres-{uid}"));
    std::fs::create_dir_all(&folder).expect("a folder for the server");
    if chown(&folder, Some(uid), Some(gid)).is_ok() {
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).expect("the folder's mode");
    }
    let used = lock_file(&folder.join("use.lock"));
    used.lock_shared().expect("the server's lock");
    let starting = lock_file(&folder.join("start.lock"));
    starting.lock().expect("the starter's lock");
    if !answers(&folder) {
        start(&bin, &folder, uid, gid);
    }
    drop(starting);
    // Held until this process ends: the watchdog waits for that.
    std::mem::drop(std::thread::Builder::new().spawn(move || {
        let _held = used;
        loop {
            std::thread::park();
        }
    }));
    folder
}

fn start(bin: &Path, folder: &Path, uid: u32, gid: u32) {
    let data = folder.join("data");
    let as_user = |program: &Path| {
        let mut command = Command::new(program);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir(folder);
        // Only root may, and only root must.
        if nobody_else() {
            command.uid(uid).gid(gid);
        }
        command
    };
    // What crashed tests left goes with the old data.
    let _ = std::fs::remove_dir_all(&data);
    let done = as_user(&bin.join("initdb"))
        .args(["-A", "trust", "-U", "paas", "-E", "UTF8", "--no-sync", "-D"])
        .arg(&data)
        .status()
        .expect("initdb runs");
    assert!(done.success(), "initdb failed in {}", data.display());
    let mut watchdog = as_user(Path::new("/bin/sh"))
        .args(["-c", WATCHDOG, "watchdog"])
        .arg(folder)
        .arg(bin.join("postgres"))
        .process_group(0)
        .spawn()
        .expect("the server starts");
    // It outlives most test processes; in one that outlives it, it is not left a zombie.
    std::thread::spawn(move || watchdog.wait());
    let deadline = Instant::now() + START_WAIT;
    while !answers(folder) {
        assert!(
            Instant::now() < deadline,
            "the server does not start: see {}",
            folder.join("server.log").display()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn answers(folder: &Path) -> bool {
    std::os::unix::net::UnixStream::connect(folder.join(".s.PGSQL.5432")).is_ok()
}

fn nobody_else() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

/// Who the server runs as: it refuses to be root.
fn unprivileged() -> (u32, u32) {
    use std::os::unix::fs::MetadataExt as _;
    let own = std::fs::metadata("/proc/self").expect("/proc is mounted");
    if own.uid() != 0 {
        return (own.uid(), own.gid());
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let find = |name: &str| {
        users.lines().find_map(|line| {
            let mut fields = line.split(':');
            let ids = (fields.next()? == name).then(|| (fields.nth(1), fields.next()))?;
            Some((ids.0?.parse().ok()?, ids.1?.parse().ok()?))
        })
    };
    find("postgres").or_else(|| find("nobody")).unwrap_or((65534, 65534))
}

fn newest_installed() -> Option<PathBuf> {
    let version = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.join("bin/initdb").exists() && path.join("bin/postgres").exists())
        .collect();
    found.sort_by_key(|path| version(path));
    Some(found.pop()?.join("bin"))
}

fn lock_file(path: &Path) -> File {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .read(true)
        .open(path)
        .expect("a lock file can be made");
    // The watchdog, another user, opens it too.
    let _ = std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666));
    file
}
