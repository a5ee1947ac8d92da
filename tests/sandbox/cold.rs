//! Starts for which nothing was built beforehand: what they are made out of, and that it is used up.

use std::path::PathBuf;
use std::time::Instant;

use crate::kit::{Host, PATIENCE, ended, printed};
use crate::lifecycle::exec_output;

/// Empty images of private layers that wait.
fn stock(host: &Host) -> Vec<PathBuf> {
    let folder = host.dir.path().join("state/disks/stock");
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// Waits until there are as many as ever.
fn filled(host: &Host) -> Vec<PathBuf> {
    assert!(host.runtime().await_parked(Instant::now() + PATIENCE));
    stock(host)
}

#[test]
fn an_image_is_used_once_and_replaced() {
    let mut host = Host::new();
    assert!(stock(&host).is_empty(), "nobody has asked for any size");
    let spec = |id: &str| host.spec(id, &["sleep"]);
    let (first, second) = (spec("first"), spec("second"));
    let first = host.create(&first);
    printed(&first, "asleep");
    let before = filled(&host);
    assert!(!before.is_empty());
    let second = host.create(&second);
    printed(&second, "asleep");
    let after = filled(&host);
    assert_eq!(after.len(), before.len());
    assert_eq!(
        after.iter().filter(|image| !before.contains(image)).count(),
        1,
        "one of them was used"
    );
    assert!(host.dir.path().join("state/sandboxes/second/disk.img").exists());
    first.destroy().unwrap();
    second.destroy().unwrap();
    host.reopen();
    assert!(
        stock(&host).is_empty(),
        "a new agent trusts nothing that it has not made"
    );
    host.finish();
}

#[test]
fn an_image_of_another_size_is_not_taken() {
    let host = Host::new();
    for (id, times) in [("first", 1), ("second", 2)] {
        let mut spec = host.spec(id, &["sleep"]);
        (spec.disk_bytes, spec.inodes) = (spec.disk_bytes * times, spec.inodes * times);
        let sandbox = host.create(&spec);
        let image = host.dir.path().join("state/sandboxes").join(id).join("disk.img");
        let length = std::fs::metadata(image).unwrap().len();
        assert!(
            (spec.disk_bytes..spec.disk_bytes + (32 << 20)).contains(&length),
            "{length}"
        );
        sandbox.destroy().unwrap();
        filled(&host);
    }
    host.finish();
}

#[test]
fn spoilt_images_are_made_up_for() {
    let host = Host::new();
    host.create(&host.spec("first", &["sleep"])).destroy().unwrap();
    let spoilt = filled(&host);
    for image in &spoilt {
        std::fs::write(image, "spoilt").unwrap();
    }
    let sandbox = host.create(&host.spec("second", &["say", "sound"]));
    assert_eq!(ended(&sandbox).code, Some(0));
    assert_eq!(spoilt.iter().filter(|image| image.exists()).count(), spoilt.len() - 1);
    sandbox.destroy().unwrap();
    host.finish();
}

#[test]
fn the_mount_table_tells_nothing_of_the_host() {
    let host = Host::new();
    let sandbox = host.create(&host.spec("a", &["sleep"]));
    printed(&sandbox, "asleep");
    let (_, mounts) = exec_output(&sandbox, &["read", "/proc/self/mountinfo"]);
    assert!(mounts.contains(" overlay "), "{mounts}");
    let path = host.dir.path().to_string_lossy().into_owned();
    assert!(!mounts.contains(&path), "{mounts}");
    // Everything of /sys that was prepared with its network namespace is there, and can only be read.
    let hidden = mounts.lines().filter(|line| line.contains(" /sys/"));
    assert!(
        hidden
            .clone()
            .any(|line| line.contains(" /sys/firmware ") || line.contains(" /sys/dev ")),
        "{mounts}"
    );
    assert!(hidden.clone().all(|line| line.contains(" ro,")), "{mounts}");
    sandbox.destroy().unwrap();
    host.finish();
}

#[test]
fn starts_beyond_the_stock_and_at_once_all_run() {
    let host = Host::new();
    let runtime = host.runtime();
    std::thread::scope(|scope| {
        let starts: Vec<_> = (0..10)
            .map(|at| {
                let spec = host.spec(&format!("a{at}"), &["exit", "7"]);
                scope.spawn(move || runtime.create(&spec).unwrap())
            })
            .collect();
        for start in starts {
            let sandbox = start.join().unwrap();
            assert_eq!(ended(&sandbox).code, Some(7));
            sandbox.destroy().unwrap();
        }
    });
    host.finish();
}
