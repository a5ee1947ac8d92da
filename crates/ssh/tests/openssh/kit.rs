//! A server on a port of its own, and OpenSSH's client that knows its key.

use crate::instances::{Local, USER};
use ssh::HostKey;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Longest wait for anything.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Server {
    pub address: SocketAddr,
    local: Arc<Local>,
    ends: Mutex<mpsc::Receiver<&'static str>>,
    folder: tempfile::TempDir,
    shutdown: CancellationToken,
    _stop: DropGuard,
}

impl Server {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
        let address = listener.local_addr().expect("bound");
        let key = HostKey::from_seed(&[42; 32]);
        let folder = tempfile::tempdir().expect("a folder");
        let known = format!("[127.0.0.1]:{} {}\n", address.port(), key.public());
        std::fs::write(folder.path().join("known"), known).expect("written");
        let asks = folder.path().join("ask");
        std::fs::write(&asks, "#!/bin/sh\necho \"$THE_CODE\"\n").expect("written");
        std::fs::set_permissions(&asks, std::fs::Permissions::from_mode(0o755)).expect("set");
        let (sender, ends) = mpsc::channel(64);
        let local = Arc::new(Local {
            tries: AtomicUsize::new(0),
            ends: sender,
        });
        let shutdown = CancellationToken::new();
        let (instances, stop) = (Arc::clone(&local), shutdown.clone());
        tokio::spawn(async move { ssh::serve(listener, &key, instances, stop).await });
        Self {
            address,
            local,
            ends: Mutex::new(ends),
            folder,
            _stop: shutdown.clone().drop_guard(),
            shutdown,
        }
    }

    pub fn stop(&self) {
        self.shutdown.cancel();
    }

    /// How many codes were tried.
    pub fn tries(&self) -> usize {
        self.local.tries.load(Ordering::SeqCst)
    }

    /// The client knows another key.
    pub fn forget_key(&self) {
        let other = HostKey::from_seed(&[43; 32]).public();
        let known = format!("[127.0.0.1]:{} {other}\n", self.address.port());
        std::fs::write(self.folder.path().join("known"), known).expect("written");
    }

    /// How the next session ended.
    pub async fn ended(&self) -> &'static str {
        let mut ends = self.ends.lock().await;
        let next = tokio::time::timeout(PATIENCE, ends.recv()).await;
        next.expect("it ends in time").expect("the server is there")
    }

    /// The client, not yet started.
    pub fn ssh(&self, code: &str, options: &[&str], command: &[&str]) -> Command {
        let mut ssh = Command::new("ssh");
        let known = format!("UserKnownHostsFile={}", self.folder.path().join("known").display());
        ssh.args(["-F", "none", "-T", "-o", &known, "-o", "GlobalKnownHostsFile=/dev/null"])
            .args(["-o", "StrictHostKeyChecking=yes", "-o", "NumberOfPasswordPrompts=1"])
            .args([
                "-o",
                "LogLevel=ERROR",
                "-p",
                &self.address.port().to_string(),
                "-l",
                USER,
            ])
            .args(options)
            .arg("127.0.0.1")
            .args(command)
            .env("SSH_ASKPASS", self.folder.path().join("ask"))
            .env("SSH_ASKPASS_REQUIRE", "force")
            .env("THE_CODE", code)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        ssh
    }

    /// The client, to its end, without input.
    pub async fn run(&self, code: &str, options: &[&str], command: &[&str]) -> Output {
        let child = self.ssh(code, options, command).stdin(Stdio::null()).spawn();
        client(child.expect("ssh is installed")).await
    }
}

/// A client's end.
pub async fn client(child: Child) -> Output {
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
    output.expect("the client ends in time").expect("it ran")
}
