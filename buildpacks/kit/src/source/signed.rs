//! Who signed a release file of a Debian archive. The verifier is the distribution's own, `gpgv` or `sqv`, which every
//! stack made of its packages has; the keys are those of `debian-archive-keyring`, or of a file that the operator names.
//!
//! Only the text between the marks is handed on: what stands before or after it was not signed.

use crate::source::mirror;
use crate::{Failure, Result, Variables};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Names a file of keys to trust instead of the distribution's.
pub const SETTING: &str = "BP_DEBIAN_KEYRING";
/// Where the distribution keeps the keys of its archive.
const KEYRINGS: &[&str] = &[
    "/usr/share/keyrings/debian-archive-keyring.gpg",
    "/usr/share/keyrings/debian-archive-keyring.pgp",
];
/// Beside an archive in the mirror folder.
const KEYRING_OF_FOLDER: &str = "debian/archive-keyring.gpg";
const VERIFIERS: &[&str] = &["/usr/bin/gpgv", "/usr/bin/sqv"];
const BEGIN: &str = "-----BEGIN PGP SIGNED MESSAGE-----";
const SIGNATURE: &str = "-----BEGIN PGP SIGNATURE-----";
const END: &str = "-----END PGP SIGNATURE-----";

/// A text and its signature.
#[derive(Debug, PartialEq, Eq)]
struct Parts {
    text: String,
    signature: String,
}

/// The signed text of a release file that came from `url`.
///
/// A folder of the operator's own may hold one that nobody signed: who can change that folder can change the keys, too.
///
/// # Errors
/// Where it is not signed, the keys or the verifier are missing, or the signature is not of one of the keys.
pub fn verified(release: &str, url: &str, variables: &Variables) -> Result<String> {
    let Some(parts) = split(release) else {
        if crate::http::local(url).is_some() && !release.contains("-----BEGIN PGP") {
            return Ok(release.to_owned());
        }
        return Err(Failure::new(
            format!("the release file {url} is not signed"),
            "The operator checks the mirror of staging; a mirror passes on InRelease as Debian signed it.",
        ));
    };
    let keys = keyring(variables)?;
    let verifier = VERIFIERS.iter().map(Path::new).find(|path| path.is_file());
    let verifier = verifier.ok_or_else(|| {
        Failure::new(
            "the stack has neither gpgv nor sqv, so that nobody can tell who signed its packages",
            "The operator adds the package gpgv to the stack.",
        )
    })?;
    check(verifier, &keys, &parts, url)?;
    Ok(parts.text)
}

/// The keys to trust, by what was configured, else the distribution's.
fn keyring(variables: &Variables) -> Result<PathBuf> {
    let named = variables.get(SETTING).map(PathBuf::from);
    let of_folder = variables
        .get(mirror::SETTING)
        .filter(|base| base.starts_with('/'))
        .map(|base| Path::new(base).join(KEYRING_OF_FOLDER))
        .filter(|path| path.is_file());
    let found = named
        .or(of_folder)
        .or_else(|| KEYRINGS.iter().map(PathBuf::from).find(|path| path.is_file()));
    match found {
        Some(path) if path.is_file() => Ok(path),
        Some(path) => Err(Failure::new(
            format!("the file of trusted keys {} ({SETTING}) is not there", path.display()),
            "The operator corrects the setting: it names a file that builds can see.",
        )),
        None => Err(Failure::new(
            "the stack does not have the keys of Debian's archive",
            format!(
                "The operator adds the package debian-archive-keyring to the stack, or names a file of keys in {SETTING}."
            ),
        )),
    }
}

/// Both parts of a signed text, each line as it was signed; `None` where it is not exactly that.
fn split(release: &str) -> Option<Parts> {
    let (head, rest) = release.strip_prefix(BEGIN)?.split_once("\n\n")?;
    let is_header = |line: &str| line.is_empty() || line.starts_with("Hash: ");
    if !head.lines().all(is_header) {
        return None;
    }
    let (text, signature) = rest.split_once(&format!("\n{SIGNATURE}\n"))?;
    let (signature, after) = signature.split_once(END)?;
    if !after.trim().is_empty() || text.contains(BEGIN) || signature.contains("-----BEGIN") {
        return None;
    }
    let plain = |line: &str| line.strip_prefix("- ").unwrap_or(line).trim_end().to_owned();
    Some(Parts {
        text: text.lines().map(plain).collect::<Vec<_>>().join("\n"),
        signature: format!("{SIGNATURE}\n{signature}{END}\n"),
    })
}

fn check(verifier: &Path, keys: &Path, parts: &Parts, url: &str) -> Result<()> {
    let write = |content: &str| {
        let mut file = tempfile::NamedTempFile::new()?;
        file.write_all(content.as_bytes())?;
        Ok(file)
    };
    let failed = |error: std::io::Error| {
        Failure::new(
            format!("the signature of {url} could not be checked: {error}"),
            "Try again; if it persists, raise the staging disk limit.",
        )
    };
    let (text, signature) = (
        write(&parts.text).map_err(failed)?,
        write(&parts.signature).map_err(failed)?,
    );
    let mut command = Command::new(verifier);
    let is_gpgv = verifier.ends_with("gpgv");
    if is_gpgv {
        command.args(["--quiet", "--status-fd", "1"]);
    }
    command
        .arg("--keyring")
        .arg(keys)
        .arg(signature.path())
        .arg(text.path());
    let output = command.env("LC_ALL", "C").output().map_err(failed)?;
    let said = String::from_utf8_lossy(&output.stdout);
    // Archives are signed by several keys, of which an older stack does not know all: one is enough, and none may be bad.
    let has = |word: &str| said.lines().any(|line| line.starts_with(&format!("[GNUPG:] {word} ")));
    let good = match is_gpgv {
        true => has("GOODSIG") && has("VALIDSIG") && !has("BADSIG"),
        false => output.status.success(),
    };
    if good {
        return Ok(());
    }
    let why = match (has("BADSIG"), has("NO_PUBKEY"), has("EXPKEYSIG")) {
        (true, ..) => "it was changed after it was signed",
        (_, true, _) => "the key that signed it is not among those that are trusted",
        (.., true) => "the key that signed it has expired",
        _ => "no signature of a trusted key is on it",
    };
    Err(Failure::new(
        format!(
            "the release file {url} is not to be trusted: {why} ({})",
            keys.display()
        ),
        format!(
            "The operator checks the mirror of staging, and the keys: a newer debian-archive-keyring in the stack, or {SETTING}."
        ),
    ))
}

#[cfg(test)]
#[path = "signed_tests.rs"]
mod tests;
