//! What a host permits to who is not root, in words that lead to a remedy.

use std::io;

use crate::{Error, Result};

/// Settings that forbid user namespaces, with the value that does, and what permits them.
const SETTINGS: [(&str, &str, &str); 3] = [
    (
        "/proc/sys/kernel/unprivileged_userns_clone",
        "0",
        "sysctl kernel.unprivileged_userns_clone=1",
    ),
    (
        "/proc/sys/user/max_user_namespaces",
        "0",
        "sysctl user.max_user_namespaces=10000",
    ),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "sysctl kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile for this program that has userns",
    ),
];

/// The error of a kernel that refuses something that namespaces take: names the setting that forbids them, if one does.
pub fn explain(error: io::Error) -> Error {
    let value = |path: &str| std::fs::read_to_string(path).ok();
    refused(reason(&error, forbidden_by(value)))
}

fn forbidden_by(value: impl Fn(&str) -> Option<String>) -> Option<(&'static str, &'static str)> {
    SETTINGS
        .iter()
        .find(|(path, forbids, _)| value(path).is_some_and(|text| text.trim() == *forbids))
        .map(|&(path, _, remedy)| (path, remedy))
}

fn reason(error: &io::Error, forbidden: Option<(&str, &str)>) -> String {
    if let Some((path, remedy)) = forbidden {
        let setting = path.trim_start_matches("/proc/sys/").replace('/', ".");
        return format!("{setting} forbids user namespaces to who is not root; as root: {remedy}");
    }
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            "the kernel refuses namespaces, or a /proc of their own, to who is not root: inside a container its filter \
             or its masked /proc does that, else a security module"
                .to_owned()
        }
        Some(libc::ENOSPC) => "there are too many namespaces: as root, raise sysctl user.max_user_namespaces and its \
                               siblings user.max_*_namespaces"
            .to_owned(),
        _ => format!("the kernel cannot make namespaces for who is not root: {error}"),
    }
}

/// A process with threads cannot move.
pub fn single_thread() -> Result<()> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    match threads(&status) {
        Some(1) => Ok(()),
        _ => Err(refused("the process already has several threads".to_owned())),
    }
}

fn threads(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Threads:"))?;
    line.trim().parse().ok()
}

fn refused(reason: String) -> Error {
    Error::Host {
        reason: format!("{reason}; or use root: sudo paasd dev"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_that_forbids_is_named_with_its_remedy() {
        for (path, forbids, _) in SETTINGS {
            let only = |asked: &str| (asked == path).then(|| format!("{forbids}\n"));
            let (found, remedy) = forbidden_by(only).unwrap();
            assert_eq!(found, path);
            assert!(remedy.starts_with("sysctl "), "{remedy}");
            let told = reason(&io::Error::from_raw_os_error(libc::EPERM), Some((found, remedy)));
            let setting = path.rsplit('/').next().unwrap();
            assert!(
                told.contains(&format!(".{setting} ")) && told.ends_with(remedy),
                "{told}"
            );
        }
        assert!(forbidden_by(|_| Some("7".to_owned())).is_none() && forbidden_by(|_| None).is_none());
    }

    #[test]
    fn a_refusal_says_what_is_full_or_who_refuses() {
        let told = |errno| reason(&io::Error::from_raw_os_error(errno), None);
        assert!(told(libc::ENOSPC).contains("max_user_namespaces"));
        assert!(told(libc::EPERM).contains("container"));
        assert!(refused(told(libc::ENOMEM)).to_string().contains("sudo paasd dev"));
    }

    #[test]
    fn a_process_with_threads_is_refused() {
        assert_eq!(threads("Name:\tx\nThreads:\t3\n"), Some(3));
        assert_eq!(threads("Name:\tx\n"), None);
        // The test harness has several.
        std::thread::scope(|scope| {
            let (wait, waits) = std::sync::mpsc::sync_channel::<()>(1);
            scope.spawn(move || waits.recv());
            assert!(single_thread().is_err());
            drop(wait);
        });
    }
}
