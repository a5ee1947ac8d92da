//! An ordinary user that the machine does not have, to run a platform as. What makes him one (his line in
//! `/etc/passwd`, his subordinate ids, the device for a way out that most machines have) only his own processes see, in mounts of their own.

use std::os::unix::fs::chown;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// Binds what he sees, then becomes him. Arguments: his files, his id, then those of the program.
const BECOME: &str = r#"
set -e
files=$1 id=$2
shift 2
mount --bind "$files/passwd" /etc/passwd
mount --bind "$files/subids" /etc/subuid
mount --bind "$files/subids" /etc/subgid
mount --bind "$DIST" "$files/dist"
mount -t tmpfs tmpfs "$files/devices"
mknod -m 666 "$files/devices/tun" c 10 200
mount --bind "$files/devices/tun" /dev/net/tun
exec setpriv --reuid="$id" --regid="$id" --clear-groups env -u DIST HOME="$files" "$files/dist/bin/paasd" "$@"
"#;

/// See the module.
pub struct User {
    id: u32,
    first: u32,
    files: TempDir,
}

impl User {
    /// One with subordinate ids of his own, or without.
    #[must_use]
    pub fn new(subordinate: bool) -> Self {
        let pid = std::process::id();
        // Where no account is, nor any other test's.
        let (id, first) = (1_700_000_000 + pid, (49_152 + pid % 16_000) * 65_536);
        let files = tempfile::Builder::new().prefix("paas-test-user-").tempdir();
        let files = files.expect("a folder");
        let write = |name: &str, text: String| std::fs::write(files.path().join(name), text).expect("written");
        write(
            "passwd",
            format!("root:x:0:0::/root:/bin/sh\nsomebody:x:{id}:{id}::/:/bin/sh\n"),
        );
        write(
            "subids",
            if subordinate {
                format!("{id}:{first}:65536\n")
            } else {
                String::new()
            },
        );
        for folder in ["dist", "devices"] {
            std::fs::create_dir(files.path().join(folder)).expect("made");
        }
        let user = Self { id, first, files };
        user.own(user.files.path());
        user
    }

    /// Gives him a file or folder.
    pub(crate) fn own(&self, path: &Path) {
        chown(path, Some(self.id), Some(self.id)).expect("root gives away");
    }

    /// `paasd` as he starts it: what is added are its arguments, its process is the one that is spawned.
    #[must_use]
    pub fn paasd(&self) -> Command {
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-c", BECOME, "sh"])
            .arg(self.files.path())
            .arg(self.id.to_string())
            .env("DIST", crate::root().join("dist"));
        command
    }

    /// His processes and those under his subordinate ids, a line each.
    #[must_use]
    pub fn processes(&self) -> Vec<String> {
        let folders = std::fs::read_dir("/proc").expect("there").flatten();
        let his = |uid: u32| uid == self.id || (self.first..self.first + 65_536).contains(&uid);
        let process = |path: &Path| {
            let status = std::fs::read_to_string(path.join("status")).ok()?;
            let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
            let uid = field("Uid:")?.split_whitespace().next()?.parse().ok()?;
            his(uid).then(|| format!("{} {}", path.display(), field("Name:").unwrap_or_default()))
        };
        folders.filter_map(|folder| process(&folder.path())).collect()
    }
}
