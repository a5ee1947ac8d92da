//! An ordinary user for a test: his ids and files, seen by his own processes alone.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Uid};

use crate::AWAY;
use crate::kit::{self, Host};

/// Which ids the user may use.
#[derive(Clone, Copy, PartialEq)]
pub enum Ids {
    /// Subordinate ones.
    Many,
    /// His own alone.
    One,
}

/// A user that nobody has, and his folder.
pub struct User {
    pub id: u32,
    /// First of his subordinate ids.
    first: u32,
    pub dir: PathBuf,
    /// Files that he sees in place of the machine's.
    seen: PathBuf,
}

impl User {
    /// Makes the folder, with what sandboxes are made of, as the user and his apps are to own it.
    pub fn new(dir: &Path, seen: &Path, ids: Ids) -> User {
        let pid = std::process::id();
        let user = User {
            id: 1_500_000_000 + pid,
            // Above everything that other tests use.
            first: (32_768 + pid % 16_384) * 65_536,
            dir: dir.to_owned(),
            seen: seen.to_owned(),
        };
        kit::build_layer(&dir.join("layer"));
        std::fs::copy(env!("CARGO_BIN_EXE_paas-init"), dir.join("paas-init")).unwrap();
        own(dir, user.id);
        own(seen, user.id);
        let app = if ids == Ids::Many { user.first + 1999 } else { user.id };
        chown(dir.join("layer/home/vcap"), Some(app), Some(app)).unwrap();
        user
    }

    /// What tells another process of this program who he is.
    pub fn as_arguments(&self) -> [String; 4] {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        [
            self.id.to_string(),
            self.first.to_string(),
            text(&self.dir),
            text(&self.seen),
        ]
    }

    /// The user that was told so.
    pub fn again(arguments: &[String]) -> User {
        User {
            id: arguments[0].parse().unwrap(),
            first: arguments[1].parse().unwrap(),
            dir: PathBuf::from(&arguments[2]),
            seen: PathBuf::from(&arguments[3]),
        }
    }

    /// Becomes him, in mounts and a network of its own. Called as root, in a process of one thread.
    pub fn become_him(&self, ids: Ids, way_out: bool) {
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).unwrap();
        use rustix::mount::{MountPropagationFlags, mount_change};
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
        ip(&["link", "add", "away0", "type", "bridge"]);
        ip(&["address", "add", &format!("{AWAY}/24"), "dev", "away0"]);
        for name in ["lo", "away0"] {
            ip(&["link", "set", name, "up"]);
        }
        let (id, first) = (self.id, self.first);
        let ranges = match ids {
            Ids::Many => format!("{id}:{first}:65536\n"),
            Ids::One => String::new(),
        };
        self.show("/etc/passwd", &format!("somebody:x:{id}:{id}::/:/bin/sh\n"));
        for file in ["/etc/subuid", "/etc/subgid"] {
            self.show(file, &ranges);
        }
        if way_out {
            self.show_tun();
        }
        nix::unistd::setgroups(&[]).unwrap();
        let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
        nix::unistd::setresgid(gid, gid, gid).unwrap();
        nix::unistd::setresuid(uid, uid, uid).unwrap();
        // A process that changed its user is not looked into by it, as if it were a set-uid program.
        nix::sys::prctl::set_dumpable(true).unwrap();
    }

    /// Has `path` show `content` to this process and those that it starts.
    fn show(&self, path: &str, content: &str) {
        let file = self.seen.join(path.trim_start_matches('/').replace('/', "-"));
        std::fs::write(&file, content).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        rustix::mount::mount_bind(&file, path).unwrap();
    }

    /// The device of slirp4netns, for everybody, as most systems have it.
    fn show_tun(&self) {
        use rustix::mount::{MountFlags, mount};
        let folder = self.seen.join("devices");
        std::fs::create_dir(&folder).unwrap();
        mount("tmpfs", &folder, "tmpfs", MountFlags::NOSUID, None).unwrap();
        let node = folder.join("tun");
        let (mode, kind) = (
            rustix::fs::Mode::from_raw_mode(0o666),
            rustix::fs::FileType::CharacterDevice,
        );
        rustix::fs::mknodat(rustix::fs::CWD, &node, kind, mode, rustix::fs::makedev(10, 200)).unwrap();
        std::fs::set_permissions(&node, std::fs::Permissions::from_mode(0o666)).unwrap();
        rustix::mount::mount_bind(&node, "/dev/net/tun").unwrap();
    }

    /// The host of the agent, once it is one.
    pub fn host(&self) -> Host {
        Host::again((self.dir.clone(), "paas/none".to_owned(), 6_553_600))
    }

    /// Pids of his processes, and of those of his apps.
    pub fn processes(&self) -> Vec<i32> {
        let ours = |pid: &i32| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
            let uid = line.and_then(|line| line.split_whitespace().next()?.parse::<u32>().ok());
            uid.is_some_and(|uid| uid == self.id || (self.first..self.first + 65_536).contains(&uid))
        };
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(ours).collect()
    }
}

fn own(path: &Path, id: u32) {
    std::os::unix::fs::lchown(path, Some(id), Some(id)).unwrap();
    if path.is_dir() && !path.is_symlink() {
        for entry in std::fs::read_dir(path).unwrap() {
            own(&entry.unwrap().path(), id);
        }
    }
}

fn ip(arguments: &[&str]) {
    assert!(
        Command::new("ip").args(arguments).status().unwrap().success(),
        "ip {arguments:?}"
    );
}
