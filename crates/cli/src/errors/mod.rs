//! Everything that can go wrong, as data. The words for it are in [`prose`]; this file holds no sentence for people.

mod prose;

use serde::Serialize;
use std::path::PathBuf;

/// Exit codes, as `paas --help` documents them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// The deploy or the app failed.
    Failed = 1,
    /// What was asked makes no sense as it is: arguments, manifest, input.
    Usage = 2,
    /// Not logged in, or not allowed.
    Auth = 3,
    /// No such thing.
    NotFound = 4,
    /// Something else is in the way.
    Conflict = 5,
    /// A deadline passed; what came of it is not known.
    Unknown = 6,
    /// The server can't be reached.
    Unreachable = 7,
    /// Passing trouble: the same again may succeed.
    Transient = 75,
    /// Interrupted by the user.
    Interrupted = 130,
}

/// What the server said when it refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// CF's number, 0 where the answer was not in CF's form.
    pub code: u32,
    /// CF's title.
    pub title: String,
    /// What is wrong.
    pub detail: String,
    /// What the server suggests.
    pub hint: Option<String>,
    /// To find the request in the server's log.
    pub request_id: Option<String>,
    /// Method and path.
    pub request: String,
}

/// How a staging failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staging {
    pub app: String,
    /// CF's class, such as `BuildpackCompileFailed`.
    pub class: String,
    pub title: String,
    pub cause: String,
    pub remedy: String,
}

/// How a deployment failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deploy {
    pub app: String,
    /// What the platform gave as the cause.
    pub cause: String,
    /// Whether an earlier version goes on serving.
    pub previous_serves: bool,
    /// Last lines of the new instances.
    pub log_tail: Vec<String>,
}

/// Everything that can go wrong. Variants carry what their words need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// An argument that parses but makes no sense.
    Usage {
        message: String,
        hint: Option<String>,
    },
    /// A question would have to be asked and may not be.
    NeedsInput {
        what: String,
        instead: String,
    },
    /// The user said no.
    Declined {
        what: String,
    },
    NotLoggedIn,
    /// The credentials were refused.
    LoginRefused {
        api: String,
        detail: String,
    },
    /// The session ended and could not be renewed.
    SessionEnded {
        api: String,
    },
    NoOrg,
    NoSpace {
        org: String,
    },
    NotFound {
        kind: &'static str,
        name: String,
        place: String,
        similar: Vec<String>,
    },
    Refused(Box<Refusal>),
    /// An answer that this program does not understand.
    Protocol {
        request: String,
        detail: String,
    },
    Unreachable {
        api: String,
        detail: String,
    },
    /// A deadline passed. `resume` says how to go on.
    TimedOut {
        what: String,
        seconds: u64,
        resume: Option<String>,
    },
    /// The connection broke in a request that may or may not have been carried out.
    OutcomeUnknown {
        request: String,
        detail: String,
    },
    Interrupted {
        resume: Option<String>,
    },
    /// A file operation on this machine failed.
    File {
        operation: &'static str,
        path: PathBuf,
        detail: String,
    },
    ConfigBroken {
        path: PathBuf,
        detail: String,
    },
    /// The folder to push is not there or is no folder.
    NoSuchFolder {
        path: PathBuf,
    },
    EmptyFolder {
        path: PathBuf,
        ignored: usize,
    },
    LinkLeaves {
        path: PathBuf,
        target: PathBuf,
    },
    SpecialFile {
        path: PathBuf,
        kind: &'static str,
    },
    NotUtf8 {
        path: String,
    },
    TooManyFiles {
        limit: usize,
    },
    FileTooLarge {
        path: PathBuf,
        bytes: u64,
        limit: u64,
    },
    PackageTooLarge {
        bytes: u64,
        limit: u64,
    },
    Changed {
        path: PathBuf,
    },
    Manifest {
        path: PathBuf,
        detail: String,
    },
    ManifestVars {
        path: PathBuf,
        missing: Vec<String>,
    },
    /// The server could not use what was uploaded.
    PackageFailed {
        app: String,
        detail: String,
    },
    JobFailed {
        what: String,
        detail: String,
    },
    StagingFailed(Box<Staging>),
    DeployFailed(Box<Deploy>),
    Superseded {
        app: String,
    },
    NothingInFlight {
        app: String,
    },
    /// An instance did not come up although the request was accepted.
    InstancesFailed {
        app: String,
        cause: String,
    },
    /// A task ran and failed.
    TaskFailed {
        app: String,
        sequence: u32,
        reason: String,
    },
    /// A command inside the app could not be run.
    ExecFailed {
        detail: String,
    },
    /// `paas doctor` found something.
    Unwell {
        failed: usize,
    },
}

impl Error {
    /// A usage error without further hint.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::Usage {
            message: message.into(),
            hint: None,
        }
    }

    /// A failed file operation.
    pub fn file(operation: &'static str, path: impl Into<PathBuf>, error: &std::io::Error) -> Self {
        Self::File {
            operation,
            path: path.into(),
            detail: error.to_string(),
        }
    }

    /// Whether asking again on a new connection may help: the server is away or busy.
    pub fn is_away(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::OutcomeUnknown { .. } => true,
            Self::Refused(refusal) => matches!(refusal.status, 502..=504),
            _ => false,
        }
    }

    /// Whether the server says that there is no such resource.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::NotFound { .. }) || matches!(self, Self::Refused(refusal) if refusal.status == 404)
    }
}

/// The error document: what `--json` prints on standard error, and what the text form is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// For programs; stable.
    pub code: String,
    /// What failed.
    pub message: String,
    /// The likely cause from the evidence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Whether the same again may succeed.
    pub retryable: bool,
    /// To find the request in the server's log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Further lines of evidence, such as the end of a log.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
    /// How the program ends.
    pub exit_code: u8,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, title: &str, detail: &str) -> Error {
        Error::Refused(Box::new(Refusal {
            status,
            code: 1,
            title: title.into(),
            detail: detail.into(),
            hint: None,
            request_id: Some("r-1".into()),
            request: "GET /v3/apps".into(),
        }))
    }

    #[test]
    fn statuses_become_exit_codes() {
        for (status, title, exit) in [
            (400, "CF-BadQueryParameter", 2),
            (401, "CF-InvalidAuthToken", 3),
            (403, "CF-NotAuthorized", 3),
            (404, "CF-ResourceNotFound", 4),
            (409, "CF-Conflict", 5),
            (413, "CF-PayloadTooLarge", 2),
            (422, "CF-UnprocessableEntity", 2),
            (422, "CF-UniquenessError", 5),
            (429, "CF-RateLimitExceeded", 75),
            (500, "UnknownError", 1),
            (501, "CF-NotImplemented", 1),
            (503, "CF-ServiceUnavailable", 75),
        ] {
            assert_eq!(refused(status, title, "x").report().exit_code, exit, "{status} {title}");
        }
        assert_eq!(
            refused(422, "CF-UnprocessableEntity", "Route already exists")
                .report()
                .exit_code,
            5
        );
    }

    #[test]
    fn transient_errors_are_retryable_and_say_so() {
        assert!(refused(503, "CF-ServiceUnavailable", "x").report().retryable);
        assert!(!refused(422, "CF-UnprocessableEntity", "x").report().retryable);
        assert!(
            Error::Unreachable {
                api: "http://a".into(),
                detail: "refused".into()
            }
            .report()
            .retryable
        );
    }

    #[test]
    fn every_report_has_a_code_and_reads_alone() {
        let all = [
            Error::NotLoggedIn,
            Error::NoOrg,
            Error::EmptyFolder {
                path: "app".into(),
                ignored: 2,
            },
            Error::LinkLeaves {
                path: "a".into(),
                target: "/etc/passwd".into(),
            },
            Error::SpecialFile {
                path: "s".into(),
                kind: "socket",
            },
            Error::Superseded { app: "a".into() },
            Error::Interrupted {
                resume: Some("paas deploy attach a".into()),
            },
        ];
        insta::assert_json_snapshot!(all.iter().map(Error::report).collect::<Vec<_>>());
    }
}
