//! Everything on a machine that platforms, sandboxes and their tests can leave behind, in one list. Whose a thing is,
//! is for those to say who ask: the test kit, the sandbox suite and `cargo xtask test` (which include this file).

use std::path::Path;
use std::process::Command;

/// Groups lie this deep at most.
const GROUP_DEPTH: usize = 4;
/// Where networks note what they changed on the host.
pub const NETWORKS: &str = "/run/paas/networks";

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Thing {
    /// What it is.
    pub kind: &'static str,
    /// How it is called, with what tells whose it is.
    pub text: String,
}

impl std::fmt::Display for Thing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.kind, self.text)
    }
}

/// Looks at the machine.
pub fn things() -> Vec<Thing> {
    let mut all = Vec::new();
    let mut add = |kind, texts: Vec<String>| all.extend(texts.into_iter().map(|text| Thing { kind, text }));
    add("process", processes());
    let mut groups = Vec::new();
    below(Path::new("/sys/fs/cgroup"), GROUP_DEPTH, &mut groups);
    add("control group", groups);
    add(
        "mount",
        lines(&std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default()),
    );
    add("interface", names("/sys/class/net"));
    add("network namespace", lines(&output("ip", &["netns", "list"])));
    add("firewall", lines(&output("nft", &["list", "tables"])));
    let loops = ["--list", "--noheadings", "--output", "NAME,BACK-FILE"];
    add("loop device", lines(&output("losetup", &loops)));
    add("record of a network", names(NETWORKS));
    add("forwarding", forwarding());
    all
}

fn processes() -> Vec<String> {
    let pids = names("/proc").into_iter().filter(|name| name.parse::<u32>().is_ok());
    let line = |pid: String| {
        let folder = Path::new("/proc").join(&pid);
        let name = std::fs::read_to_string(folder.join("comm")).ok()?;
        let line = std::fs::read(folder.join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        Some(format!("{pid} ({}) {}", name.trim(), line.trim()))
    };
    pids.filter_map(line).collect()
}

/// Folders below `folder`, and those below them.
fn below(folder: &Path, depth: usize, found: &mut Vec<String>) {
    if depth == 0 {
        return;
    }
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.push(entry.path().display().to_string());
            below(&entry.path(), depth - 1, found);
        }
    }
}

/// Interfaces on which the host passes on what is not for it.
fn forwarding() -> Vec<String> {
    let is_on = |name: &String| {
        let setting = format!("/proc/sys/net/ipv4/conf/{name}/forwarding");
        std::fs::read_to_string(setting).is_ok_and(|value| value.trim() == "1")
    };
    names("/sys/class/net").into_iter().filter(is_on).collect()
}

fn names(folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(|line| line.trim().to_owned()).collect()
}

/// What a command prints, wherever Debian keeps it; nothing where it is missing.
fn output(program: &str, arguments: &[&str]) -> String {
    let places = [program.to_owned(), format!("/usr/sbin/{program}")];
    let mut outputs = places
        .iter()
        .filter_map(|place| Command::new(place).args(arguments).output().ok());
    let first = outputs.next();
    first.map_or_else(String::new, |output| {
        String::from_utf8_lossy(&output.stdout).into_owned()
    })
}
