//! The runtime's command line: the words of `runc`, as far as they name what this runtime does.

use std::io::{self, Write};
use std::os::fd::{AsFd, RawFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::State;

use super::error::{Context, Error, Result};
use super::lifecycle::{Containers, Creation};
use super::{config, descriptors, more, run, state, template};
use crate::sys;

/// How it is used.
pub const USAGE: &str = "\
usage: paas-init [--root DIR] [--log FILE] COMMAND

  create  [-b DIR] [--pid-file FILE] [--console-socket SOCKET] [--preserve-fds N] [--no-pivot] ID
  start   ID
  run     [-b DIR] [-d] [--keep] [--pid-file FILE] [--console-socket SOCKET] [--preserve-fds N] ID
  state   ID
  kill    [-a] ID [SIGNAL]
  delete  [-f] ID
  exec    [-d] [-t] [-e NAME=VALUE] [--cwd DIR] [-u UID[:GID]] [-g GID] [-c CAPABILITY] [--no-new-privs]
          [-p FILE] [--pid-file FILE] [--console-socket SOCKET] [--preserve-fds N] ID [PROGRAM ARGUMENT...]
  pause   ID
  resume  ID
  ps      [-f table|json] ID
  update  [-r FILE] [--memory BYTES] [--memory-swap BYTES] [--memory-reservation BYTES] [--cpu-quota US]
          [--cpu-period US] [--cpu-share N] [--cpuset-cpus LIST] [--cpuset-mems LIST] [--pids-limit N] ID
  list    [-q] [-f table|json]
  features
  spec    [-b DIR]
  spawner (started by the cell agent)
";

/// What went wrong, and the code to end with.
#[derive(Debug)]
pub struct Failed {
    /// For people.
    pub text: String,
    /// 64 for wrong usage, else 1.
    pub code: u8,
}

/// Words that make no sense.
pub(super) fn usage(text: impl std::fmt::Display) -> Failed {
    Failed {
        text: format!("{text}\n{USAGE}"),
        code: 64,
    }
}

/// Words of one command: options with and without a value, and what is left.
pub(super) struct Words {
    options: Vec<(String, Option<String>)>,
    /// What is left.
    pub rest: Vec<String>,
}

impl Words {
    /// Takes `words` apart; `valued` options have a value, `plain` ones none.
    pub fn parse(words: &[String], valued: &[&str], plain: &[&str]) -> std::result::Result<Words, Failed> {
        Words::take(words, valued, plain, usize::MAX)
    }

    /// The same, but from the `most`th word that is no option on nothing is one.
    pub fn take(words: &[String], valued: &[&str], plain: &[&str], most: usize) -> std::result::Result<Words, Failed> {
        let mut all = Words {
            options: Vec::new(),
            rest: Vec::new(),
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if all.rest.len() >= most {
                all.rest.push(word.clone());
            } else if word == "--" {
                all.rest.extend(words.by_ref().cloned());
            } else if !word.starts_with('-') || word == "-" || is_number(word) {
                all.rest.push(word.clone());
            } else {
                let (name, value) = match word.split_once('=') {
                    Some((name, value)) => (name, Some(value.to_owned())),
                    None => (word.as_str(), None),
                };
                let name = name.trim_start_matches('-').to_owned();
                let value = match (valued.contains(&name.as_str()), value) {
                    (true, Some(value)) => Some(value),
                    (true, None) => Some(
                        words
                            .next()
                            .cloned()
                            .ok_or_else(|| usage(format!("{word} needs a value")))?,
                    ),
                    (false, None) if plain.contains(&name.as_str()) => None,
                    (false, _) => return Err(usage(format!("unknown option {word}"))),
                };
                all.options.push((name, value));
            }
        }
        Ok(all)
    }

    /// Whether one of these was given.
    pub fn has(&self, names: &[&str]) -> bool {
        self.options.iter().any(|(name, _)| names.contains(&name.as_str()))
    }

    /// All values of an option.
    pub fn values(&self, names: &[&str]) -> Vec<&str> {
        let all = self.options.iter().filter(|(name, _)| names.contains(&name.as_str()));
        all.filter_map(|(_, value)| value.as_deref()).collect()
    }

    /// The last value of an option.
    pub fn value(&self, names: &[&str]) -> Option<&str> {
        let found = self
            .options
            .iter()
            .rev()
            .find(|(name, _)| names.contains(&name.as_str()));
        found.and_then(|(_, value)| value.as_deref())
    }

    /// Descriptors that are passed on.
    pub fn preserved(&self) -> std::result::Result<Vec<RawFd>, Failed> {
        let count = self.value(&["preserve-fds"]).map_or(Ok(0), str::parse::<u32>);
        let count = count.ok().filter(|count| *count <= 1024);
        let count = count.ok_or_else(|| usage("--preserve-fds takes a number up to 1024"))?;
        descriptors::given(count).at("hold", "descriptors").map_err(told)
    }

    /// The container's name, alone.
    pub fn id(&self) -> std::result::Result<&str, Failed> {
        match self.rest.as_slice() {
            [id] => Ok(id),
            [] => Err(usage("the container's name is missing")),
            [_, other, ..] => Err(usage(format!("unexpected argument {other:?}"))),
        }
    }
}

/// Signals may be numbers with a dash.
fn is_number(word: &str) -> bool {
    word.len() > 1 && word[1..].bytes().all(|b| b.is_ascii_digit())
}

/// Carries out the command line `words` (without the program's name); returns the code to end with.
pub fn execute(words: &[String]) -> std::result::Result<u8, Failed> {
    let valued = ["root", "log", "log-format", "rootless"];
    let at = command_at(words, &valued);
    let global = Words::parse(&words[..at], &valued, &["debug", "version", "v", "help", "h"])?;
    if global.has(&["help", "h"]) {
        return Ok(say(USAGE.as_bytes()));
    }
    if global.has(&["version", "v"]) {
        return Ok(say(
            format!("paas-init {}\nspec: 1.1.0\n", env!("CARGO_PKG_VERSION")).as_bytes()
        ));
    }
    let Some((command, rest)) = words[at..].split_first() else {
        return Err(usage("a command is missing"));
    };
    let root = global
        .value(&["root"])
        .map_or_else(|| PathBuf::from(state::ROOT), PathBuf::from);
    // What the caller left open is nothing of ours but what it says to pass on.
    let _ = sys::cloexec_from(3);
    let done = dispatch(command, rest, &Containers::at(root));
    done.inspect_err(|failed| {
        if let Some(path) = global.value(&["log"]) {
            log(Path::new(path), &failed.text);
        }
    })
}

/// Where the command stands: the first word that is neither an option nor an option's value.
fn command_at(words: &[String], valued: &[&str]) -> usize {
    let mut at = 0;
    while let Some(word) = words.get(at).filter(|word| word.starts_with('-')) {
        let takes_next = !word.contains('=') && valued.contains(&word.trim_start_matches('-'));
        at += if takes_next { 2 } else { 1 };
    }
    at.min(words.len())
}

fn dispatch(command: &str, words: &[String], containers: &Containers) -> std::result::Result<u8, Failed> {
    match command {
        "create" => {
            let wanted = creation(words, &[])?;
            let made = containers
                .create(&wanted.0)
                .and_then(|terminal| without_terminal(containers, &wanted.0, terminal));
            finish(made)
        }
        "run" => {
            let (wanted, words) = creation(words, &["d", "detach", "keep"])?;
            let (detach, keep) = (words.has(&["d", "detach"]), words.has(&["keep"]));
            let code = run::run(containers, &wanted, detach, keep).map_err(told)?;
            Ok(u8::try_from(code).unwrap_or(1))
        }
        "start" => finish(containers.start(Words::parse(words, &[], &[])?.id()?)),
        "state" => more::state(words, containers),
        "exec" => more::exec(words, containers),
        "pause" | "resume" => more::freeze(words, containers, command == "pause"),
        "ps" => more::ps(words, containers),
        "update" => more::update(words, containers),
        "features" => Ok(say(&pretty(&super::features::features()))),
        "kill" => kill(words, containers),
        "delete" => {
            let words = Words::parse(words, &[], &["f", "force"])?;
            finish(containers.delete(words.id()?, words.has(&["f", "force"])))
        }
        "list" => list(&Words::parse(words, &["f", "format"], &["q", "quiet"])?, containers),
        "spec" => {
            let words = Words::parse(words, &["b", "bundle"], &[])?;
            finish(write_template(Path::new(words.value(&["b", "bundle"]).unwrap_or("."))))
        }
        other => Err(usage(format!("unknown command {other:?}"))),
    }
}

fn creation(words: &[String], plain: &[&str]) -> std::result::Result<(Creation, Words), Failed> {
    let valued = ["b", "bundle", "pid-file", "console-socket", "preserve-fds"];
    let plain: Vec<&str> = plain.iter().copied().chain(["no-pivot", "no-new-keyring"]).collect();
    let words = Words::parse(words, &valued, &plain)?;
    if words.has(&["no-new-keyring"]) {
        return Err(usage("--no-new-keyring is not supported"));
    }
    let wanted = Creation {
        id: words.id()?.to_owned(),
        bundle: words.value(&["b", "bundle"]).unwrap_or(".").into(),
        pid_file: words.value(&["pid-file"]).map(PathBuf::from),
        console_socket: words.value(&["console-socket"]).map(PathBuf::from),
        preserve_fds: words.preserved()?,
        no_pivot: words.has(&["no-pivot"]),
    };
    Ok((wanted, words))
}

/// `create` leaves; somebody has to hold the terminal.
fn without_terminal(containers: &Containers, wanted: &Creation, terminal: Option<std::os::fd::OwnedFd>) -> Result<()> {
    if terminal.is_none() {
        return Ok(());
    }
    let _ = containers.delete(&wanted.id, true);
    let what = "a container with a terminal needs --console-socket".to_owned();
    Err(Error::Unsupported { what })
}

fn kill(words: &[String], containers: &Containers) -> std::result::Result<u8, Failed> {
    let words = Words::parse(words, &["s", "signal"], &["a", "all"])?;
    let (id, named) = match words.rest.as_slice() {
        [id] => (id, None),
        [id, signal] => (id, Some(signal.as_str())),
        _ => return Err(usage("kill takes a container's name and a signal")),
    };
    let name = named.or(words.value(&["s", "signal"])).unwrap_or("TERM");
    let signal = signal(name).ok_or_else(|| usage(format!("{name:?} is not a signal")))?;
    finish(containers.kill(id, signal, words.has(&["a", "all"])))
}

/// A signal by number or name, with or without `SIG`.
fn signal(text: &str) -> Option<i32> {
    let text = text.trim_start_matches('-').to_ascii_uppercase();
    if let Ok(number) = text.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let name = if text.starts_with("SIG") {
        text
    } else {
        format!("SIG{text}")
    };
    name.parse::<nix::sys::signal::Signal>()
        .ok()
        .map(|signal| signal as i32)
}

fn list(words: &Words, containers: &Containers) -> std::result::Result<u8, Failed> {
    let all = containers.list().map_err(told)?;
    let states: Vec<State> = all.iter().map(|record| record.state(record.status())).collect();
    if words.has(&["q", "quiet"]) {
        let names: String = all.iter().map(|record| format!("{}\n", record.id)).collect();
        return Ok(say(names.as_bytes()));
    }
    match words.value(&["f", "format"]) {
        Some("json") => Ok(say(&pretty(&states))),
        None | Some("table") => {
            let mut table = format!("{:<24} {:>8} {:<9} BUNDLE\n", "ID", "PID", "STATUS");
            for state in &states {
                let pid = state.pid().unwrap_or(0);
                let (id, status) = (state.id(), state.status().to_string());
                table += &format!("{id:<24} {pid:>8} {status:<9} {}\n", state.bundle().display());
            }
            Ok(say(table.as_bytes()))
        }
        Some(other) => Err(usage(format!("unknown format {other:?}"))),
    }
}

/// Never over one that is there.
fn write_template(bundle: &Path) -> Result<()> {
    let path = bundle.join(config::FILE);
    let spec = template::template().at("make", &path)?;
    let mut file = std::fs::File::options()
        .write(true)
        .create_new(true)
        .open(&path)
        .at("create", &path)?;
    serde_json::to_writer_pretty(&mut file, &spec).at("write", &path)?;
    file.write_all(b"\n").at("write", path)
}

/// Readable JSON.
pub(super) fn pretty<T: serde::Serialize>(value: &T) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(value).unwrap_or_default();
    text.push(b'\n');
    text
}

/// Nobody to hear it is no failure of the operation.
pub(super) fn say(bytes: &[u8]) -> u8 {
    let mut rest = bytes;
    while !rest.is_empty() {
        match rustix::io::write(io::stdout().as_fd(), rest) {
            Ok(length) => rest = &rest[length..],
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return 1,
        }
    }
    0
}

/// Nothing to be said, or why not.
pub(super) fn finish(done: Result<()>) -> std::result::Result<u8, Failed> {
    done.map(|()| 0).map_err(told)
}

/// An error with its causes.
pub(super) fn told(error: Error) -> Failed {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    Failed { text, code: 1 }
}

/// One line, as those who start runtimes read it.
fn log(path: &Path, text: &str) {
    let line = serde_json::json!({ "level": "error", "msg": text, "time": sys::now_ns() / 1_000_000_000 });
    if let Ok(mut file) = std::fs::File::options().create(true).append(true).open(path) {
        let _ = writeln!(file, "{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn options_are_taken_wherever_they_stand() {
        let (wanted, rest) = creation(&words("--bundle=/b -d --pid-file /p name --preserve-fds 0"), &["d"]).unwrap();
        assert_eq!((wanted.id.as_str(), wanted.bundle.to_str()), ("name", Some("/b")));
        assert_eq!(wanted.pid_file.as_deref(), Some(Path::new("/p")));
        assert!(rest.has(&["d"]) && wanted.preserve_fds.is_empty());
        for wrong in [
            "",
            "a b",
            "--unknown a",
            "a --bundle",
            "a --preserve-fds x",
            "a --no-new-keyring",
            "a --pid-file",
        ] {
            assert_eq!(
                creation(&words(wrong), &[]).map(|_| ()).unwrap_err().code,
                64,
                "{wrong}"
            );
        }
    }

    #[test]
    fn the_command_is_found_behind_options() {
        assert_eq!(command_at(&words("--root /r --log=/l create x"), &["root", "log"]), 3);
        assert_eq!(command_at(&words("--root"), &["root"]), 1);
        assert_eq!(
            execute(&words("--root /nonexistent/r frobnicate")).unwrap_err().code,
            64
        );
        assert_eq!(
            execute(&words("--root /nonexistent/r state nobody")).unwrap_err().code,
            1
        );
        assert_eq!(execute(&words("--root /nonexistent/r state")).unwrap_err().code, 64);
    }

    #[test]
    fn signals_have_names_and_numbers() {
        assert_eq!(signal("KILL"), Some(9));
        assert_eq!(signal("SIGusr1"), Some(10));
        assert_eq!(signal("-15"), Some(15));
        assert_eq!(signal("0"), None);
        assert_eq!(signal("NOPE"), None);
    }
}
