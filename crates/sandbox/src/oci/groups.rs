//! A container's control groups: which hierarchies there are, its group in each, entering and leaving them.
//! What is written into them is in `limits`.
//!
//! Every hierarchy that is mounted gets a group, so that nothing the container does is counted elsewhere: v1
//! hierarchies, the v2 hierarchy, or both beside each other. Groups that were there before stay.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::error::{Context, Error, Result};
use crate::cgroup::files::{self, Mounts};

/// Where containers go that name no place of their own. All of them share it, and whoever is last removes it.
pub const PARENT: &str = "/paas/oci";
/// How long the kernel is given to let go of a group.
const END: Duration = Duration::from_secs(10);
/// Rounds of killing what may fork meanwhile.
const ROUNDS: usize = 64;
/// Times that others may remove a folder while groups are made below it.
const RACES: usize = 16;

/// A container's group in one hierarchy.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its folder.
    pub dir: PathBuf,
    /// What the hierarchy's mount point is called.
    pub name: String,
    /// v1: its controllers; none for v2.
    pub controllers: Option<Vec<String>>,
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    /// One in each hierarchy.
    pub all: Vec<Group>,
    /// Folders that were made, the deepest first.
    pub made: Vec<PathBuf>,
}

impl Groups {
    /// Makes the groups at `path`, below each hierarchy's root.
    pub fn create(path: &Path) -> Result<Groups> {
        let mounts = Mounts::read().at("read", "/proc/self/mountinfo")?;
        let below = path.strip_prefix("/").unwrap_or(path);
        let mut groups = Groups::default();
        let v1 = mounts
            .all_v1()
            .iter()
            .map(|(root, options)| (root, Some(options.clone())));
        let all = v1.chain(mounts.unified.iter().map(|root| (root, None)));
        for (root, controllers) in all {
            let name = root.file_name().map(|name| name.to_string_lossy().into_owned());
            let group = Group {
                dir: root.join(below),
                name: name.unwrap_or_default(),
                controllers,
            };
            // What was made so far goes again if this one cannot be.
            if let Err(error) = groups.make(root, &group).at("make group", &group.dir) {
                let _ = groups.remove();
                return Err(error);
            }
            groups.share(root, &group);
            groups.all.push(group);
        }
        Ok(groups)
    }

    /// Notes the folders that containers share as made by this one too: who made them may be gone before the last.
    fn share(&mut self, root: &Path, group: &Group) {
        let parent = root.join(PARENT.trim_start_matches('/'));
        if group.dir.starts_with(&parent) && group.dir != parent {
            for folder in parent.ancestors().take_while(|folder| *folder != root) {
                if !self.made.iter().any(|made| made == folder) {
                    self.made.push(folder.to_owned());
                }
            }
        }
    }

    /// Groups that were made before, by their folders.
    pub fn known(dirs: &[PathBuf]) -> Result<Groups> {
        let mounts = Mounts::read().at("read", "/proc/self/mountinfo")?;
        let group = |dir: &PathBuf| {
            let v1 = mounts.all_v1().iter().find(|(root, _)| dir.starts_with(root));
            let root = v1.map(|(root, _)| root).or(mounts.unified.as_ref());
            let name = root.and_then(|root| root.file_name()).unwrap_or_default();
            Group {
                dir: dir.clone(),
                name: name.to_string_lossy().into_owned(),
                controllers: v1.map(|(_, controllers)| controllers.clone()),
            }
        };
        Ok(Groups {
            all: dirs.iter().map(group).collect(),
            made: Vec::new(),
        })
    }

    /// Others remove folders that they find empty: one that vanishes is made again.
    fn make(&mut self, root: &Path, group: &Group) -> io::Result<()> {
        for _ in 0..RACES {
            match self.try_make(root, group) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                other => return other,
            }
        }
        self.try_make(root, group)
    }

    fn try_make(&mut self, root: &Path, group: &Group) -> io::Result<()> {
        let mut folders: Vec<&Path> = group.dir.ancestors().take_while(|folder| *folder != root).collect();
        folders.reverse();
        for folder in folders {
            match std::fs::create_dir(folder) {
                Ok(()) if self.made.iter().any(|made| made == folder) => {}
                Ok(()) => self.made.insert(0, folder.to_owned()),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
            if group.has("cpuset") {
                inherit_cpus(folder)?;
            }
        }
        Ok(())
    }

    /// The v2 group, to be born in.
    pub fn entry(&self) -> Result<Option<OwnedFd>> {
        match self.unified() {
            Some(group) => Ok(Some(
                std::fs::File::open(&group.dir).at("open group", &group.dir)?.into(),
            )),
            None => Ok(None),
        }
    }

    /// The v2 group.
    pub fn unified(&self) -> Option<&Group> {
        self.all.iter().find(|group| group.controllers.is_none())
    }

    /// The v1 group with `controller`.
    pub fn v1(&self, controller: &str) -> Option<&Group> {
        self.all.iter().find(|group| group.has(controller))
    }

    /// Moves a process into all of them.
    pub fn join(&self, pid: i32) -> Result<()> {
        let all = self.all.iter().map(|group| group.dir.join("cgroup.procs"));
        all.into_iter()
            .try_for_each(|file| files::write(&file, pid).at("join group", file))
    }

    /// Stops (or lets go on) all that is in them; whether the kernel has done so is waited for.
    pub fn freeze(&self, frozen: bool) -> Result<()> {
        let v1 = self.v1("freezer").map(|group| group.dir.join("freezer.state"));
        let (file, value) = match (self.unified(), v1) {
            (Some(group), _) => (group.dir.join("cgroup.freeze"), if frozen { "1" } else { "0" }),
            (None, Some(file)) => (file, if frozen { "FROZEN" } else { "THAWED" }),
            (None, None) => {
                let what = "this host's control groups have no freezer".to_owned();
                return Err(Error::Unsupported { what });
            }
        };
        files::write(&file, value).at("write", &file)?;
        let deadline = Instant::now() + END;
        while self.frozen() != frozen {
            if Instant::now() > deadline {
                return Err(io::Error::from(io::ErrorKind::TimedOut)).at("freeze", file);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Whether all that is in them stands still.
    pub fn frozen(&self) -> bool {
        let read = |group: &Group, file: &str| std::fs::read_to_string(group.dir.join(file)).unwrap_or_default();
        let v1 = self.v1("freezer").map(|group| read(group, "freezer.state"));
        let v2 = self.unified().map(|group| read(group, "cgroup.events"));
        v1.is_some_and(|state| state.trim() == "FROZEN")
            || v2.is_some_and(|events| events.lines().any(|line| line == "frozen 1"))
    }

    /// Numbers of the processes in them.
    pub fn processes(&self) -> Vec<i32> {
        let lists = self.all.iter().map(|group| group.dir.join("cgroup.procs"));
        let text: String = lists.filter_map(|file| std::fs::read_to_string(file).ok()).collect();
        let all: std::collections::BTreeSet<i32> = text.lines().filter_map(|line| line.parse().ok()).collect();
        all.into_iter().collect()
    }

    /// Moves a process into the v1 groups.
    pub fn enter(&self, pid: i32) -> Result<()> {
        let v1 = self.all.iter().filter(|group| group.controllers.is_some());
        v1.map(|group| group.dir.join("cgroup.procs"))
            .try_for_each(|file| files::write(&file, pid).at("join group", file))
    }

    /// Removes what was made.
    pub fn remove(&self) -> Result<()> {
        remove(&self.made, &[])
    }
}

impl Group {
    fn has(&self, controller: &str) -> bool {
        self.controllers
            .as_ref()
            .is_some_and(|all| all.iter().any(|one| one == controller))
    }
}

/// A new group of processors has none, and takes no process until it has.
fn inherit_cpus(folder: &Path) -> io::Result<()> {
    let Some(parent) = folder.parent() else { return Ok(()) };
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if std::fs::read_to_string(folder.join(file))?.trim().is_empty() {
            let value = std::fs::read_to_string(parent.join(file))?;
            files::write(&folder.join(file), value.trim())?;
        }
    }
    Ok(())
}

/// Sends `signal` to every process in `groups`.
pub fn signal_all(groups: &[PathBuf], signal: i32) -> io::Result<()> {
    for file in groups.iter().map(|group| group.join("cgroup.procs")) {
        let list = match std::fs::read_to_string(file) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        for pid in list.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 1) {
            // Whoever is gone meanwhile needs no signal.
            let _ = crate::sys::kill(pid, signal);
        }
    }
    Ok(())
}

/// Kills what is left in those of `groups` that were made, then removes what was made; folders above the container's
/// own only if nobody else has come to use them.
pub fn remove(made: &[PathBuf], groups: &[PathBuf]) -> Result<()> {
    let deadline = Instant::now() + END;
    for _ in 0..ROUNDS {
        let busy = |group: &&PathBuf| {
            std::fs::read_to_string(group.join("cgroup.procs")).is_ok_and(|list| !list.trim().is_empty())
        };
        let left: Vec<PathBuf> = groups
            .iter()
            .filter(|group| made.contains(group))
            .filter(busy)
            .cloned()
            .collect();
        if left.is_empty() || Instant::now() > deadline {
            break;
        }
        for group in &left {
            if files::write(&group.join("cgroup.kill"), 1).is_err() {
                signal_all(std::slice::from_ref(group), libc::SIGKILL).at("kill", group)?;
            }
        }
    }
    for folder in made {
        // Folders above the container's own may have come into use by others.
        if groups.contains(folder) || groups.is_empty() && !is_shared(folder) {
            files::remove_group(folder, deadline).at("remove group", folder)?;
        } else {
            let _ = std::fs::remove_dir(folder);
        }
    }
    Ok(())
}

/// Whether a folder is one of those that containers share, in whichever hierarchy.
fn is_shared(folder: &Path) -> bool {
    let parent = Path::new(PARENT.trim_start_matches('/'));
    parent
        .ancestors()
        .take_while(|part| !part.as_os_str().is_empty())
        .any(|part| folder.ends_with(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_made_entered_and_removed() {
        let path = PathBuf::from(format!("/paas/oci-unit{}/a", std::process::id()));
        let groups = Groups::create(&path).unwrap();
        assert!(!groups.all.is_empty());
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        groups.enter(child.id() as i32).unwrap();
        let dirs: Vec<PathBuf> = groups.all.iter().map(|group| group.dir.clone()).collect();
        if let Some(group) = groups.v1("pids").or(groups.unified()) {
            files::write(&group.dir.join("cgroup.procs"), child.id()).unwrap();
            let list = std::fs::read_to_string(group.dir.join("cgroup.procs")).unwrap();
            assert_eq!(list.trim(), child.id().to_string());
        }
        // A second container there neither fails nor owns what is there.
        let second = Groups::create(&path).unwrap();
        assert!(second.made.is_empty());
        remove(&groups.made, &dirs).unwrap();
        child.wait().unwrap();
        assert!(dirs.iter().all(|dir| !dir.exists()));
        assert!(!dirs[0].parent().unwrap().exists());
    }

    #[test]
    fn the_last_of_those_that_share_a_folder_removes_it() {
        let path = |name: &str| PathBuf::from(format!("{PARENT}/unit{}-{name}", std::process::id()));
        let dirs = |groups: &Groups| -> Vec<PathBuf> { groups.all.iter().map(|group| group.dir.clone()).collect() };
        let (first, second) = (Groups::create(&path("a")).unwrap(), Groups::create(&path("b")).unwrap());
        for groups in [&first, &second] {
            let shared = groups.made.iter().filter(|folder| is_shared(folder)).count();
            assert_eq!(shared, 2 * groups.all.len(), "both folders in each hierarchy");
        }
        // What is in use stays, whoever made it.
        remove(&first.made, &dirs(&first)).unwrap();
        assert!(dirs(&second).iter().all(|dir| dir.exists()));
        second.remove().unwrap();
        assert!(dirs(&second).iter().all(|dir| !dir.exists()));
    }
}
