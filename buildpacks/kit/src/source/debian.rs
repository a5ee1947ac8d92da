//! Packages of Debian, made for the stack that the build runs on: for runtimes that their makers publish as sources only.
//!
//! The release file of the archive is signed by its keys and names the digest of the package list, and this that of each
//! package. Packages are unpacked into a layer, not installed: nothing of them runs, and no script of theirs does.

use super::{Form, Release, Root, Source};
use crate::http::{Client, Integrity, address};
use crate::source::{mirror, signed};
use crate::{Failure, Result, Variables, archive};
use std::cell::OnceCell;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};

/// Names another archive, or a mirror of it.
pub const SETTING: &str = "BP_DEBIAN_MIRROR";
/// Where nobody configured another: releases, and what came after them for security.
const ARCHIVE: &str = "https://deb.debian.org/debian";
const SECURITY: &str = "https://deb.debian.org/debian-security";
/// Says which release a stack is made of.
const OS_RELEASE: &str = "/etc/os-release";
/// Lists the packages of a stack; those made of the host's own files have none.
const STATUS: &str = "/var/lib/dpkg/status";
/// Most packages that one runtime may need.
const MOST: usize = 300;
/// What every stack has, or nothing that is unpacked can use.
const BASE: &[&str] = &[
    "adduser",
    "ca-certificates",
    "debconf",
    "debianutils",
    "dpkg",
    "init-system-helpers",
    "iproute2",
    "libc6",
    "libcrypt1",
    "libgcc-s1",
    "libstdc++6",
    "lsb-base",
    "media-types",
    "mime-support",
    "perl",
    "perl-base",
    "php-common",
    "procps",
    "psmisc",
    "sensible-utils",
    "systemd",
    "systemd-standalone-tmpfiles",
    "systemd-sysv",
    "systemd-tmpfiles",
    "sysvinit-utils",
    "tzdata",
    "ucf",
];

/// The archive for the release that the stack is made of.
#[derive(Debug)]
pub struct Debian {
    places: Vec<(String, String)>,
    codename: String,
    family: &'static str,
    is_runtime: fn(&str) -> bool,
    /// Those of the build, which say whose signature counts.
    variables: Variables,
    index: OnceCell<BTreeMap<String, Package>>,
}

/// A package as the list has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Package {
    /// With epoch and revision.
    pub version: String,
    /// What it needs: of each group, one.
    depends: Vec<Vec<String>>,
    provides: Vec<String>,
    url: String,
    sha256: String,
}

impl Package {
    /// Its version as the makers of the software write it.
    #[must_use]
    pub fn upstream(&self) -> &str {
        let version = self
            .version
            .split_once(':')
            .map_or(self.version.as_str(), |(_, version)| version);
        let version = version.rsplit_once('-').map_or(version, |(version, _)| version);
        // What was repackaged says so behind.
        version.split(['+', '~']).next().unwrap_or(version)
    }
}

impl Debian {
    /// The archive for the stack of this build. Names of packages that belong to the runtime have `family` in them;
    /// `is_runtime` tells those that are the runtime itself.
    ///
    /// # Errors
    /// Where the stack is not made of Debian.
    pub fn of_stack(variables: &Variables, family: &'static str, is_runtime: fn(&str) -> bool) -> Result<Self> {
        let text = std::fs::read_to_string(OS_RELEASE).unwrap_or_default();
        let codename = codename(&text).ok_or_else(|| {
            Failure::new(
                "this runtime comes from packages of Debian, and the stack is not made of Debian",
                "Use a stack that is; `paasd stack create` makes one.",
            )
        })?;
        let places = match (variables.get(SETTING), variables.get(mirror::SETTING)) {
            (Some(base), _) => vec![(address(base), codename.clone())],
            (None, Some(base)) => vec![(format!("{}/debian", address(base)), codename.clone())],
            (None, None) => vec![
                (ARCHIVE.to_owned(), codename.clone()),
                (SECURITY.to_owned(), format!("{codename}-security")),
            ],
        };
        Ok(Self {
            places,
            codename,
            family,
            is_runtime,
            variables: variables.clone(),
            index: OnceCell::new(),
        })
    }

    /// Such as `bookworm`.
    #[must_use]
    pub fn codename(&self) -> &str {
        &self.codename
    }

    /// A package by its name.
    ///
    /// # Errors
    /// Where the archive cannot be read.
    pub fn package(&self, client: &Client, name: &str) -> Result<Option<&Package>> {
        Ok(self.index(client)?.get(name))
    }

    /// `names` and all that they need and the stack lacks, sorted.
    ///
    /// # Errors
    /// Where the archive cannot be read, or lacks one of them.
    pub fn closure(&self, client: &Client, names: &[&str]) -> Result<Vec<String>> {
        let status = std::fs::read_to_string(STATUS).unwrap_or_default();
        // Only libraries: a runtime of the stack's own must not be mixed with this one.
        let is_shared = |name: &&str| name.starts_with("lib") && !name.contains(self.family);
        let mut there: BTreeSet<&str> = installed(&status).filter(is_shared).collect();
        there.extend(BASE);
        self.closure_beside(self.index(client)?, names, &there)
    }

    fn closure_beside(
        &self,
        index: &BTreeMap<String, Package>,
        names: &[&str],
        there: &BTreeSet<&str>,
    ) -> Result<Vec<String>> {
        let mut found: BTreeSet<String> = BTreeSet::new();
        let mut waiting: Vec<Vec<String>> = names.iter().map(|&name| vec![name.to_owned()]).collect();
        while let Some(group) = waiting.pop() {
            let is_met = |name: &String| there.contains(name.as_str()) || found.contains(name);
            if group.iter().any(is_met) {
                continue;
            }
            let provider = |name: &String| {
                let is_provided = |package: &Package| package.provides.contains(name);
                index
                    .iter()
                    .find(|(_, package)| is_provided(package))
                    .map(|(name, _)| name)
            };
            let chosen = group.iter().find_map(|name| {
                index
                    .get_key_value(name)
                    .map(|(name, _)| name)
                    .or_else(|| provider(name))
            });
            let chosen = chosen.ok_or_else(|| self.lacks(&group.join(" or ")))?;
            if found.insert(chosen.clone()) {
                waiting.extend(index[chosen].depends.iter().cloned());
            }
            if found.len() > MOST {
                return Err(self.lacks("a set of packages of reasonable size"));
            }
        }
        Ok(found.into_iter().collect())
    }

    fn lacks(&self, what: &str) -> Failure {
        Failure::new(
            format!("the archive of Debian {} has no {what}", self.codename),
            format!(
                "The operator checks the mirror of staging ({SETTING}, {}).",
                mirror::SETTING
            ),
        )
    }

    /// Unpacks packages into `target`, as far as `place` takes their files.
    ///
    /// # Errors
    /// Where one cannot be had, or is not what the list says.
    pub fn unpack(
        &self,
        client: &Client,
        names: &[String],
        target: &Path,
        place: &dyn Fn(&Path) -> Option<PathBuf>,
    ) -> Result<()> {
        for name in names {
            let package = self.index(client)?.get(name).ok_or_else(|| self.lacks(name))?;
            let release = self.release(package)?;
            client.download(&release.url, &release.integrity, |reader| {
                archive::unpack_deb(reader, target, |path| place(&merged(path)))
            })?;
        }
        Ok(())
    }

    fn release(&self, package: &Package) -> Result<Release> {
        Ok(Release {
            version: package.upstream().to_owned(),
            url: package.url.clone(),
            integrity: Integrity::from_sha256_hex(&package.sha256).ok_or_else(|| self.lacks("digest of a package"))?,
            form: Form::Deb,
            root: Root::Strip(0),
        })
    }

    fn index(&self, client: &Client) -> Result<&BTreeMap<String, Package>> {
        if let Some(index) = self.index.get() {
            return Ok(index);
        }
        let mut index = BTreeMap::new();
        for (base, suite) in &self.places {
            let url = format!("{base}/dists/{suite}/InRelease");
            let release = client.get(&url, "*/*")?;
            let text = signed::verified(&String::from_utf8_lossy(&release.body), &url, &self.variables)?;
            // Archives have it in one of these, or both.
            let list = ["gz", "xz"].into_iter().find_map(|end| {
                let list = format!("main/binary-{}/Packages.{end}", architecture());
                let digest = Integrity::from_sha256_hex(&digest_of(&text, &list)?)?;
                Some((list, digest))
            });
            let (list, digest) = list.ok_or_else(|| self.lacks("list of packages with a digest"))?;
            let url = format!("{base}/dists/{suite}/{list}");
            client.download(&url, &digest, |reader| match list.ends_with(".gz") {
                true => read(
                    BufReader::new(flate2::read::GzDecoder::new(reader)).lines(),
                    base,
                    &mut index,
                ),
                false => read(
                    BufReader::new(lzma_rust2::XzReader::new(reader, true)).lines(),
                    base,
                    &mut index,
                ),
            })?;
        }
        Ok(self.index.get_or_init(|| index))
    }
}

impl Source for Debian {
    fn describe(&self) -> String {
        let base = self.places.first().map_or("", |(base, _)| base.as_str());
        format!("the packages of Debian {} at {base}", self.codename)
    }

    fn releases(&self, client: &Client) -> Result<Vec<Release>> {
        let found = self.index(client)?.iter().filter(|(name, _)| (self.is_runtime)(name));
        found.map(|(_, package)| self.release(package)).collect()
    }
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    }
}

/// `bookworm` of an `/etc/os-release` of Debian.
fn codename(text: &str) -> Option<String> {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.map(|value| value.trim_matches('"').to_owned())
    };
    let plain = |name: &String| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase());
    (field("ID")? == "debian")
        .then(|| field("VERSION_CODENAME"))
        .flatten()
        .filter(plain)
}

/// Names of the packages that `status` says are installed.
fn installed(status: &str) -> impl Iterator<Item = &str> {
    let stanzas = status.split("\n\n").filter(|stanza| stanza.contains("ok installed"));
    stanzas.filter_map(|stanza| stanza.lines().find_map(|line| line.strip_prefix("Package: ")))
}

/// The digest of `path` in a release file.
fn digest_of(release: &str, path: &str) -> Option<String> {
    let (_, sums) = release.split_once("\nSHA256:")?;
    let lines = sums.lines().skip(1).take_while(|line| line.starts_with(' '));
    let found = lines
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .find(|words| words.get(2) == Some(&path));
    found.map(|words| words[0].to_owned())
}

/// Adds the packages of a list; of two versions the newer stays.
fn read(
    lines: impl Iterator<Item = std::io::Result<String>>,
    base: &str,
    index: &mut BTreeMap<String, Package>,
) -> std::io::Result<()> {
    let (mut name, mut package) = (String::new(), Package::default());
    for line in lines.chain([Ok(String::new())]) {
        let line = line?;
        if line.is_empty() {
            let package = std::mem::take(&mut package);
            let name = std::mem::take(&mut name);
            let is_newer = index
                .get(&name)
                .is_none_or(|other| compare(&package.version, &other.version).is_gt());
            if !name.is_empty() && is_newer {
                index.insert(name, package);
            }
            continue;
        }
        let Some((field, value)) = line.split_once(": ") else {
            continue;
        };
        match field {
            "Package" => value.clone_into(&mut name),
            "Version" => value.clone_into(&mut package.version),
            "SHA256" => value.clone_into(&mut package.sha256),
            "Filename" => package.url = format!("{base}/{value}"),
            "Depends" | "Pre-Depends" => package.depends.extend(groups(value)),
            "Provides" => package.provides.extend(groups(value).into_iter().flatten()),
            _ => {}
        }
    }
    Ok(())
}

/// Names of a list of packages, without versions: alternatives stay together.
fn groups(value: &str) -> Vec<Vec<String>> {
    let name = |text: &str| text.trim().split([' ', ':', '(']).next().unwrap_or_default().to_owned();
    value
        .split(',')
        .map(|group| group.split('|').map(name).collect())
        .collect()
}

/// Older releases of Debian have libraries beside `/usr`, newer ones only below.
fn merged(path: &Path) -> PathBuf {
    let first = path.components().next().map(|part| part.as_os_str().to_owned());
    match first.as_deref().and_then(std::ffi::OsStr::to_str) {
        Some("lib" | "lib64" | "bin" | "sbin") => Path::new("usr").join(path),
        _ => path.to_owned(),
    }
}

/// Orders versions as Debian does: epoch, then runs of other characters and of digits in turn; `~` is before the end.
#[must_use]
pub fn compare(a: &str, b: &str) -> Ordering {
    let epoch = |text: &str| {
        let (epoch, rest) = text.split_once(':').unwrap_or(("0", text));
        (epoch.parse::<u64>().unwrap_or(0), rest.to_owned())
    };
    let ((epoch_a, a), (epoch_b, b)) = (epoch(a), epoch(b));
    epoch_a
        .cmp(&epoch_b)
        .then_with(|| compare_parts(a.as_bytes(), b.as_bytes()))
}

fn compare_parts(mut a: &[u8], mut b: &[u8]) -> Ordering {
    let weight = |byte: Option<&u8>| match byte {
        Some(b'~') => -1,
        Some(byte) if byte.is_ascii_digit() => 0,
        None => 0,
        Some(byte) if byte.is_ascii_alphabetic() => i32::from(*byte),
        Some(byte) => i32::from(*byte) + 256,
    };
    let is_other = |text: &[u8]| text.first().is_some_and(|byte| !byte.is_ascii_digit());
    while !a.is_empty() || !b.is_empty() {
        while is_other(a) || is_other(b) {
            match weight(a.first()).cmp(&weight(b.first())) {
                Ordering::Equal => (a, b) = (a.get(1..).unwrap_or(&[]), b.get(1..).unwrap_or(&[])),
                order => return order,
            }
        }
        let number = |text: &[u8]| -> (u64, usize) {
            let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let value = std::str::from_utf8(&text[..digits])
                .ok()
                .and_then(|text| text.parse().ok());
            (value.unwrap_or(0), digits)
        };
        let ((first, taken_a), (second, taken_b)) = (number(a), number(b));
        if first != second {
            return first.cmp(&second);
        }
        (a, b) = (&a[taken_a..], &b[taken_b..]);
    }
    Ordering::Equal
}

/// Where a file of a package goes in a layer that is to it what `/usr` is on a machine: programs and libraries then lie
/// where the contract has them. Only what is below one of `kept` and of none of `left_out` has a place.
#[must_use]
pub fn below_usr(path: &Path, kept: &[&str], left_out: &[&str]) -> Option<PathBuf> {
    let path = path.strip_prefix("usr").ok()?;
    let below = |folders: &[&str]| folders.iter().any(|folder| path.starts_with(folder));
    (below(kept) && !below(left_out)).then(|| path.to_owned())
}

#[cfg(test)]
#[path = "debian_tests.rs"]
mod tests;
