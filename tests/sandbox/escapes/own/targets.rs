//! Places for mounts that are links, or become links while they are looked for.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use sandbox::log::Stream;
use sandbox::{Bind, Spec};

use super::{Host, apart, table};
use crate::escapes::bundle::{Bundle, Runner};
use crate::kit::text;

/// Starts, with the swapping going on.
const STARTS: usize = 20;
/// How often the simple way is tried until it is misled.
const TRIES: usize = 500;
const NAIVE: &str = "mount --bind \"$1\" \"$2\" 2>/dev/null; ls \"$3\"";

/// A folder of the host's that must stay as it is, and one with something in it that is to be mounted.
pub struct Folders {
    pub victim: PathBuf,
    pub tools: PathBuf,
}

impl Folders {
    pub fn new(host: &Host) -> Folders {
        let folder = |name: &str| {
            let folder = host.dir.path().join(name);
            std::fs::create_dir(&folder).unwrap();
            folder
        };
        let (victim, tools) = (folder("victim"), folder("tools"));
        std::fs::write(tools.join("tool"), "a tool").unwrap();
        Folders { victim, tools }
    }

    pub fn bind(&self, target: &str) -> Bind {
        Bind {
            source: self.tools.clone(),
            target: target.into(),
            readonly: true,
        }
    }
}

/// Starts it and gives where the tools are mounted inside; `None` if it is refused.
fn place_of_tools(host: &Host, spec: &Spec) -> Option<String> {
    let sandbox = host.runtime().create(spec).ok()?;
    crate::kit::ended(&sandbox);
    let told = text(&crate::kit::records(&sandbox), Stream::Out);
    sandbox.destroy().unwrap();
    let mounts = told.lines().find_map(|line| line.strip_prefix("mounts=")).unwrap();
    let of_tools = mounts
        .split('|')
        .find(|mount| mount.split(' ').nth(3).is_some_and(|root| root.ends_with("/tools")));
    let place = of_tools.expect("the tools are mounted somewhere").split(' ').nth(4);
    Some(place.unwrap().to_owned())
}

#[test]
fn linked_target() {
    let host = Host::new();
    let folders = Folders::new(&host);
    // From a layer.
    let evil = host.dir.path().join("evil");
    std::fs::create_dir(&evil).unwrap();
    std::os::unix::fs::symlink(&folders.victim, evil.join("data")).unwrap();
    let mut spec = host.spec("linked", &["view"]);
    spec.layers.insert(0, evil);
    spec.binds = vec![folders.bind("/data")];
    assert_eq!(place_of_tools(&host, &spec), None, "a link took the place of a mount");
    // From a bundle's root, whose links are followed within it.
    spec.layers.remove(0);
    spec.process.argv = ["/bin/probe", "list", "/data"].map(str::to_owned).to_vec();
    let bundle = Bundle::new(&host, &spec, &[]);
    std::os::unix::fs::symlink(&folders.victim, bundle.root.join("data")).unwrap();
    let (ok, told) = bundle.run_by(Runner::Ours);
    assert!(!ok || told.trim() == "tool", "{told}");
    let naive = apart(NAIVE, &[&folders.tools, &bundle.root.join("data"), &folders.victim]);
    assert_eq!(naive.trim(), "tool", "the simple way is not misled");
    table::record(
        "linked-target",
        "refused, or followed within the root",
        "a folder of the host",
    );
    drop(bundle);
    host.finish();
}

/// Makes a folder of a link and a link of the folder, as fast as it can, until it is told to stop.
fn swap(folder: &Path, link: &Path, go_on: &AtomicBool) {
    while go_on.load(Ordering::Relaxed) {
        renameat2(AT_FDCWD, folder, AT_FDCWD, link, RenameFlags::RENAME_EXCHANGE).unwrap();
    }
}

#[test]
fn swapped_target() {
    let host = Host::new();
    let folders = Folders::new(&host);
    let volume = host.dir.path().join("volume");
    std::fs::create_dir_all(volume.join("sub")).unwrap();
    std::os::unix::fs::symlink(&folders.victim, volume.join("link")).unwrap();
    let mut spec = host.spec("swapped", &["view"]);
    let shared = Bind {
        source: volume.clone(),
        target: "/volume".into(),
        readonly: false,
    };
    spec.binds = vec![shared, folders.bind("/volume/sub")];
    let sub = volume.join("sub");
    let go_on = AtomicBool::new(true);
    let misled = std::thread::scope(|scope| {
        scope.spawn(|| swap(&sub, &volume.join("link"), &go_on));
        let starts = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..STARTS {
                let place = place_of_tools(&host, &spec);
                assert!(place.as_ref().is_none_or(|at| at.starts_with("/volume/")), "{place:?}");
            }
        }));
        let simple = [&folders.tools, &sub, &folders.victim].map(PathBuf::as_path);
        let misled = (0..TRIES).any(|_| apart(NAIVE, &simple).trim() == "tool");
        go_on.store(false, Ordering::Relaxed);
        starts.map(|()| misled)
    });
    assert!(misled.unwrap(), "the simple way is not misled in {TRIES} tries");
    table::record("swapped-target", "refused, or in its place", "a folder of the host");
    host.finish();
}
