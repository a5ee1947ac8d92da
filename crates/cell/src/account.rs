//! Who an image runs as: its `USER`, looked up in its own `/etc/passwd` and `/etc/group`.
//!
//! Its root is user 0 of the sandbox's user namespace, without any capability, and nobody on the host. The files are the
//! image's, so they are read through descriptors that stay within each layer.

use crate::env;
use crate::error::Error;
use crate::unpack::{self, OWNER};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Longest of the two files.
const FILE_BYTES: u64 = 1 << 20;
/// Highest user and group that a sandbox has.
const MAX_ID: u32 = 65_535;

/// A user inside a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Its name, or its number where it has none.
    pub name: String,
    /// Its home.
    pub home: String,
}

impl Default for Account {
    /// The user of apps.
    fn default() -> Self {
        Self {
            uid: OWNER,
            gid: OWNER,
            name: "vcap".to_owned(),
            home: env::HOME.to_owned(),
        }
    }
}

impl Account {
    /// Who `user` (`user[:group]`, by name or number; empty for root) is in the image with these layers, uppermost first.
    ///
    /// # Errors
    /// Where the image does not know the name, or the number is none that a sandbox has.
    pub fn find(layers: &[PathBuf], user: &str) -> Result<Self, Error> {
        let (user, group) = match user.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (user, None),
        };
        let user = if user.is_empty() { "root" } else { user };
        let passwd = read(layers, "etc/passwd")?;
        let mut account = of_passwd(&passwd, user).ok_or_else(|| unknown("user", user, "/etc/passwd"))?;
        if let Some(group) = group.filter(|group| !group.is_empty()) {
            account.gid = match number(group) {
                Some(gid) => gid,
                None => {
                    let groups = read(layers, "etc/group")?;
                    of_group(&groups, group).ok_or_else(|| unknown("group", group, "/etc/group"))?
                }
            };
        }
        if account.uid > MAX_ID || account.gid > MAX_ID {
            return Err(Error::Image {
                reason: format!(
                    "its user {}:{} is above {MAX_ID}, the last that a sandbox has",
                    account.uid, account.gid
                ),
            });
        }
        Ok(account)
    }
}

fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u32::MAX))
}

/// The line of `passwd` for a name or number. A number, and root, need none.
fn of_passwd(passwd: &str, user: &str) -> Option<Account> {
    let uid = number(user);
    for line in passwd.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, own, group, _, home, ..] = fields.as_slice() else {
            continue;
        };
        let (Some(own), Some(gid)) = (number(own), number(group)) else {
            continue;
        };
        if *name == user || uid == Some(own) {
            let home = if home.starts_with('/') { home } else { "/" };
            return Some(Account {
                uid: own,
                gid,
                name: (*name).to_owned(),
                home: home.to_owned(),
            });
        }
    }
    let uid = uid.or_else(|| (user == "root").then_some(0))?;
    Some(Account {
        uid,
        gid: 0,
        name: user.to_owned(),
        home: if uid == 0 { "/root" } else { "/" }.to_owned(),
    })
}

fn of_group(groups: &str, wanted: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, gid) = (fields.next()?, fields.nth(1)?);
        (name == wanted).then(|| number(gid)).flatten()
    })
}

fn unknown(what: &str, name: &str, file: &str) -> Error {
    let name: String = name.chars().take(100).collect();
    Error::Image {
        reason: format!("its {what} {name:?} is not in its {file}"),
    }
}

/// The text of a file of the image; empty where it has none. The uppermost layer that says something of it counts.
fn read(layers: &[PathBuf], name: &str) -> Result<String, Error> {
    for layer in layers {
        let found = look(layer, name).map_err(|error| crate::error::file("read", layer)(error.into()))?;
        match found {
            Found::File(file) => {
                let mut bytes = Vec::new();
                let read = file.take(FILE_BYTES).read_to_end(&mut bytes);
                read.map_err(crate::error::file("read", layer))?;
                return Ok(String::from_utf8_lossy(&bytes).into_owned());
            }
            Found::Hidden => return Ok(String::new()),
            Found::Nothing => {}
        }
    }
    Ok(String::new())
}

/// What a layer says of a file.
enum Found {
    File(File),
    /// It is not there, whatever layers below have.
    Hidden,
    Nothing,
}

fn look(layer: &Path, name: &str) -> Result<Found, Errno> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let root = rustix::fs::openat(
        CWD,
        layer,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let open =
        |name: &str, flags: OFlags| rustix::fs::openat2(&root, name, flags | OFlags::CLOEXEC, Mode::empty(), resolve);
    match open(name, OFlags::RDONLY | OFlags::NONBLOCK) {
        Ok(fd) => {
            let file = File::from(fd);
            let plain = file.metadata().is_ok_and(|metadata| metadata.is_file());
            Ok(if plain { Found::File(file) } else { Found::Hidden })
        }
        Err(Errno::NOENT) => {
            let parent = name.rsplit_once('/').map_or(".", |(parent, _)| parent);
            match open(parent, OFlags::RDONLY | OFlags::DIRECTORY) {
                Ok(folder) if unpack::is_opaque(&folder) => Ok(Found::Hidden),
                _ => Ok(Found::Nothing),
            }
        }
        // Removed, or a link that leads nowhere: devices that stand for absence cannot be opened.
        Err(Errno::NOTDIR | Errno::LOOP | Errno::NXIO | Errno::ACCESS | Errno::NODEV) => Ok(Found::Hidden),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::FileType;
    use std::fs;
    use std::os::unix::fs::symlink;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nbroken\napp:x:1000:1001:App:/srv/app:/bin/sh\nhigh:x:70000:1::/:/\n";

    fn layers(files: &[(&str, &str)]) -> (tempfile::TempDir, Vec<PathBuf>) {
        let dir = tempfile::tempdir().expect("folder");
        let (upper, lower) = (dir.path().join("upper"), dir.path().join("lower"));
        fs::create_dir_all(upper.join("etc")).expect("folder");
        fs::create_dir_all(lower.join("etc")).expect("folder");
        for (name, text) in files {
            fs::write(lower.join(name), text).expect("written");
        }
        (dir, vec![upper, lower])
    }

    #[test]
    fn users_are_looked_up_as_other_runtimes_do() {
        let (_dir, layers) = layers(&[("etc/passwd", PASSWD), ("etc/group", "www:x:33:\n")]);
        let find = |user: &str| {
            let found = Account::find(&layers, user);
            found.map(|account| (account.uid, account.gid, account.name, account.home))
        };
        let is = |uid, gid, name: &str, home: &str| (uid, gid, name.to_owned(), home.to_owned());
        assert_eq!(find("").expect("root"), is(0, 0, "root", "/root"));
        assert_eq!(find("app").expect("known"), is(1000, 1001, "app", "/srv/app"));
        assert_eq!(find("1000").expect("known"), is(1000, 1001, "app", "/srv/app"));
        assert_eq!(find("app:www").expect("known"), is(1000, 33, "app", "/srv/app"));
        assert_eq!(find("5:6").expect("numbers"), is(5, 6, "5", "/"));
        for (user, part) in [
            ("nobody-knows", "not in its /etc/passwd"),
            ("app:nobody-knows", "not in its /etc/group"),
            ("high", "above 65535"),
            ("99999999999", "above 65535"),
        ] {
            let error = crate::error::chain(&find(user).expect_err(user));
            assert!(error.contains(part), "{user}: {error}");
        }
    }

    #[test]
    fn an_image_without_accounts_has_root_and_numbers() {
        let (_dir, layers) = layers(&[]);
        assert_eq!(Account::find(&layers, "").expect("root").uid, 0);
        assert_eq!(Account::find(&layers, "1234").expect("a number").uid, 1234);
        assert!(Account::find(&layers, "app").is_err());
    }

    #[test]
    fn nothing_of_the_host_is_read_and_the_uppermost_counts() {
        let (_dir, layers) = layers(&[("etc/passwd", PASSWD)]);
        let (upper, lower) = (&layers[0], &layers[1]);
        symlink("/etc/hostname", lower.join("etc/group")).expect("link");
        assert!(Account::find(&layers, "app:nothing").is_err(), "not the host's");
        fs::write(upper.join("etc/passwd"), "app:x:7:7::/:\n").expect("written");
        assert_eq!(Account::find(&layers, "app").expect("known").uid, 7);
        fs::remove_file(upper.join("etc/passwd")).expect("removed");
        let device = rustix::fs::makedev(0, 0);
        let path = upper.join("etc/passwd");
        rustix::fs::mknodat(CWD, &path, FileType::CharacterDevice, Mode::empty(), device).expect("a whiteout");
        assert!(Account::find(&layers, "app").is_err(), "it was removed");
    }
}
