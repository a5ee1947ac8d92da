//! Where an image is: `[registry/]repository[:tag][@digest]`, as people write it for Docker.

use crate::Error;
use model::Digest;
use model::image::MAX_REFERENCE_BYTES;
use std::fmt;
use std::str::FromStr;

/// The registry of references that name none, its address, and where its own images are.
const DEFAULT_REGISTRY: &str = "docker.io";
const DEFAULT_ADDRESS: &str = "registry-1.docker.io";
const DEFAULT_FOLDER: &str = "library/";
/// Longest registry and repository together, as registries have it. With the longest tag and a digest that is less than a
/// reference may have, so what was read can be written out and read again.
const MAX_NAME_BYTES: usize = 255;
const _: () = assert!(MAX_NAME_BYTES + ":".len() + MAX_TAG_BYTES + "@sha256:".len() + 64 <= MAX_REFERENCE_BYTES);
/// Longest tag.
const MAX_TAG_BYTES: usize = 128;

/// A reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Host, with port where it has one.
    pub registry: String,
    /// Such as `team/shop`.
    pub repository: String,
    /// Such as `latest`.
    pub tag: Option<String>,
    /// Has precedence over the tag.
    pub digest: Option<Digest>,
}

impl Reference {
    /// Where the registry answers.
    #[must_use]
    pub fn address(&self) -> &str {
        match self.registry.as_str() {
            DEFAULT_REGISTRY => DEFAULT_ADDRESS,
            other => other,
        }
    }

    /// What its manifest is asked for by: the digest, or else the tag.
    #[must_use]
    pub fn version(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }

    /// The same image for ever, whatever becomes of the tag.
    #[must_use]
    pub fn pinned(&self, digest: Digest) -> Self {
        Self {
            digest: Some(digest),
            tag: None,
            ..self.clone()
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        parse(text).map_err(|reason| Error::Reference {
            text: text.chars().take(200).collect(),
            reason,
        })
    }
}

fn parse(text: &str) -> Result<Reference, &'static str> {
    if text.len() > MAX_REFERENCE_BYTES {
        return Err("it is too long");
    }
    let text = text.strip_prefix("docker://").unwrap_or(text);
    if text.contains("://") {
        return Err("it is written without a scheme");
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (
            rest,
            Some(digest.parse().map_err(|_| "what follows @ is no digest sha256:…")?),
        ),
        None => (text, None),
    };
    let (registry, rest) = match rest.split_once('/') {
        // A first part is a host where it could not be the name of a folder.
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => (host, rest),
        _ => (DEFAULT_REGISTRY, rest),
    };
    let (repository, tag) = match rest.split_once(':') {
        Some((repository, tag)) => (repository, Some(tag)),
        None => (rest, None),
    };
    if !is_host(registry) {
        return Err("its registry is no host");
    }
    if repository.is_empty() || !repository.split('/').all(is_part) {
        return Err("its repository has to consist of lower-case letters, digits and . _ - between slashes");
    }
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Err("its tag has to consist of letters, digits and . _ -");
    }
    let own = registry == DEFAULT_REGISTRY && !repository.contains('/');
    let folder = if own { DEFAULT_FOLDER } else { "" };
    if registry.len() + "/".len() + folder.len() + repository.len() > MAX_NAME_BYTES {
        return Err("its registry and repository are too long");
    }
    Ok(Reference {
        registry: registry.to_owned(),
        repository: format!("{folder}{repository}"),
        tag: tag
            .map(str::to_owned)
            .or_else(|| digest.is_none().then(|| "latest".to_owned())),
        digest,
    })
}

fn is_host(text: &str) -> bool {
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (text, None),
    };
    let label = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    !name.is_empty()
        && name.chars().all(label)
        && !name.starts_with(['.', '-'])
        && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// Letters and digits, and between them a dot, one or two underscores, or any number of dashes: the grammar of registries.
fn is_part(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let separates = |run: &str| matches!(run, "" | "." | "_" | "__") || run.chars().all(|c| c == '-');
    text.starts_with(plain) && text.ends_with(plain) && text.split(plain).all(separates)
}

fn is_tag(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !text.is_empty() && text.len() <= MAX_TAG_BYTES && text.chars().all(fits) && !text.starts_with(['.', '-'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_as_docker_reads_them() {
        let digest = crate::digest(b"x");
        let pinned = format!("localhost:5000/a/b@{digest}");
        let both = format!("registry.example.com/shop:1.2@{digest}");
        for (text, shown, version) in [
            ("busybox", "docker.io/library/busybox:latest", "latest"),
            ("team/shop:1", "docker.io/team/shop:1", "1"),
            ("docker://localhost/x", "localhost/x:latest", "latest"),
            ("10.0.0.1:5000/x:y", "10.0.0.1:5000/x:y", "y"),
            (&pinned, &pinned, &digest.to_string()),
            (&both, &both, &digest.to_string()),
        ] {
            let reference: Reference = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(
                (reference.to_string().as_str(), reference.version().as_str()),
                (shown, version)
            );
        }
        let default: Reference = "busybox".parse().expect("reads");
        assert_eq!(default.address(), "registry-1.docker.io");
        assert_eq!(
            default.pinned(digest.clone()).to_string(),
            format!("docker.io/library/busybox@{digest}")
        );
    }

    #[test]
    fn what_is_none_is_refused() {
        let (long, longer) = ("x".repeat(240), "x".repeat(600));
        for text in [
            "",
            "UPPER/case",
            "a b",
            "host.example/",
            "host.example:99999/x",
            "user:pw@host.example/x",
            "https://host.example/x",
            "x:",
            "x@sha256:1",
            "../../etc",
            "0..e",
            "a._b",
            "a//b",
            "host.example/x?y",
            "-host.example/x",
            &long,
            &longer,
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }
}
