//! Makes a stack from Debian's packages: one operator command, with a line of progress for every step.
//!
//! The tree is made beside the others, completed, stripped, and appears by rename. It needs root and a tool that
//! installs packages into a folder; without one the error names the package to install.

use super::{GROUP, HOST, PASSWD, make_dir, version, write_file};
use crate::cache::remove_tree;
use crate::error::{Error, blocking, file};
use crate::unpack::OWNER;
use model::name::StackName;
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::Command;
use tokio::sync::mpsc;

/// What a stack holds where nothing else is asked for: what apps of most languages expect beside their runtime.
pub const DEFAULT_PACKAGES: [&str; 16] = [
    "bash",
    "ca-certificates",
    "curl",
    "file",
    "git",
    "libpq5",
    "libxml2",
    "libyaml-0-2",
    "media-types",
    "netbase",
    "openssl",
    "procps",
    "tzdata",
    "unzip",
    "xz-utils",
    "zip",
];
/// Longest time that installing may take.
const DEADLINE: Duration = Duration::from_secs(45 * 60);
/// Lines of output that an error repeats.
const TOLD_LINES: usize = 12;

/// A stack to be made.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// Its name.
    pub name: StackName,
    /// Debian or Ubuntu release, such as `bookworm`.
    pub suite: String,
    /// Packages beyond the essential ones.
    pub packages: Vec<String>,
    /// Archive to take them from; `None` for the one that this host uses for the suite.
    pub mirror: Option<String>,
    /// Keys that may sign the archive; `None` for those that this host trusts.
    pub keyring: Option<PathBuf>,
}

/// Makes the stack below the folder of stacks `dir`, telling each step through `progress`. Says where it is. One that is
/// there already gets a new version: what starts from then on has that, what runs keeps what it has.
///
/// # Errors
/// [`Error::Stack`] with what failed and what to do; then nothing is left of it, and a stack that was there is as it was.
pub async fn build(dir: &Path, recipe: Recipe, mut progress: impl FnMut(&str)) -> Result<PathBuf, Error> {
    check(&recipe)?;
    if recipe.name.as_str() == HOST {
        return Err(refuse(
            &recipe,
            "it is this host's own userland: choose another name".to_owned(),
        ));
    }
    fs::create_dir_all(dir).map_err(file("create", dir))?;
    let making = tempfile::Builder::new()
        .prefix(".making-")
        .tempdir_in(dir)
        .map_err(file("create a folder in", dir))?;
    let tree = making.path().join("tree");
    let mirror = recipe.mirror.clone().unwrap_or_else(|| host_mirror(&recipe.suite));
    progress(&format!("installing {} from {mirror}", recipe.suite));
    install(&recipe, &tree, &mirror, &mut progress).await?;
    progress("completing accounts and folders");
    let (stacks, name) = (dir.to_owned(), recipe.name.clone());
    let (bytes, place) = blocking(move || {
        complete(&tree)?;
        strip(&tree)?;
        Ok((size(&tree), version::put(&stacks, &name, &tree)?))
    })
    .await?;
    progress(&format!("stack {} is ready: {} MiB", recipe.name, bytes >> 20));
    Ok(place)
}

fn refuse(recipe: &Recipe, reason: String) -> Error {
    Error::Stack {
        name: recipe.name.to_string(),
        reason,
    }
}

/// Names end up as arguments of a program: only what names of releases, packages and archives are made of.
fn check(recipe: &Recipe) -> Result<(), Error> {
    let plain = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "+-.:_".contains(c))
    };
    if let Some(odd) = [&recipe.suite]
        .into_iter()
        .chain(&recipe.packages)
        .find(|name| !plain(name))
    {
        return Err(refuse(
            recipe,
            format!("{odd:?} is not the name of a release or a package"),
        ));
    }
    if let Some(keyring) = recipe.keyring.as_ref().filter(|path| !path.is_file()) {
        return Err(refuse(
            recipe,
            format!("the file of keys {} is not there", keyring.display()),
        ));
    }
    match &recipe.mirror {
        Some(mirror) if !mirror.starts_with("http://") && !mirror.starts_with("https://") => Err(refuse(
            recipe,
            format!("{mirror:?} is not the address of an archive: write http:// or https://"),
        )),
        _ => Ok(()),
    }
}

async fn install(recipe: &Recipe, tree: &Path, mirror: &str, progress: &mut impl FnMut(&str)) -> Result<(), Error> {
    let include = format!("--include={}", recipe.packages.join(","));
    let mut command = if let Some(program) = find("mmdebstrap") {
        let mut command = Command::new(program);
        command.args(["--variant=minbase", "--mode=root", "--format=directory", &include]);
        command
    } else if let Some(program) = find("debootstrap") {
        let mut command = Command::new(program);
        // Without the keys it would only warn, and take what anybody signed.
        command.args(["--variant=minbase", "--force-check-gpg", &include]);
        command
    } else {
        let reason = "neither mmdebstrap nor debootstrap is installed: run `apt-get install mmdebstrap`";
        return Err(refuse(recipe, reason.to_owned()));
    };
    if let Some(keyring) = &recipe.keyring {
        command.arg("--keyring").arg(keyring);
    }
    command.arg(&recipe.suite).arg(tree).arg(mirror);
    command
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("LC_ALL", "C.UTF-8");
    run(recipe, command, progress).await
}

/// Runs an installer, tells each of its lines, and repeats the last ones where it fails.
async fn run(recipe: &Recipe, mut command: Command, progress: &mut impl FnMut(&str)) -> Result<(), Error> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let failed = |what: &str, error: &dyn std::fmt::Display| refuse(recipe, format!("{what}: {error}"));
    let mut child = command
        .spawn()
        .map_err(|error| failed("the installer can't be run", &error))?;
    let (sender, mut lines) = mpsc::channel(64);
    if let Some(out) = child.stdout.take() {
        tokio::spawn(forward(out, sender.clone()));
    }
    if let Some(err) = child.stderr.take() {
        tokio::spawn(forward(err, sender.clone()));
    }
    drop(sender);
    let mut last = std::collections::VecDeque::new();
    let following = async {
        while let Some(line) = lines.recv().await {
            progress(&line);
            last.push_back(line);
            if last.len() > TOLD_LINES {
                last.pop_front();
            }
        }
        child.wait().await
    };
    let ended = tokio::time::timeout(DEADLINE, following).await;
    let seconds = DEADLINE.as_secs();
    let status = ended
        .map_err(|_| refuse(recipe, format!("installing took longer than {seconds} s")))?
        .map_err(|error| failed("the installer can't be awaited", &error))?;
    if status.success() {
        return Ok(());
    }
    let told: Vec<String> = last.into();
    Err(refuse(
        recipe,
        format!("the installer ended with {status}:\n{}", told.join("\n")),
    ))
}

async fn forward(from: impl AsyncRead + Unpin, to: mpsc::Sender<String>) {
    let mut lines = BufReader::new(from).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if to.send(line).await.is_err() {
            break;
        }
    }
}

fn find(program: &str) -> Option<PathBuf> {
    ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/bin"]
        .map(|folder| Path::new(folder).join(program))
        .into_iter()
        .find(|path| path.is_file())
}

/// The archive that this host takes `suite` from, or Debian's own.
fn host_mirror(suite: &str) -> String {
    let mut texts: Vec<String> = vec![fs::read_to_string("/etc/apt/sources.list").unwrap_or_default()];
    let parts = fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten();
    texts.extend(parts.filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok()));
    texts
        .iter()
        .find_map(|text| mirror_in(text, suite))
        .unwrap_or_else(|| "http://deb.debian.org/debian".to_owned())
}

/// Reads both forms: `deb [options] URI suite components` and stanzas with `URIs:` and `Suites:`.
fn mirror_in(text: &str, suite: &str) -> Option<String> {
    for line in text.lines().map(str::trim) {
        let Some(rest) = line.strip_prefix("deb ") else {
            continue;
        };
        let rest = rest.trim_start();
        let rest = if rest.starts_with('[') {
            rest.split_once(']').map_or("", |(_, rest)| rest)
        } else {
            rest
        };
        let mut words = rest.split_whitespace();
        if let (Some(uri), Some(found)) = (words.next(), words.next())
            && found == suite
        {
            return Some(uri.to_owned());
        }
    }
    text.split("\n\n").find_map(|stanza| {
        let field = |name: &str| {
            let line = stanza.lines().find_map(|line| line.strip_prefix(name));
            line.map(|value| value.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        };
        let suites = field("Suites:")?;
        suites
            .iter()
            .any(|found| found == suite)
            .then(|| field("URIs:"))??
            .into_iter()
            .next()
    })
}

/// Adds what every stack has and minimal installations lack.
fn complete(tree: &Path) -> Result<(), Error> {
    for (name, line) in [("etc/passwd", PASSWD), ("etc/group", GROUP)] {
        let path = tree.join(name);
        let text = fs::read_to_string(&path).map_err(file("read", &path))?;
        if !text.lines().any(|line| line.starts_with("vcap:")) {
            let user = line.lines().find(|line| line.starts_with("vcap:")).unwrap_or_default();
            write_file(&path, format!("{}\n{user}\n", text.trim_end()).as_bytes())?;
        }
    }
    write_file(
        &tree.join("etc/hosts"),
        b"127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n",
    )?;
    make_dir(&tree.join("tmp"), 0o1777)?;
    make_dir(&tree.join("var/tmp"), 0o1777)?;
    for name in ["home/vcap", "home/vcap/app", "home/vcap/tmp"] {
        let path = tree.join(name);
        make_dir(&path, 0o755)?;
        chown(&path, Some(OWNER), Some(OWNER)).map_err(file("give away", &path))?;
    }
    for name in ["etc/resolv.conf", "etc/machine-id", "etc/hostname"] {
        let path = tree.join(name);
        if fs::symlink_metadata(&path).is_ok() {
            fs::remove_file(&path).map_err(file("remove", &path))?;
        }
    }
    Ok(())
}

/// Removes what no app reads: manuals, translations, package lists, devices. Licences stay.
fn strip(tree: &Path) -> Result<(), Error> {
    for name in [
        "usr/share/man",
        "usr/share/info",
        "usr/share/locale",
        "var/cache/apt",
        "var/lib/apt/lists",
        "var/log",
        "dev",
    ] {
        remove_tree(&tree.join(name))?;
    }
    for name in ["dev", "var/log"] {
        make_dir(&tree.join(name), 0o755)?;
    }
    strip_docs(&tree.join("usr/share/doc"))
}

fn strip_docs(dir: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok) {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            strip_docs(&path)?;
        } else if entry.file_name() != "copyright" {
            fs::remove_file(&path).map_err(file("remove", &path))?;
        }
    }
    Ok(())
}

fn size(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    entries
        .filter_map(|entry| {
            let metadata = entry.metadata().ok()?;
            Some(if metadata.is_dir() {
                size(&entry.path())
            } else {
                metadata.len()
            })
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(name: &str) -> Recipe {
        Recipe {
            name: name.parse().expect("a name"),
            suite: "bookworm".to_owned(),
            packages: vec!["bash".to_owned()],
            mirror: None,
            keyring: None,
        }
    }

    #[test]
    fn archives_are_found_in_both_forms() {
        let lines = "# deb http://old x main\ndeb [signed-by=/k.gpg arch=amd64] http://one/debian bookworm main\n";
        assert_eq!(mirror_in(lines, "bookworm").as_deref(), Some("http://one/debian"));
        assert_eq!(mirror_in(lines, "trixie"), None);
        let stanzas = "Types: deb\nURIs: http://other/debian\nSuites: trixie\n\nTypes: deb\nURIs: http://two/debian http://three\nSuites: bookworm bookworm-updates\n";
        assert_eq!(mirror_in(stanzas, "bookworm").as_deref(), Some("http://two/debian"));
        assert_eq!(mirror_in(stanzas, "sid"), None);
    }

    #[tokio::test]
    async fn what_could_be_an_option_is_refused() {
        let dir = tempfile::tempdir().expect("folder");
        let mut odd = recipe("a");
        odd.packages.push("--hook=rm".to_owned());
        assert!(build(dir.path(), odd, |_| {}).await.is_err());
        let mut odd = recipe("a");
        odd.mirror = Some("file:///etc".to_owned());
        assert!(build(dir.path(), odd, |_| {}).await.is_err());
        let mut odd = recipe("a");
        odd.keyring = Some("/nowhere.gpg".into());
        let error = build(dir.path(), odd, |_| {}).await.expect_err("no keys");
        assert!(error.to_string().contains("/nowhere.gpg is not there"), "{error}");
        let error = build(dir.path(), recipe("host"), |_| {}).await.expect_err("taken");
        assert!(error.to_string().contains("own userland"), "{error}");
    }

    #[tokio::test]
    async fn an_installer_that_fails_is_quoted() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo fetching; echo 'no such suite' >&2; exit 3"]);
        let mut told = Vec::new();
        let result = run(&recipe("a"), command, &mut |line: &str| told.push(line.to_owned())).await;
        let text = result.expect_err("failed").to_string();
        assert!(
            text.contains("exit status: 3") && text.contains("no such suite"),
            "{text}"
        );
        told.sort();
        assert_eq!(told, ["fetching", "no such suite"]);
    }

    #[test]
    fn a_tree_is_completed_and_stripped() {
        let dir = tempfile::tempdir().expect("folder");
        let tree = dir.path();
        for (name, text) in [
            ("etc/passwd", "root:x:0:0::/root:/bin/sh"),
            ("etc/group", "root:x:0:\n"),
            ("etc/machine-id", "1"),
            ("usr/share/doc/a/copyright", "free"),
            ("usr/share/doc/a/changelog", "long"),
            ("usr/share/man/man1/a.1", "long"),
        ] {
            write_file(&tree.join(name), text.as_bytes()).expect("write");
        }
        complete(tree).expect("completed");
        complete(tree).expect("twice is the same");
        strip(tree).expect("stripped");
        let passwd = fs::read_to_string(tree.join("etc/passwd")).expect("read");
        assert_eq!(passwd.matches("vcap:x:2000").count(), 1);
        assert!(tree.join("etc/hosts").exists() && tree.join("usr/share/doc/a/copyright").exists());
        for gone in ["usr/share/doc/a/changelog", "usr/share/man", "etc/machine-id"] {
            assert!(!tree.join(gone).exists(), "{gone}");
        }
    }
}
