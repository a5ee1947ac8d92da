//! The words for every [`Error`]: what failed, the likely cause, what to do, a code. Nothing else puts errors in words.

use super::{Deploy, Error, Exit, Refusal, Report, Staging};

/// Builds a report step by step.
struct Draft(Report);

impl Draft {
    fn new(code: &str, exit: Exit, message: impl Into<String>) -> Self {
        Self(Report {
            code: code.to_owned(),
            message: message.into(),
            cause: None,
            hint: None,
            retryable: false,
            request_id: None,
            evidence: Vec::new(),
            exit_code: exit as u8,
        })
    }

    fn cause(mut self, cause: impl Into<String>) -> Self {
        let cause = cause.into();
        self.0.cause = (!cause.is_empty()).then_some(cause);
        self
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        let hint = hint.into();
        self.0.hint = (!hint.is_empty()).then_some(hint);
        self
    }

    fn retryable(mut self) -> Self {
        self.0.retryable = true;
        self
    }
}

impl Error {
    /// What is shown of this error.
    pub fn report(&self) -> Report {
        self.session()
            .or_else(|| self.connection())
            .or_else(|| self.source_tree())
            .or_else(|| self.limits_and_manifest())
            .unwrap_or_else(|| self.operation())
            .0
    }

    fn session(&self) -> Option<Draft> {
        Some(match self {
            Self::Usage { message, hint } => {
                Draft::new("usage", Exit::Usage, message.clone()).hint(hint.clone().unwrap_or_default())
            }
            Self::NeedsInput { what, instead } => Draft::new(
                "input_needed",
                Exit::Usage,
                format!("{what}, and nobody can be asked here"),
            )
            .hint(instead.clone()),
            Self::Declined { what } => Draft::new("declined", Exit::Interrupted, format!("{what} was not confirmed"))
                .hint("nothing was changed; pass --yes to confirm beforehand"),
            Self::NotLoggedIn => Draft::new(
                "not_logged_in",
                Exit::Auth,
                "no platform is chosen: you are not logged in",
            )
            .hint("run `paas login https://api.example.com`, or start one on this machine with `paasd dev`"),
            Self::LoginRefused { api, detail } => {
                Draft::new("login_refused", Exit::Auth, format!("{api} refused the login"))
                    .cause(detail.clone())
                    .hint("check user name and password, then run `paas login` again")
            }
            Self::SessionEnded { api } => {
                Draft::new("session_ended", Exit::Auth, format!("the session with {api} has ended"))
                    .hint("run `paas login` again")
            }
            Self::NoOrg => Draft::new("no_org", Exit::Usage, "no organisation is targeted")
                .hint("run `paas orgs` to see them, then `paas target -o ORG -s SPACE`"),
            Self::NoSpace { org } => Draft::new(
                "no_space",
                Exit::Usage,
                format!("no space of organisation {org} is targeted"),
            )
            .hint("run `paas spaces` to see them, then `paas target -s SPACE`"),
            Self::NotFound {
                kind,
                name,
                place,
                similar,
            } => {
                let hint = match similar.as_slice() {
                    [] => format!("`paas {}` lists what there is", plural(kind)),
                    [one] => format!("did you mean {one}?"),
                    many => format!("did you mean one of {}?", many.join(", ")),
                };
                let place = if place.is_empty() {
                    String::new()
                } else {
                    format!(" in {place}")
                };
                Draft::new("not_found", Exit::NotFound, format!("there is no {kind} {name}{place}")).hint(hint)
            }
            Self::ConfigBroken { path, detail } => Draft::new(
                "config_broken",
                Exit::Usage,
                format!("can't use the configuration {}", path.display()),
            )
            .cause(detail.clone())
            .hint("correct it, or move it away and run `paas login` again"),
            _ => return None,
        })
    }

    fn connection(&self) -> Option<Draft> {
        Some(match self {
            Self::Refused(refusal) => refused(refusal),
            Self::Protocol { request, detail } => Draft::new(
                "bad_answer",
                Exit::Failed,
                format!("the answer to {request} can't be read"),
            )
            .cause(detail.clone())
            .hint("is this the API's address? `paas version` shows whether client and server fit"),
            Self::Unreachable { api, detail } => {
                Draft::new("unreachable", Exit::Unreachable, format!("can't reach {api}"))
                    .cause(detail.clone())
                    .hint("is it running, and is the address right? `paas doctor` looks into it")
                    .retryable()
            }
            Self::TimedOut { what, seconds, resume } => Draft::new(
                "timed_out",
                Exit::Unknown,
                format!("{what} took longer than {seconds} s; how it ends is not known"),
            )
            .hint(
                resume
                    .as_ref()
                    .map_or_else(String::new, |resume| format!("it may still go on: `{resume}`")),
            )
            .retryable(),
            Self::OutcomeUnknown { request, detail } => Draft::new(
                "outcome_unknown",
                Exit::Unknown,
                format!("the connection broke during {request}; whether it was carried out is not known"),
            )
            .cause(detail.clone())
            .hint("look at the present state, then try again")
            .retryable(),
            Self::Interrupted { resume } => Draft::new("interrupted", Exit::Interrupted, "interrupted").hint(
                resume
                    .as_ref()
                    .map_or_else(String::new, |resume| format!("go on watching with `{resume}`")),
            ),
            _ => return None,
        })
    }

    fn source_tree(&self) -> Option<Draft> {
        Some(match self {
            Self::File {
                operation,
                path,
                detail,
            } => Draft::new("file", Exit::Usage, format!("can't {operation} {}", path.display())).cause(detail.clone()),
            Self::NoSuchFolder { path } => Draft::new(
                "no_such_folder",
                Exit::Usage,
                format!("{} is not a folder", path.display()),
            )
            .hint("give the app's folder: `paas push ./my-app`; an app's name goes after -n"),
            Self::EmptyFolder { path, ignored } => {
                let draft = Draft::new(
                    "empty_folder",
                    Exit::Usage,
                    format!("there is nothing to push in {}", path.display()),
                );
                if *ignored == 0 {
                    draft
                        .cause("the folder is empty")
                        .hint("is it the right one? `paas push ./my-app`")
                } else {
                    draft
                        .cause(format!("all {ignored} entries are ignored"))
                        .hint("look into .cfignore and .paasignore")
                }
            }
            Self::LinkLeaves { path, target } => Draft::new(
                "link_leaves",
                Exit::Usage,
                format!(
                    "the symbolic link {} leads out of the app, to {}",
                    path.display(),
                    target.display()
                ),
            )
            .cause("what it points to would not be there on the platform")
            .hint("replace it by a copy or a relative link inside the app, or list it in .paasignore"),
            Self::SpecialFile { path, kind } => Draft::new(
                "special_file",
                Exit::Usage,
                format!("{} is a {kind}, which can't be pushed", path.display()),
            )
            .hint("remove it, or list it in .paasignore"),
            Self::NotUtf8 { path } => Draft::new("bad_name", Exit::Usage, format!("the file name {path} is not UTF-8"))
                .hint("rename the file, or list its folder in .paasignore"),
            _ => return None,
        })
    }

    fn limits_and_manifest(&self) -> Option<Draft> {
        Some(match self {
            Self::TooManyFiles { limit } => Draft::new(
                "too_many_files",
                Exit::Usage,
                format!("the app has more than {limit} files"),
            )
            .hint("list what the app does not need at run time in .paasignore"),
            Self::FileTooLarge { path, bytes, limit } => Draft::new(
                "file_too_large",
                Exit::Usage,
                format!("{} has {}, the limit is {}", path.display(), size(*bytes), size(*limit)),
            )
            .hint("list it in .paasignore, or keep it in a service instead"),
            Self::PackageTooLarge { bytes, limit } => Draft::new(
                "package_too_large",
                Exit::Usage,
                format!("the app has {}, the limit is {}", size(*bytes), size(*limit)),
            )
            .hint("list what the app does not need at run time in .paasignore"),
            Self::Changed { path } => Draft::new(
                "changed",
                Exit::Transient,
                format!("{} changed while it was pushed", path.display()),
            )
            .hint("push again once nothing writes to the folder")
            .retryable(),
            Self::Manifest { path, detail } => Draft::new(
                "manifest",
                Exit::Usage,
                format!("can't use the manifest {}", path.display()),
            )
            .cause(detail.clone()),
            Self::ManifestVars { path, missing } => Draft::new(
                "manifest_vars",
                Exit::Usage,
                format!(
                    "the manifest {} uses variables without a value: {}",
                    path.display(),
                    missing.join(", ")
                ),
            )
            .hint(format!(
                "pass --var {}=VALUE or --var-file FILE",
                missing.first().map_or("NAME", String::as_str)
            )),
            _ => return None,
        })
    }

    fn operation(&self) -> Draft {
        match self {
            Self::PackageFailed { app, detail } => Draft::new(
                "package_failed",
                Exit::Failed,
                format!("the upload of {app} can't be used"),
            )
            .cause(detail.clone()),
            Self::JobFailed { what, detail } => {
                Draft::new("job_failed", Exit::Failed, format!("{what} failed")).cause(detail.clone())
            }
            Self::StagingFailed(staging) => staging_failed(staging),
            Self::DeployFailed(deploy) => deploy_failed(deploy),
            Self::Superseded { app } => Draft::new(
                "superseded",
                Exit::Conflict,
                format!("a newer deployment of {app} took over from this one"),
            )
            .hint(format!("watch it with `paas deploy attach {app}`")),
            Self::NothingInFlight { app } => Draft::new(
                "nothing_in_flight",
                Exit::NotFound,
                format!("nothing is being deployed for {app}"),
            )
            .hint(format!(
                "`paas app {app}` shows its state, `paas events {app}` what happened"
            )),
            Self::InstancesFailed { app, cause } => Draft::new(
                "instances_failed",
                Exit::Failed,
                format!("not all instances of {app} came up"),
            )
            .cause(cause.clone())
            .hint(format!(
                "`paas why {app}` says why, `paas logs {app} --recent` what they wrote"
            )),
            Self::TaskFailed { app, sequence, reason } => {
                Draft::new("task_failed", Exit::Failed, format!("task {sequence} of {app} failed"))
                    .cause(reason.clone())
                    .hint(format!(
                        "`paas logs {app} --recent --source APP/TASK` shows what it wrote"
                    ))
            }
            Self::ExecFailed { detail } => {
                Draft::new("exec_failed", Exit::Failed, "the command could not be run").cause(detail.clone())
            }
            Self::Unwell { failed } => Draft::new("unwell", Exit::Failed, format!("{failed} checks failed")),
            other => Draft::new("internal", Exit::Failed, format!("{other:?}")),
        }
    }
}

fn refused(refusal: &Refusal) -> Draft {
    let exit = exit_of(refusal);
    let message = if refusal.code == 0 {
        format!("{} was answered with status {}", refusal.request, refusal.status)
    } else {
        refusal.detail.clone()
    };
    let code = if refusal.code == 0 {
        format!("http_{}", refusal.status)
    } else {
        refusal.title.clone()
    };
    let mut draft = Draft::new(&code, exit, message);
    draft.0.request_id.clone_from(&refusal.request_id);
    draft.0.retryable = exit == Exit::Transient;
    if refusal.code == 0 {
        draft = draft.cause(refusal.detail.clone());
    }
    let hint = refusal.hint.clone().unwrap_or_else(|| match exit {
        Exit::Auth if refusal.status == 401 => "run `paas login` again".into(),
        Exit::Auth => "ask a manager of the space for a role that allows it".into(),
        Exit::Transient => "try again in a moment".into(),
        _ => String::new(),
    });
    draft.hint(hint)
}

fn exit_of(refusal: &Refusal) -> Exit {
    let taken = refusal.title == "CF-UniquenessError"
        || refusal.detail.contains("already exists")
        || refusal.detail.contains("must be unique");
    match refusal.status {
        401 | 403 => Exit::Auth,
        404 => Exit::NotFound,
        409 => Exit::Conflict,
        422 if taken => Exit::Conflict,
        400..=499 if refusal.status != 429 => Exit::Usage,
        429 | 502..=504 => Exit::Transient,
        _ => Exit::Failed,
    }
}

fn staging_failed(staging: &Staging) -> Draft {
    let title = if staging.title.is_empty() {
        "staging failed"
    } else {
        &staging.title
    };
    let hint = match (staging.remedy.as_str(), staging.class.as_str()) {
        ("", "NoAppDetectedError") => "name a buildpack with -b, or check that you push the right folder".into(),
        ("", _) => format!(
            "the staging log above shows where; again with `paas logs {} --recent`",
            staging.app
        ),
        (remedy, _) => remedy.to_owned(),
    };
    Draft::new(
        &staging.class,
        Exit::Failed,
        format!("{} was not staged: {title}", staging.app),
    )
    .cause(staging.cause.clone())
    .hint(hint)
}

fn deploy_failed(deploy: &Deploy) -> Draft {
    let serving = if deploy.previous_serves {
        "the version before goes on serving"
    } else {
        "no earlier version serves; the platform goes on trying"
    };
    let mut draft = Draft::new(
        "deploy_failed",
        Exit::Failed,
        format!("the deployment of {} failed; {serving}", deploy.app),
    )
    .cause(deploy.cause.clone())
    .hint(remedy(&deploy.cause, &deploy.app));
    draft.0.evidence.clone_from(&deploy.log_tail);
    draft
}

/// What to do about a cause that the platform named in one of its fixed forms.
fn remedy(cause: &str, app: &str) -> String {
    let lower = cause.to_ascii_lowercase();
    if lower.contains("out of memory") {
        format!(
            "give it more memory, for example `paas push -m 512M`, or find what takes it: `paas logs {app} --recent`"
        )
    } else if lower.contains("health check") {
        "the app must listen on 0.0.0.0 at the port in $PORT within the start timeout; -t SECONDS allows it longer, \
         `health-check-type: process` in the manifest is for apps that don't listen"
            .into()
    } else if lower.contains("exited with status") {
        format!("the app ended by itself: see `paas logs {app} --recent`, and the start command in `paas app {app}`")
    } else {
        format!("`paas why {app}` says more; `paas logs {app} --recent` shows what it wrote")
    }
}

fn plural(kind: &str) -> String {
    match kind {
        "organisation" => "orgs".into(),
        "domain" => "routes".into(),
        "cell" => "admin cells".into(),
        other => format!("{other}s"),
    }
}

/// Bytes for people.
fn size(bytes: u64) -> String {
    crate::ui::format::bytes(bytes)
}
