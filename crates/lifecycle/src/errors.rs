//! Everything that can go wrong, as data, and the one place with the words that the person who pushed reads.
//!
//! Classes and exit codes are Cloud Foundry's, so that clients made for it understand them.

use model::staging::{BuildFailure, FailureClass};
use std::path::PathBuf;

/// What failed. `Display` is for logs; [`Error::explain`] is for people.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The input of the build cannot be used.
    #[error("read build input {}", path.display())]
    Input {
        /// Where it was expected.
        path: PathBuf,
        /// Why it cannot be used.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file operation of the lifecycle itself failed.
    #[error("{operation} {}", path.display())]
    File {
        /// Such as `create folder`.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A buildpack breaks its contract before it could run.
    #[error("buildpack {buildpack} cannot be used: {reason}")]
    Buildpack {
        /// Name that users know.
        buildpack: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A buildpack could not be had from where it is said to be.
    #[error("get buildpack {buildpack}: {reason}")]
    Source {
        /// Name or URL, as the user wrote it.
        buildpack: String,
        /// Why.
        reason: String,
    },
    /// Classic buildpacks that do not work in the order given.
    #[error("buildpack {buildpack} cannot be used here: {reason}")]
    Chain {
        /// Name that users know.
        buildpack: String,
        /// The script that it lacks.
        script: &'static str,
        /// Why that matters.
        reason: String,
    },
    /// The image that the app is cannot be had.
    #[error("get image {reference}")]
    Image {
        /// As the user wrote it.
        reference: String,
        /// Why.
        #[source]
        source: Box<image::Error>,
    },
    /// A layer of the image is not what it has to be.
    #[error("take layer {digest} of image {reference}")]
    ImageLayer {
        /// As the user wrote it.
        reference: String,
        /// Of the uncompressed archive.
        digest: model::Digest,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// No group of buildpacks matched.
    #[error("no buildpack matched")]
    NotDetected {
        /// Each buildpack with what it looked for.
        tried: Vec<(String, String)>,
        /// Whether the app's folder is empty.
        empty: bool,
    },
    /// Nothing matched, and some buildpack failed rather than declined.
    #[error("detection failed in {buildpack}: {reason}")]
    DetectFailed {
        /// Name that users know.
        buildpack: String,
        /// How it ended, with its last words.
        reason: String,
    },
    /// A buildpack's build failed.
    #[error("{script} of {buildpack} failed with {status}")]
    BuildFailed {
        /// Name that users know.
        buildpack: String,
        /// Its program: `build`, or one of the classic contract.
        script: &'static str,
        /// Such as `exit code 1`.
        status: String,
        /// The end of its output.
        tail: Vec<String>,
    },
    /// A buildpack left files that are not what its contract says.
    #[error("buildpack {buildpack} wrote an invalid {file}: {reason}")]
    Contract {
        /// Name that users know.
        buildpack: String,
        /// Such as `launch.toml`.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The build used up its disk.
    #[error("the disk of {size_mb} MiB is full")]
    DiskFull {
        /// Of the sandbox.
        size_mb: u64,
        /// What failed for it.
        #[source]
        source: Box<Error>,
    },
    /// The app's Procfile cannot be read.
    #[error("invalid Procfile: {reason}")]
    Procfile {
        /// What is wrong with it.
        reason: String,
    },
    /// Neither droplet nor user say what to start.
    #[error("no start command specified or detected in droplet")]
    NoStartCommand {
        /// The type asked for.
        process: String,
        /// Types that the droplet has.
        known: Vec<String>,
    },
    /// The droplet's launch metadata cannot be read.
    #[error("read launch metadata: {reason}")]
    Metadata {
        /// What is wrong with it.
        reason: String,
    },
    /// A program that sets up the environment failed.
    #[error("exec.d program {} failed: {reason}", program.display())]
    ExecD {
        /// Which one.
        program: PathBuf,
        /// How.
        reason: String,
    },
    /// The start command could not be executed.
    #[error("start {command:?}")]
    Exec {
        /// First word of the command.
        command: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    /// For mapping an I/O error of `operation` on `path`.
    pub fn file(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File {
            operation,
            path,
            source,
        }
    }

    /// Exit code of the program: CF's staging classes, then those of launching.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Input { .. }
            | Self::File { .. }
            | Self::Metadata { .. }
            | Self::Buildpack { .. }
            | Self::Image { .. }
            | Self::ImageLayer { .. }
            | Self::Source { .. } => 231,
            Self::NotDetected { .. } | Self::DetectFailed { .. } => 222,
            Self::BuildFailed { script, .. } | Self::Chain { script, .. } => match *script {
                "release" => 224,
                "supply" => 225,
                "finalize" => 226,
                _ => 223,
            },
            Self::DiskFull { source, .. } => source.exit_code(),
            Self::Contract { .. } => 234,
            Self::Procfile { .. } => 224,
            Self::NoStartCommand { .. } => 1,
            Self::ExecD { .. } => 236,
            // As shells say it: not found, or found and not executable.
            Self::Exec { source, .. } if source.kind() == std::io::ErrorKind::NotFound => 127,
            Self::Exec { .. } => 126,
        }
    }

    /// Whether a buildpack that failed said last that there was no room on its disk.
    #[must_use]
    pub fn tells_of_full_disk(&self) -> bool {
        matches!(self, Self::BuildFailed { tail, .. } if tail.iter().any(|line| crate::disk::is_told(line)))
    }

    /// The failure in the words of result.json.
    #[must_use]
    pub fn explain(&self) -> BuildFailure {
        let (class, title, cause, remedy) = match self {
            Self::NotDetected { tried, empty } => not_detected(tried, *empty),
            Self::BuildFailed {
                buildpack,
                script,
                status,
                tail,
            } => build_failed(buildpack, script, status, tail),
            Self::Image { reference, source } => image_failed(reference, chain(source.as_ref()), image_remedy(source)),
            Self::ImageLayer { reference, .. } => image_failed(
                reference,
                chain(self),
                "Try again; if it persists, the registry keeps other bytes than its manifest names: push the image to it \
                 again.",
            ),
            _ => self.explain_rest(),
        };
        BuildFailure {
            class,
            title,
            cause,
            remedy,
        }
    }

    fn explain_rest(&self) -> Words {
        let (class, title, cause, remedy) = match self {
            Self::DetectFailed { buildpack, reason } => (
                FailureClass::NoAppDetectedError,
                format!("Detection failed in {buildpack}"),
                reason.clone(),
                "Repair what it names, or choose the buildpack by name (-b, or buildpacks: in the manifest).",
            ),
            Self::Buildpack { buildpack, reason } => (
                FailureClass::StagingError,
                format!("Buildpack {buildpack} cannot be used"),
                reason.clone(),
                "Use a buildpack that follows the Cloud Native Buildpacks contract, Buildpack API 0.7 to 0.12.",
            ),
            Self::Source { buildpack, reason } => (
                FailureClass::StagingError,
                format!("Buildpack {buildpack} could not be had"),
                reason.clone(),
                "See whether it is there, is an archive of a buildpack, and has the digest that you name; builds reach \
                 what the operator's network rules for staging allow.",
            ),
            Self::DiskFull { size_mb, source } => (
                FailureClass::StagingError,
                "The build ran out of disk".to_owned(),
                format!("What it needs does not fit into the {size_mb} MiB that it may use: {source}"),
                "Push less, build less, or give builds more disk (`paas push --staging-disk 8G`, staging_disk_in_mb).",
            ),
            Self::Chain { buildpack, reason, .. } => (
                FailureClass::BuildpackCompileFailed,
                format!("Buildpack {buildpack} cannot be used here"),
                reason.clone(),
                "Put the buildpack that builds the app last, and those that only supply dependencies before it.",
            ),
            Self::Contract {
                buildpack,
                file,
                reason,
            } => (
                FailureClass::BuildpackCompileFailed,
                format!("Buildpack {buildpack} wrote an invalid {file}"),
                reason.clone(),
                "This is a fault of the buildpack: report it to its maintainers, or pin an earlier version of it.",
            ),
            Self::Procfile { reason } => (
                FailureClass::BuildpackReleaseFailed,
                "The Procfile cannot be read".to_owned(),
                reason.clone(),
                "Write one process per line as `type: command`, for example `web: node server.js`.",
            ),
            Self::Input { .. } | Self::File { .. } => (
                FailureClass::StagingError,
                "The build could not be carried out".to_owned(),
                chain(self),
                "Try again; if it persists, the operator finds the cause in the log of the cell. \
                 Is a disk limit named above, push less or raise the staging disk.",
            ),
            _ => (
                FailureClass::StagingError,
                "The build failed".to_owned(),
                chain(self),
                "Try again; if it persists, ask the operator.",
            ),
        };
        (class, title, cause, remedy.to_owned())
    }
}

fn image_failed(reference: &str, cause: String, remedy: &str) -> Words {
    let title = format!("Image {reference} could not be had");
    (FailureClass::StagingError, title, cause, remedy.to_owned())
}

/// What to do about an image that cannot be had.
fn image_remedy(error: &image::Error) -> &'static str {
    match error {
        image::Error::Reference { .. } => "Name it as registry/repository:tag, or by its digest behind an @.",
        image::Error::NotFound { .. } => {
            "See whether repository and tag are spelt right. Some registries say so too of what they do not want to show: \
             then give credentials."
        }
        image::Error::Unauthorized { given: false, .. } => {
            "Give credentials that may read it: --docker-username, and the password in CF_DOCKER_PASSWORD."
        }
        image::Error::Unauthorized { .. } => "See whether name and password are right and may read this repository.",
        image::Error::NoPlatform { .. } => "Push an image that was built for this platform.",
        image::Error::Unreachable { .. } => {
            "Builds reach what the operator's network rules for staging allow; see whether the registry is among it, and \
             speaks TLS."
        }
        _ => "Build and push the image again with a current tool.",
    }
}

type Words = (FailureClass, String, String, String);

fn not_detected(tried: &[(String, String)], empty: bool) -> Words {
    let class = FailureClass::NoAppDetectedError;
    if empty {
        return (
            class,
            "The app is empty".to_owned(),
            "The package that was pushed holds no files.".to_owned(),
            "Push the folder that holds your app, and see whether an ignore file excludes everything.".to_owned(),
        );
    }
    let mut cause = "None of the buildpacks detected a compatible application:".to_owned();
    for (buildpack, reason) in tried {
        cause.push_str(&format!("\n{buildpack}: {reason}"));
    }
    (
        class,
        "No buildpack matches this app".to_owned(),
        cause,
        "Push the folder that holds the app's own files; add one of the files above; add a Procfile \
         with `web: COMMAND`; or choose a buildpack by name (-b, or buildpacks: in the manifest)."
            .to_owned(),
    )
}

/// Buildpacks say the cause in lines that begin with ` !`; where they do not, the last lines are the best evidence.
fn build_failed(buildpack: &str, script: &str, status: &str, tail: &[String]) -> Words {
    let alerts: Vec<&str> = tail
        .iter()
        .filter_map(|line| line.trim_start().strip_prefix('!'))
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let (cause, remedy): (Vec<&str>, Vec<&str>) = if alerts.is_empty() {
        let last = tail.iter().map(|line| line.trim()).filter(|line| !line.is_empty());
        let last: Vec<&str> = last.collect();
        (last[last.len().saturating_sub(8)..].to_vec(), Vec::new())
    } else {
        // The convention of our own buildpacks: what to do is introduced by this word.
        let split = alerts.iter().position(|line| line.starts_with("Remedy:"));
        let (cause, remedy) = alerts.split_at(split.unwrap_or(alerts.len()));
        (cause.to_vec(), remedy.to_vec())
    };
    let remedy = remedy.join("\n");
    let remedy = match remedy.trim_start_matches("Remedy:").trim() {
        "" => "Repair what the output above names, and push again.".to_owned(),
        remedy => remedy.to_owned(),
    };
    let cause = if cause.is_empty() {
        format!("It ended with {status} and said nothing. Signal 9 most often means that its memory was not enough.")
    } else {
        cause.join("\n")
    };
    let (class, what) = match script {
        "release" => (FailureClass::BuildpackReleaseFailed, "release"),
        _ => (FailureClass::BuildpackCompileFailed, script),
    };
    (
        class,
        format!("The {what} of {buildpack} failed ({status})"),
        cause,
        remedy,
    )
}

/// The error and everything behind it, on one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(tail: &[&str]) -> BuildFailure {
        Error::BuildFailed {
            buildpack: "nodejs_buildpack".to_owned(),
            script: "build",
            status: "exit code 1".to_owned(),
            tail: tail.iter().map(|line| (*line).to_owned()).collect(),
        }
        .explain()
    }

    #[test]
    fn the_buildpack_s_own_words_are_the_cause() {
        let failure = failed(&[
            "       npm error code EUSAGE",
            " !     package.json and package-lock.json disagree",
            " !     Remedy: run `npm install`",
            " !     and commit the lock file",
        ]);
        assert_eq!(failure.title, "The build of nodejs_buildpack failed (exit code 1)");
        assert_eq!(failure.cause, "package.json and package-lock.json disagree");
        assert_eq!(failure.remedy, "run `npm install`\nand commit the lock file");
    }

    #[test]
    fn without_them_the_last_lines_are() {
        assert_eq!(failed(&["a", "", "  b"]).cause, "a\nb");
        assert!(failed(&[]).cause.contains("said nothing"));
        assert!(!failed(&[]).remedy.is_empty());
    }

    #[test]
    fn an_undetected_app_lists_what_was_looked_for() {
        let error = Error::NotDetected {
            tried: vec![("nodejs_buildpack".to_owned(), "no package.json".to_owned())],
            empty: false,
        };
        let failure = error.explain();
        assert_eq!(failure.class, FailureClass::NoAppDetectedError);
        assert!(failure.cause.ends_with("nodejs_buildpack: no package.json"));
        assert!(failure.remedy.contains("Procfile"));
        assert_eq!(error.exit_code(), 222);
    }

    #[test]
    fn every_failure_has_a_title_a_cause_and_a_remedy() {
        let io = || std::io::Error::from(std::io::ErrorKind::StorageFull);
        for error in [
            Error::file("create folder", "/layers")(io()),
            Error::Procfile {
                reason: "invalid YAML".to_owned(),
            },
            Error::Contract {
                buildpack: "a".to_owned(),
                file: "launch.toml".to_owned(),
                reason: "two defaults".to_owned(),
            },
            Error::NotDetected {
                tried: Vec::new(),
                empty: true,
            },
            Error::NoStartCommand {
                process: "web".to_owned(),
                known: Vec::new(),
            },
        ] {
            let failure = error.explain();
            assert!(!failure.title.is_empty() && !failure.cause.is_empty() && !failure.remedy.is_empty());
        }
    }
}
