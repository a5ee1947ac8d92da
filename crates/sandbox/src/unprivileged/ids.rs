//! The user and group ids that an ordinary user may use beyond his own, and how a namespace gets them: by the set-uid
//! programs that the system has for it. Where there are none, his own id alone.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{getgid, getuid};

/// Ids besides the user's own: what a sandbox has, without its root.
pub const WANTED: u32 = 65_535;
const PLACES: [&str; 3] = ["/usr/bin", "/bin", "/usr/local/bin"];
const USERS: (&str, &str) = ("/etc/subuid", "newuidmap");
const GROUPS: (&str, &str) = ("/etc/subgid", "newgidmap");

/// What a user may map.
#[derive(Debug)]
pub struct Ids {
    users: Half,
    groups: Half,
}

#[derive(Debug)]
struct Half {
    program: PathBuf,
    own: u32,
    first: u32,
}

impl Ids {
    /// Those of the caller; the reason if there are none.
    pub fn find() -> Result<Ids, String> {
        let uid = getuid();
        let name = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid.as_raw()))
            .ok()
            .flatten()
            .map_or_else(String::new, |user| user.name);
        // Both files are about users, the one of group ids too.
        let half = |(file, program), own| half(Path::new(file), program, &name, uid.as_raw(), own);
        Ok(Ids {
            users: half(USERS, uid.as_raw())?,
            groups: half(GROUPS, getgid().as_raw())?,
        })
    }

    /// Gives the process `pid`, in a new user namespace, the caller as root and the rest as 1 and up. The groups come
    /// first: after a failure of theirs nothing is mapped yet.
    pub fn map(&self, pid: i32) -> Result<(), String> {
        for half in [&self.groups, &self.users] {
            let numbers = [pid.unsigned_abs(), 0, half.own, 1, 1, half.first, WANTED];
            let output = Command::new(&half.program)
                .args(numbers.map(|number| number.to_string()))
                .stdin(Stdio::null())
                .output();
            let reason = match output {
                Ok(output) if output.status.success() => continue,
                Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
                Err(error) => error.to_string(),
            };
            return Err(format!("{} fails: {reason}", half.program.display()));
        }
        Ok(())
    }
}

/// Gives the process `pid` the caller as root, and nobody else.
pub fn map_own(pid: i32) -> io::Result<()> {
    let write = |name: &str, text: String| std::fs::write(format!("/proc/{pid}/{name}"), text);
    // Else the kernel refuses a map of groups to who could leave one by it.
    write("setgroups", "deny".to_owned())?;
    write("gid_map", format!("0 {} 1\n", getgid().as_raw()))?;
    write("uid_map", format!("0 {} 1\n", getuid().as_raw()))
}

fn half(file: &Path, program: &str, name: &str, uid: u32, own: u32) -> Result<Half, String> {
    let program = PLACES
        .iter()
        .map(|place| Path::new(place).join(program))
        .find(|path| path.is_file())
        .ok_or_else(|| format!("the program {program} is not installed"))?;
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let first = range(&text, name, uid).ok_or_else(|| {
        let who = if name.is_empty() {
            uid.to_string()
        } else {
            name.to_owned()
        };
        format!("{} gives {who} no {WANTED} ids", file.display())
    })?;
    Ok(Half { program, own, first })
}

/// The first range of `name` or `uid` that is large enough: lines are `who:first:count`.
fn range(text: &str, name: &str, uid: u32) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut fields = line.trim().split(':');
        let who = fields.next()?;
        let ours = (!name.is_empty() && who == name) || who.parse() == Ok(uid);
        let first: u32 = fields.next()?.parse().ok()?;
        let count: u32 = fields.next()?.parse().ok()?;
        (ours && count >= WANTED && first.checked_add(WANTED).is_some()).then_some(first)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_found_by_name_or_number_and_small_ones_passed_over() {
        let text = "# who\nann:100000:1000\nbob:200000:65536\n1007:300000:65535\nann:400000:65536\nodd:x:9\n";
        assert_eq!(range(text, "ann", 1), Some(400_000));
        assert_eq!(range(text, "bob", 1), Some(200_000));
        assert_eq!(range(text, "", 1007), Some(300_000));
        assert_eq!(range(text, "odd", 1), None);
        assert_eq!(range("eve:4294967000:65536", "eve", 1), None);
        assert_eq!(range("", "ann", 1), None);
    }

    #[test]
    fn who_has_no_ids_is_told_why() {
        let reason = half(Path::new("/nonexistent"), "env", "ann", 1, 1).unwrap_err();
        assert!(reason.contains("/nonexistent gives ann no"), "{reason}");
        let reason = half(Path::new("/nonexistent"), "no-such-program", "ann", 1, 1).unwrap_err();
        assert!(reason.contains("no-such-program is not installed"), "{reason}");
    }
}
