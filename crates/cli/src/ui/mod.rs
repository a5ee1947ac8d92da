//! The only module that prints. Results go to standard output; progress, hints, warnings and errors to standard error.
//!
//! Knows terminals, colours, `--json`, `-q`, `-v`; knows nothing of apps. Text that others wrote passes
//! [`format::harmless`] before it reaches a terminal.

pub mod format;
mod progress;
pub mod table;
mod tail;
pub mod waterfall;

pub use progress::Phase;
pub use tail::LogLines;

use crate::errors::{Error, Report};
use format::Style;
use indicatif::ProgressBar;
use serde::Serialize;
use std::io::{BufRead as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use table::Table;

/// How often a wait is mentioned at most where nothing else is printed.
pub const HEARTBEAT: Duration = Duration::from_secs(5);

/// How things are shown.
#[derive(Debug, Clone, Default)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is one switch of the command line or one fact about a stream"
)]
pub struct Settings {
    pub json: bool,
    pub quiet: bool,
    pub verbose: bool,
    pub trace: bool,
    pub color: bool,
    pub stdin_tty: bool,
    pub stdout_tty: bool,
    pub stderr_tty: bool,
    pub yes: bool,
    pub no_input: bool,
    /// Colours also where there is no terminal.
    pub color_forced: bool,
}

/// The terminal, or what stands in for it. Cheap to clone.
#[derive(Clone)]
pub struct Ui(Arc<Inner>);

struct Inner {
    settings: Settings,
    /// The one active bar or spinner, on a terminal.
    bar: Mutex<Option<ProgressBar>>,
    /// Whether the reader of standard output went away.
    closed: AtomicBool,
    /// When standard error last got a line.
    last_line: Mutex<Instant>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ui {
    /// With these settings.
    pub fn new(settings: Settings) -> Self {
        Self(Arc::new(Inner {
            settings,
            bar: Mutex::new(None),
            last_line: Mutex::new(Instant::now()),
            closed: AtomicBool::new(false),
        }))
    }

    /// How things are shown.
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// Whether results are documents.
    pub fn json(&self) -> bool {
        self.0.settings.json
    }

    /// Whether progress is shown at all.
    fn talks(&self) -> bool {
        !self.0.settings.quiet && !self.0.settings.json
    }

    /// Whether standard error can be redrawn.
    fn live(&self) -> bool {
        self.talks() && self.0.settings.stderr_tty
    }

    fn colors(&self, terminal: bool) -> bool {
        self.0.settings.color && (terminal || self.0.settings.color_forced)
    }

    /// `text` in `style`, where standard error has colours.
    pub fn paint(&self, style: Style, text: &str) -> String {
        style.paint(self.colors(self.0.settings.stderr_tty), text)
    }

    /// `text` in `style`, where standard output has colours.
    pub fn paint_out(&self, style: Style, text: &str) -> String {
        style.paint(self.colors(self.0.settings.stdout_tty), text)
    }

    /// Runs `write` with no bar in the way. A reader that went away is no error of ours.
    fn without_bar(&self, write: impl FnOnce()) {
        let bar = lock(&self.0.bar).clone();
        match bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    fn to_stderr(&self, line: &str) {
        *lock(&self.0.last_line) = Instant::now();
        self.without_bar(|| {
            let _ = writeln!(std::io::stderr().lock(), "{line}");
        });
    }

    fn to_stdout(&self, text: &str) {
        self.without_bar(|| {
            let mut stdout = std::io::stdout().lock();
            if stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).is_err() {
                self.0.closed.store(true, Ordering::Relaxed);
            }
        });
    }

    /// Whether nobody reads the results any more: a stream of them may end.
    pub fn closed(&self) -> bool {
        self.0.closed.load(Ordering::Relaxed)
    }

    /// A line of progress. Where standard error is no terminal it carries the time of day.
    pub fn say(&self, text: &str) {
        if self.talks() {
            if self.0.settings.stderr_tty {
                self.to_stderr(text);
            } else {
                self.to_stderr(&format!("{} {text}", format::clock(time::OffsetDateTime::now_utc())));
            }
        }
    }

    /// A line of progress without the time of day, such as a line of a build's output.
    pub fn say_plain(&self, text: &str) {
        if self.talks() {
            self.to_stderr(text);
        }
    }

    /// What the command is about to do.
    pub fn doing(&self, text: &str) {
        self.say(&format!("{text} ..."));
    }

    /// A line for `-v`.
    pub fn detail(&self, text: &str) {
        if self.0.settings.verbose {
            self.say(&self.paint(Style::Dim, text));
        }
    }

    /// Something that is not right but does not stop the command.
    pub fn warn(&self, text: &str) {
        if !self.0.settings.json {
            self.to_stderr(&format!("{} {text}", self.paint(Style::Yellow, "warning:")));
        }
    }

    /// What may be done next.
    pub fn tip(&self, text: &str) {
        if self.talks() {
            self.to_stderr(&self.paint(Style::Dim, text));
        }
    }

    /// A line of `--trace`; secrets are masked by the caller.
    pub fn trace(&self, text: &str) {
        if self.0.settings.trace {
            self.to_stderr(text);
        }
    }

    /// Result text, as it is.
    pub fn out(&self, text: &str) {
        self.to_stdout(text);
    }

    /// A result line.
    pub fn out_line(&self, text: &str) {
        self.to_stdout(&format!("{text}\n"));
    }

    /// The result as one document, where `--json` was given: indented for a person, else one line.
    pub fn document<T: Serialize>(&self, value: &T) {
        let text = if self.0.settings.stdout_tty {
            serde_json::to_string_pretty(value)
        } else {
            serde_json::to_string(value)
        };
        match text {
            Ok(text) => self.out_line(&text),
            Err(error) => self.warn(&format!("the result can't be written as JSON: {error}")),
        }
    }

    /// One record of a stream of results, always one line.
    pub fn record<T: Serialize>(&self, value: &T) {
        if let Ok(text) = serde_json::to_string(value) {
            self.out_line(&text);
        }
    }

    /// A table as the result; `empty` is said on standard error where it has no rows.
    pub fn table(&self, table: &Table, empty: &str, header: bool) {
        if table.is_empty() {
            self.say_plain(empty);
        } else {
            self.out(&table.render(header, None));
        }
    }

    /// Takes a bar or spinner off the terminal.
    pub fn clear(&self) {
        if let Some(bar) = lock(&self.0.bar).take() {
            bar.finish_and_clear();
        }
    }

    /// What the parser of arguments says of a mistake.
    pub fn usage_text(&self, text: &str) {
        self.to_stderr(text.trim_end());
    }

    /// The error that ends the command.
    pub fn error(&self, error: &Error) {
        self.report(&error.report());
    }

    /// As [`Self::error`], from its report.
    pub fn report(&self, report: &Report) {
        self.clear();
        if self.json() {
            if let Ok(text) = serde_json::to_string(report) {
                self.to_stderr(&text);
            }
            return;
        }
        self.to_stderr(&self.report_text(report));
    }

    fn report_text(&self, report: &Report) -> String {
        let mut text = self.paint(Style::Red, "error:");
        for (number, line) in report.message.lines().enumerate() {
            text.push_str(if number == 0 { " " } else { "\n       " });
            text.push_str(&format::harmless(line));
        }
        for line in &report.evidence {
            text.push_str(&format!(
                "\n    {} {}",
                self.paint(Style::Dim, "|"),
                format::harmless(line)
            ));
        }
        let mut part = |label: &str, value: Option<&str>| {
            if let Some(value) = value {
                let mut lines = value.lines();
                text.push_str(&format!(
                    "\n  {label:<6} {}",
                    format::harmless(lines.next().unwrap_or_default())
                ));
                for line in lines {
                    text.push_str(&format!("\n         {}", format::harmless(line)));
                }
            }
        };
        part("cause:", report.cause.as_deref());
        part("do:", report.hint.as_deref());
        part("code:", Some(&report.code));
        part("id:", report.request_id.as_deref());
        text
    }

    /// Asks for a line of text.
    ///
    /// # Errors
    /// Where nobody can be asked; `instead` says how to give it beforehand.
    pub async fn ask(&self, question: &str, instead: &str) -> Result<String, Error> {
        self.may_ask(question, instead)?;
        let _ = write!(std::io::stderr().lock(), "{question}: ");
        read_line().await
    }

    /// Asks for a secret without showing it, or reads it from standard input where that is no terminal.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub async fn ask_secret(&self, question: &str, instead: &str) -> Result<model::Secret, Error> {
        if !self.0.settings.stdin_tty {
            return read_line().await.map(model::Secret::new);
        }
        self.may_ask(question, instead)?;
        // Before the question: who answers fast is not to be seen either.
        let quiet = crate::terminal::NoEcho::new();
        let _ = write!(std::io::stderr().lock(), "{question}: ");
        let line = read_line().await;
        drop(quiet);
        let _ = writeln!(std::io::stderr().lock());
        line.map(model::Secret::new)
    }

    /// Asks for `name` to be typed before something is destroyed. `--yes` answers beforehand.
    ///
    /// # Errors
    /// Where the answer is another, or nobody can be asked.
    pub async fn confirm(&self, what: &str, name: &str) -> Result<(), Error> {
        if self.0.settings.yes {
            return Ok(());
        }
        let answer = self
            .ask(&format!("{what}. Type {name} to confirm"), "pass --yes")
            .await?;
        if answer == name {
            Ok(())
        } else {
            Err(Error::Declined { what: what.to_owned() })
        }
    }

    /// Asks a question that is answered by yes or no; no where nobody can be asked.
    pub async fn agrees(&self, question: &str) -> bool {
        self.ask(&format!("{question} [y/N]"), "")
            .await
            .is_ok_and(|answer| answer.eq_ignore_ascii_case("y"))
    }

    fn may_ask(&self, question: &str, instead: &str) -> Result<(), Error> {
        if self.0.settings.no_input || !self.0.settings.stdin_tty {
            return Err(Error::NeedsInput {
                what: question.to_owned(),
                instead: instead.to_owned(),
            });
        }
        Ok(())
    }
}

/// Bytes of a remote command, as they are, to standard output or standard error.
pub fn raw_out(err: bool, data: &[u8]) {
    if err {
        let _ = std::io::stderr().lock().write_all(data);
    } else {
        let mut stdout = std::io::stdout().lock();
        let _ = stdout.write_all(data).and_then(|()| stdout.flush());
    }
}

/// One line of standard input without its end; at most 64 KiB. Beside the runtime, so that an interrupt is still heard.
async fn read_line() -> Result<String, Error> {
    use std::io::Read as _;
    let read = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        let mut input = std::io::BufReader::new(std::io::stdin().lock().take(64 * 1024));
        input.read_line(&mut line).map(|_| line)
    });
    let line = read.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    let line = line.map_err(|error| Error::file("read", "standard input", &error))?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_reads_as_what_why_what_to_do_and_a_code() {
        let ui = Ui::new(Settings::default());
        let report = Report {
            code: "BuildpackCompileFailed".into(),
            message: "shop was not staged: npm ci failed\nand more".into(),
            cause: Some("package-lock.json does not fit package.json\nmissing: express".into()),
            hint: Some("run npm install and push again".into()),
            retryable: false,
            request_id: Some("r-7".into()),
            evidence: vec!["npm ERR! \u{1b}[31mmissing".into()],
            exit_code: 1,
        };
        insta::assert_snapshot!(ui.report_text(&report), @r"
        error: shop was not staged: npm ci failed
               and more
            | npm ERR! [31mmissing
          cause: package-lock.json does not fit package.json
                 missing: express
          do:    run npm install and push again
          code:  BuildpackCompileFailed
          id:    r-7
        ");
    }

    #[tokio::test]
    async fn nobody_is_asked_where_nobody_is() {
        let ui = Ui::new(Settings::default());
        assert!(matches!(
            ui.confirm("this deletes x", "x").await,
            Err(Error::NeedsInput { .. })
        ));
        let ui = Ui::new(Settings {
            yes: true,
            ..Settings::default()
        });
        assert_eq!(ui.confirm("this deletes x", "x").await, Ok(()));
    }
}
