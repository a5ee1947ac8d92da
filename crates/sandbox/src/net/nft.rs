//! Runs the `nft` program: one transaction per run, all or nothing, with a deadline. Knows nothing of
//! the rules.

use std::{
    fs::File,
    io::{Read, Seek, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{MemfdFlags, memfd_create},
    process::{Pid, PidfdFlags, pidfd_open},
};

use super::error::{Error, Result};

/// Where distributions put it; the search path of a daemon often lacks sbin.
const PLACES: [&str; 5] = [
    "/usr/sbin/nft",
    "/sbin/nft",
    "/usr/bin/nft",
    "/bin/nft",
    "/usr/local/sbin/nft",
];
/// A transaction takes milliseconds; beyond this the kernel or the program hangs.
const DEADLINE: Duration = Duration::from_secs(30);
/// How much of a complaint is kept.
const COMPLAINT_BYTES: usize = 2000;

/// The program, found once.
#[derive(Debug, Clone)]
pub(super) struct Nft {
    program: PathBuf,
    /// For messages.
    table: String,
}

impl Nft {
    /// Finds the program; `table` is what messages call the rules.
    pub(super) fn find(table: &str) -> Result<Self> {
        Self::find_in(&PLACES, table)
    }

    fn find_in(places: &[&str], table: &str) -> Result<Self> {
        match places.iter().find(|place| Path::new(place).is_file()) {
            Some(place) => Ok(Self {
                program: place.into(),
                table: table.to_owned(),
            }),
            None => Err(Error::NftMissing {
                looked_at: places.join(", "),
            }),
        }
    }

    /// Applies a script as one transaction.
    pub(super) fn apply(&self, operation: &str, script: &str) -> Result<()> {
        self.run(operation, &["-f", "-"], script).map(drop)
    }

    /// What `nft -j <arguments>` prints, as JSON.
    pub(super) fn read(&self, operation: &str, arguments: &[&str]) -> Result<serde_json::Value> {
        let text = self.run(operation, &[&["-j"], arguments].concat(), "")?;
        serde_json::from_str(&text).map_err(|error| self.failed(operation, format!("unreadable answer: {error}")))
    }

    fn run(&self, operation: &str, arguments: &[&str], input: &str) -> Result<String> {
        let io = |source| Error::System {
            operation: "run nft",
            source,
        };
        let file = |name| {
            memfd_create(name, MemfdFlags::CLOEXEC)
                .map(File::from)
                .map_err(|errno| io(errno.into()))
        };
        let (mut stdin, mut stdout, mut stderr) = (file("nft-in")?, file("nft-out")?, file("nft-err")?);
        stdin
            .write_all(input.as_bytes())
            .and_then(|()| stdin.rewind())
            .map_err(io)?;
        let copy = |file: &File| file.try_clone().map(Stdio::from).map_err(io);
        let mut child = Command::new(&self.program)
            .args(arguments)
            .stdin(stdin)
            .stdout(copy(&stdout)?)
            .stderr(copy(&stderr)?)
            .spawn()
            .map_err(io)?;
        if !ended(&child).map_err(io)? {
            child.kill().map_err(io)?;
            child.wait().map_err(io)?;
            return Err(self.failed(operation, format!("no end within {} s", DEADLINE.as_secs())));
        }
        let status = child.wait().map_err(io)?;
        let mut text = String::new();
        let source = if status.success() { &mut stdout } else { &mut stderr };
        source
            .rewind()
            .and_then(|()| source.read_to_string(&mut text))
            .map_err(io)?;
        if status.success() {
            Ok(text)
        } else {
            Err(self.failed(operation, excerpt(&text)))
        }
    }

    fn failed(&self, operation: &str, output: String) -> Error {
        Error::Nft {
            operation: operation.to_owned(),
            table: self.table.clone(),
            output,
        }
    }
}

/// Waits for the end of the child; false if the deadline came first.
fn ended(child: &Child) -> std::io::Result<bool> {
    let handle = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let limit = Timespec {
        tv_sec: DEADLINE.as_secs().cast_signed(),
        tv_nsec: 0,
    };
    loop {
        match poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&limit)) {
            Err(rustix::io::Errno::INTR) => {}
            other => return Ok(other? > 0),
        }
    }
}

fn excerpt(text: &str) -> String {
    let text = text.trim();
    let end = (0..=COMPLAINT_BYTES.min(text.len()))
        .rev()
        .find(|&at| text.is_char_boundary(at))
        .unwrap_or(0);
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_names_the_package() {
        let error = Nft::find_in(&["/nonexistent/nft"], "t")
            .expect_err("not there")
            .to_string();
        assert!(
            error.contains("apt-get install nftables") && error.contains("/nonexistent/nft"),
            "{error}"
        );
    }

    #[test]
    fn a_refused_script_is_reported_with_what_was_tried() {
        let nft = Nft::find("paas-test").expect("nft is installed");
        let error = nft
            .apply("apply nonsense", "no such command\n")
            .expect_err("refused")
            .to_string();
        assert!(
            error.contains("apply nonsense") && error.contains("syntax error"),
            "{error}"
        );
    }

    #[test]
    fn long_complaints_are_cut_at_a_character() {
        assert_eq!(excerpt(&"é".repeat(COMPLAINT_BYTES)).len(), COMPLAINT_BYTES);
        assert_eq!(excerpt(" short \n"), "short");
    }
}
