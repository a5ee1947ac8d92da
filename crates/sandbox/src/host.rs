//! What this host is able to do: refuses to begin where sandboxes cannot work, and says in
//! words what is weaker than intended.

use rustix::process::Resource;
use rustix::thread::{CapabilitySet, capabilities};

use crate::inside::seal::LANDLOCK_SCOPES;
use crate::{Error, Result, sys, unprivileged};

/// Owners of overlay layers can be shifted from here on.
const OLDEST_KERNEL: (u32, u32) = (5, 19);
/// Open files an app is meant to be able to have.
const OPEN_FILES: u64 = 16_384;

/// An error with the remedy if nothing can work.
pub fn check() -> Result<()> {
    let refuse = |reason: String| Err(Error::Host { reason });
    if !rustix::process::geteuid().is_root() {
        return refuse("the agent must run as root, or have entered namespaces of its own".to_owned());
    }
    let release = kernel();
    if version(&release).is_some_and(|found| found < OLDEST_KERNEL) {
        let (major, minor) = OLDEST_KERNEL;
        return refuse(format!("kernel {release} is older than {major}.{minor}"));
    }
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if !known.lines().any(|line| line.ends_with("\toverlay")) {
        return refuse("the kernel has no overlay file system: load it with modprobe overlay".to_owned());
    }
    Ok(())
}

/// Release of the kernel.
pub fn kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// What is weaker than intended.
pub fn missing(layout: &str) -> Vec<String> {
    let mut missing: Vec<String> = unprivileged::lacks().iter().map(ToString::to_string).collect();
    if layout == "v1" {
        missing.push("no v2 control group hierarchy is mounted: sandboxes are killed process by process".to_owned());
    }
    if !std::path::Path::new("/proc/pressure").exists() {
        missing
            .push("waiting for CPU, memory and disks is not measured: the kernel has no pressure figures".to_owned());
    }
    if sys::landlock_version() < LANDLOCK_SCOPES {
        missing
            .push("namespaces alone hold back signals and abstract sockets: the kernel has no Landlock 6".to_owned());
    }
    let files = rustix::process::getrlimit(Resource::Nofile).maximum;
    let may_raise = capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_RESOURCE));
    if let Some(files) = files.filter(|files| *files < OPEN_FILES && !may_raise) {
        missing.push(format!(
            "apps can have {files} open files at most: raise the hard limit of the agent"
        ));
    }
    missing
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_number() {
        assert_eq!(version("6.18.44+"), Some((6, 18)));
        assert!(version("5.4.0-generic").unwrap() < OLDEST_KERNEL);
        assert!(version("5.19").unwrap() >= OLDEST_KERNEL && version("10.0").unwrap() > OLDEST_KERNEL);
        assert_eq!(version("odd"), None);
    }

    #[test]
    fn this_host_will_do_and_plain_v1_is_mentioned() {
        check().unwrap();
        assert!(missing("v1").len() > missing("v2").len());
    }
}
