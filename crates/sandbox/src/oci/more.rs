//! Commands on containers that run: further processes, a pause, other limits. The specification knows none of them;
//! their words are those of `runc`.

use std::io::Read;
use std::path::PathBuf;

use oci_spec::runtime::{ContainerState as Status, LinuxResources};
use serde_json::{Map, Value, json};

use super::cli::{Failed, Words, finish, pretty, say, told, usage};
use super::error::{Context, Error, Result};
use super::exec::{self, Change, Parts, Wanted};
use super::groups::Groups;
use super::lifecycle::Containers;
use super::limits;
use super::state::Record;

type Done = std::result::Result<u8, Failed>;

/// Largest file with a process or limits, bytes.
const MAX_BYTES: u64 = 1 << 20;

/// `state`, which also tells of a pause.
pub fn state(words: &[String], containers: &Containers) -> Done {
    let words = Words::parse(words, &[], &[])?;
    let record = containers.look(words.id()?).map_err(told)?;
    let status = record.status();
    let mut state = serde_json::to_value(record.state(status)).unwrap_or_default();
    if status == Status::Running && Groups::known(&record.groups).is_ok_and(|groups| groups.frozen()) {
        state["status"] = json!("paused");
    }
    Ok(say(&pretty(&state)))
}

/// `pause` and `resume`.
pub fn freeze(words: &[String], containers: &Containers, frozen: bool) -> Done {
    let words = Words::parse(words, &[], &[])?;
    let record = alive(containers, words.id()?, if frozen { "pause" } else { "resume" });
    finish(record.and_then(|record| Groups::known(&record.groups)?.freeze(frozen)))
}

/// The record of a container whose process lives.
fn alive(containers: &Containers, id: &str, operation: &'static str) -> Result<Record> {
    let record = containers.look(id)?;
    match record.status() {
        Status::Created | Status::Running => Ok(record),
        status => Err(Error::Status {
            operation,
            id: id.to_owned(),
            status,
        }),
    }
}

/// `ps`: numbers of its processes, as the host knows them, or with their names.
pub fn ps(words: &[String], containers: &Containers) -> Done {
    let words = Words::parse(words, &["f", "format"], &[])?;
    let record = alive(containers, words.id()?, "list processes of").map_err(told)?;
    let all = Groups::known(&record.groups).map_err(told)?.processes();
    match words.value(&["f", "format"]) {
        Some("json") => Ok(say(&pretty(&all))),
        None | Some("table") => {
            let line = |pid: &i32| {
                let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
                format!("{pid:>8} {}\n", name.trim_end().escape_debug())
            };
            let lines: String = all.iter().map(line).collect();
            Ok(say(format!("{:>8} NAME\n{lines}", "PID").as_bytes()))
        }
        Some(other) => Err(usage(format!("unknown format {other:?}"))),
    }
}

/// `exec`.
pub fn exec(words: &[String], containers: &Containers) -> Done {
    let wanted = wanted(words)?;
    let code = exec::exec(containers, &wanted).map_err(told)?;
    Ok(u8::try_from(code).unwrap_or(1))
}

fn wanted(words: &[String]) -> std::result::Result<Wanted, Failed> {
    let valued = [
        "e",
        "env",
        "cwd",
        "u",
        "user",
        "g",
        "additional-gids",
        "c",
        "cap",
        "p",
        "process",
        "pid-file",
        "console-socket",
        "preserve-fds",
    ];
    let plain = ["d", "detach", "t", "tty", "no-new-privs", "ignore-paused"];
    let words = Words::take(words, &valued, &plain, 1)?;
    let (id, args) = words
        .rest
        .split_first()
        .ok_or_else(|| usage("the container's name is missing"))?;
    let process = match words.value(&["p", "process"]) {
        Some(file) => Change::Whole(Box::new(read(file).map_err(told)?)),
        None if args.is_empty() => return Err(usage("exec takes a container's name and a program")),
        None => Change::Parts(Box::new(parts(&words, args)?)),
    };
    Ok(Wanted {
        id: id.clone(),
        process,
        pid_file: words.value(&["pid-file"]).map(PathBuf::from),
        console_socket: words.value(&["console-socket"]).map(PathBuf::from),
        preserve_fds: words.preserved()?,
        detach: words.has(&["d", "detach"]),
        ignore_paused: words.has(&["ignore-paused"]),
    })
}

fn parts(words: &Words, args: &[String]) -> std::result::Result<Parts, Failed> {
    let number = |text: &str| text.parse::<u32>().map_err(|_| usage(format!("{text:?} is not an id")));
    let user = words.value(&["u", "user"]).map(|text| match text.split_once(':') {
        Some((uid, gid)) => Ok((number(uid)?, Some(number(gid)?))),
        None => Ok((number(text)?, None)),
    });
    let groups = words.values(&["g", "additional-gids"]).into_iter().map(number);
    let texts = |names: &[&str]| words.values(names).into_iter().map(str::to_owned).collect();
    Ok(Parts {
        args: args.to_vec(),
        env: texts(&["e", "env"]),
        cwd: words.value(&["cwd"]).map(PathBuf::from),
        user: user.transpose()?,
        groups: groups.collect::<std::result::Result<_, _>>()?,
        capabilities: texts(&["c", "cap"]),
        no_new_privileges: words.has(&["no-new-privs"]),
        terminal: words.has(&["t", "tty"]),
    })
}

/// JSON from a file, or from standard input for `-`.
fn read<T: serde::de::DeserializeOwned>(file: &str) -> Result<T> {
    let mut bytes = Vec::new();
    if file == "-" {
        std::io::stdin()
            .take(MAX_BYTES)
            .read_to_end(&mut bytes)
            .at("read", "standard input")?;
    } else {
        let opened = std::fs::File::open(file).at("open", file)?;
        opened.take(MAX_BYTES).read_to_end(&mut bytes).at("read", file)?;
    }
    serde_json::from_slice(&bytes).map_err(|error| Error::Config {
        path: file.into(),
        reason: error.to_string(),
    })
}

/// `update`: other limits, for a container that exists.
pub fn update(words: &[String], containers: &Containers) -> Done {
    let names: Vec<&str> = UPDATES
        .iter()
        .map(|(option, ..)| *option)
        .chain(["r", "resources"])
        .collect();
    let words = Words::parse(words, &names, &[])?;
    let resources: LinuxResources = match words.value(&["r", "resources"]) {
        Some(file) => read(file).map_err(told)?,
        None => options(&words)?,
    };
    let record = alive(containers, words.id()?, "update").map_err(told)?;
    finish(Groups::known(&record.groups).and_then(|groups| limits::apply(&groups, &resources, &[])))
}

/// Options and where their values stand in a configuration, and whether these are numbers.
const UPDATES: [(&str, &str, &str, bool); 10] = [
    ("memory", "memory", "limit", true),
    ("memory-swap", "memory", "swap", true),
    ("memory-reservation", "memory", "reservation", true),
    ("cpu-quota", "cpu", "quota", true),
    ("cpu-period", "cpu", "period", true),
    ("cpu-share", "cpu", "shares", true),
    ("cpuset-cpus", "cpu", "cpus", false),
    ("cpuset-mems", "cpu", "mems", false),
    ("pids-limit", "pids", "limit", true),
    ("blkio-weight", "blockIO", "weight", true),
];

fn options(words: &Words) -> std::result::Result<LinuxResources, Failed> {
    let mut all = Map::new();
    for (option, group, key, is_number) in UPDATES {
        let Some(text) = words.value(&[option]) else { continue };
        let value = if is_number {
            let number = text
                .parse::<i64>()
                .map_err(|_| usage(format!("--{option} takes a number")))?;
            json!(number)
        } else {
            json!(text)
        };
        all.entry(group).or_insert_with(|| json!({}))[key] = value;
    }
    if all.is_empty() {
        return Err(usage("update takes limits"));
    }
    serde_json::from_value(Value::Object(all)).map_err(usage)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn options_behind_the_name_are_the_programs() {
        let wanted = wanted(&words("-d -e A=1 --env B=2 -u 3:4 --cap CAP_KILL name sh -c -d")).unwrap();
        assert!(wanted.detach && wanted.id == "name");
        let Change::Parts(parts) = wanted.process else {
            panic!("parts")
        };
        assert_eq!(parts.args, ["sh", "-c", "-d"]);
        assert_eq!(parts.env, ["A=1", "B=2"]);
        assert_eq!(parts.user, Some((3, Some(4))));
        for wrong in [
            "",
            "name",
            "-u x name sh",
            "--unknown name sh",
            "--preserve-fds x name sh",
        ] {
            assert_eq!(super::wanted(&words(wrong)).map(drop).unwrap_err().code, 64, "{wrong}");
        }
    }

    #[test]
    fn limits_stand_where_a_configuration_has_them() {
        let parsed = Words::parse(
            &words("--memory 1024 --pids-limit 5 --cpuset-cpus 0-1 a"),
            &["memory", "pids-limit", "cpuset-cpus"],
            &[],
        );
        let made = options(&parsed.unwrap()).unwrap();
        assert_eq!(made.memory().as_ref().and_then(|memory| memory.limit()), Some(1024));
        assert_eq!(made.pids().as_ref().map(|pids| pids.limit()), Some(5));
        assert_eq!(
            made.cpu().as_ref().and_then(|cpu| cpu.cpus().clone()).as_deref(),
            Some("0-1")
        );
        assert!(options(&Words::parse(&words("a"), &[], &[]).unwrap()).is_err());
    }
}
