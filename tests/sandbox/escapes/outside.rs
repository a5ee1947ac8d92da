//! What there is outside of a sandbox to be reached: a file, a process, a socket, a segment of
//! shared memory. All of it belongs to the test and can be lost.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use sandbox::Bind;

use crate::kit::Host;

/// See the module.
pub struct Outside {
    folder: PathBuf,
    neighbour: Child,
    socket: String,
    _listener: UnixListener,
    key: i32,
}

/// The file's name and content.
const FILE: &str = "outside";

impl Outside {
    pub fn new(host: &Host) -> Outside {
        let folder = host.dir.path().join("shown");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(host.dir.path().join(FILE), FILE).unwrap();
        let socket = format!("paas-escape-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&socket).unwrap();
        let key = 0x7000_0000 | std::process::id() as i32;
        assert_eq!(probe(&["segment-make", &key.to_string()]), "done");
        // Of the app's user, without capabilities, as an app without a user namespace would be.
        let neighbour = Command::new("sleep")
            .arg("600")
            .uid(2000)
            .gid(2000)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Outside {
            folder,
            neighbour,
            socket,
            _listener: UnixListener::bind_addr(&address).unwrap(),
            key,
        }
    }

    /// A folder of the host shown inside; the file lies beside it, not in it.
    pub fn bind(&self) -> Bind {
        Bind {
            source: self.folder.clone(),
            target: "/shown".into(),
            readonly: false,
        }
    }

    /// What the attempt is told of all this: more than it could know.
    pub fn arguments(&self, name: &str) -> Vec<String> {
        let pid = self.neighbour.id().to_string();
        match name {
            "signal-to-neighbour" => vec![pid],
            "root-of-neighbour" => vec![pid, "etc/hostname".to_owned()],
            "abstract-socket" => vec![self.socket.clone()],
            "shared-memory" => vec![self.key.to_string()],
            "file-by-handle" => {
                let handle = probe(&["handle", self.file().to_str().unwrap()]);
                let (kind, bytes) = handle.split_once(' ').unwrap();
                vec!["/shown".to_owned(), kind.to_owned(), bytes.to_owned()]
            }
            "leaked-descriptor" | "working-folder" => vec![FILE.to_owned()],
            _ => Vec::new(),
        }
    }

    /// The folder that is shown inside.
    pub fn folder(&self) -> &std::path::Path {
        &self.folder
    }

    /// The file beside the folder.
    pub fn file(&self) -> PathBuf {
        self.folder.with_file_name(FILE)
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = self.neighbour.kill();
        let _ = self.neighbour.wait();
        probe(&["segment-remove", &self.key.to_string()]);
    }
}

/// What the probe answers out here.
fn probe(arguments: &[&str]) -> String {
    let output = Command::new(crate::kit::probe()).args(arguments).output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
