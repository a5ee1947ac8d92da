//! Releases laid out as Node.js itself publishes them: for operators who mirror that instead of a package registry.
//!
//! `<base>/index.json`, `<base>/v1.2.3/SHASUMS256.txt` and `<base>/v1.2.3/node-v1.2.3-linux-x64.tar.gz`, npm included.

use buildpack_kit::archive::unpack_tgz;
use buildpack_kit::http::{Client, Integrity};
use buildpack_kit::{Failure, Result, Variables};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// What stands for the version of npm: the one that comes along.
pub const BUNDLED: &str = "bundled";

/// A mirror.
#[derive(Debug)]
pub struct Dist {
    client: Client,
    base: String,
}

#[derive(Deserialize)]
struct Release {
    version: String,
}

impl Dist {
    /// The mirror that `BP_NODE_MIRROR` names, if it does.
    ///
    /// # Errors
    /// Where the certificate bundle cannot be read.
    pub fn configured(variables: &Variables) -> Result<Option<Self>> {
        let Some(base) = variables.get("BP_NODE_MIRROR") else {
            return Ok(None);
        };
        Ok(Some(Self {
            client: Client::new(variables)?,
            base: base.trim_end_matches('/').to_owned(),
        }))
    }

    /// All versions it has.
    ///
    /// # Errors
    /// Where it cannot be reached.
    pub fn versions(&self) -> Result<Vec<String>> {
        let url = format!("{}/index.json", self.base);
        let answer = self.client.get(&url, "application/json")?;
        let releases: Vec<Release> =
            serde_json::from_slice(&answer.body).map_err(|error| self.unusable(&format!("{url}: {error}")))?;
        Ok(releases
            .into_iter()
            .map(|release| release.version.trim_start_matches('v').to_owned())
            .collect())
    }

    /// Unpacks `version` into `target`.
    ///
    /// # Errors
    /// Where it cannot be had, or is not what the checksums say.
    pub fn unpack(&self, version: &str, target: &Path, place: impl Fn(&Path) -> Option<PathBuf>) -> Result<()> {
        let arch = if std::env::consts::ARCH == "aarch64" {
            "arm64"
        } else {
            "x64"
        };
        let name = format!("node-v{version}-linux-{arch}.tar.gz");
        let folder = format!("{}/v{version}", self.base);
        let sums = self
            .client
            .get(&format!("{folder}/SHASUMS256.txt"), "text/plain, */*")?;
        let sums = String::from_utf8_lossy(&sums.body).into_owned();
        let sum = sums.lines().find_map(|line| {
            let (sum, file) = line.split_once(char::is_whitespace)?;
            (file.trim() == name).then_some(sum)
        });
        let integrity = sum.and_then(Integrity::from_sha256_hex);
        let integrity = integrity.ok_or_else(|| self.unusable(&format!("SHASUMS256.txt has no {name}")))?;
        self.client.download(&format!("{folder}/{name}"), &integrity, |reader| {
            unpack_tgz(reader, target, &place)
        })
    }

    fn unusable(&self, what: &str) -> Failure {
        Failure::new(
            format!(
                "the mirror of Node.js at {} is not laid out as expected: {what}",
                self.base
            ),
            "The operator checks the mirror setting of staging (BP_NODE_MIRROR).",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};

    /// Serves `files` by path until the test ends.
    fn server(files: Vec<(String, Vec<u8>)>) -> String {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}/dist", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut head = [0; 2048];
                let read = stream.read(&mut head).unwrap();
                let head = String::from_utf8_lossy(&head[..read]).into_owned();
                let path = head.split(' ').nth(1).unwrap_or_default();
                let found = files.iter().find(|(name, _)| path == format!("/dist/{name}"));
                let (status, body) = found.map_or(("404 Not Found", &[][..]), |(_, body)| ("200 OK", body));
                let length = body.len();
                write!(
                    stream,
                    "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
                )
                .unwrap();
                stream.write_all(body).unwrap();
            }
        });
        base
    }

    fn release(folder: &Path) -> Vec<u8> {
        for file in ["bin/node", "lib/node_modules/npm/bin/npm-cli.js", "share/doc/node.md"] {
            let path = folder.join("node").join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, file).unwrap();
        }
        let tar = std::process::Command::new("tar")
            .arg("-C")
            .arg(folder)
            .args(["-czf", "-", "node"])
            .output()
            .unwrap();
        tar.stdout
    }

    #[test]
    fn a_release_is_found_verified_and_unpacked() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = release(folder.path());
        let arch = if std::env::consts::ARCH == "aarch64" {
            "arm64"
        } else {
            "x64"
        };
        let name = format!("node-v22.1.0-linux-{arch}.tar.gz");
        std::fs::write(folder.path().join(&name), &bytes).unwrap();
        let sum = std::process::Command::new("sha256sum")
            .arg(&name)
            .current_dir(folder.path())
            .output()
            .unwrap();
        let serve = |sums: Vec<u8>| {
            let index = br#"[{"version":"v22.1.0","lts":false},{"version":"v20.2.0"}]"#.to_vec();
            let files = [
                ("index.json".to_owned(), index),
                ("v22.1.0/SHASUMS256.txt".to_owned(), sums),
            ];
            let base = server(
                files
                    .into_iter()
                    .chain([(format!("v22.1.0/{name}"), bytes.clone())])
                    .collect(),
            );
            Dist::configured(&Variables([("BP_NODE_MIRROR".into(), base.into())].into()))
                .unwrap()
                .unwrap()
        };
        let mirror = serve(sum.stdout);
        assert_eq!(mirror.versions().unwrap(), ["22.1.0", "20.2.0"]);
        let target = folder.path().join("target");
        mirror
            .unpack("22.1.0", &target, |path| {
                path.starts_with("bin").then(|| path.to_owned())
            })
            .unwrap();
        assert!(target.join("bin/node").is_file() && !target.join("share").exists());
        let other = serve(format!("{}  {name}\n", "0".repeat(64)).into_bytes());
        let failure = other.unpack("22.1.0", &target, |_| None).unwrap_err();
        assert!(failure.cause.contains("not the one"), "{failure:?}");
        assert!(serve(Vec::new()).unpack("22.1.0", &target, |_| None).is_err());
    }
}
