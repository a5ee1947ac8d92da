//! What a machine needs for a command here, and how it gets it: Debian packages where we may install them, else the
//! exact command for whoever may.

use crate::shell;
use anyhow::{Result, bail};
use std::process::{Command, Stdio};

/// What has to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// Build and run the platform.
    Run,
    /// Also measure sandboxes beside those of other runtimes.
    Bench,
    /// Also pass the test suite.
    Test,
}

/// A program and the Debian package that brings it.
struct Need {
    program: &'static str,
    package: &'static str,
    purpose: Purpose,
}

const NEEDS: [Need; 22] = [
    Need {
        program: "cc",
        package: "build-essential",
        purpose: Purpose::Run,
    },
    Need {
        program: "nft",
        package: "nftables",
        purpose: Purpose::Run,
    },
    Need {
        program: "ip",
        package: "iproute2",
        purpose: Purpose::Run,
    },
    Need {
        program: "mkfs.ext4",
        package: "e2fsprogs",
        purpose: Purpose::Run,
    },
    Need {
        program: "losetup",
        package: "mount",
        purpose: Purpose::Run,
    },
    Need {
        program: "git",
        package: "git",
        purpose: Purpose::Test,
    },
    Need {
        program: "curl",
        package: "curl",
        purpose: Purpose::Test,
    },
    Need {
        program: "flock",
        package: "util-linux",
        purpose: Purpose::Test,
    },
    // Sessions in instances, as other people's clients have them.
    Need {
        program: "scp",
        package: "openssh-client",
        purpose: Purpose::Test,
    },
    // Platforms of ordinary users: more ids than their own, and a way out.
    Need {
        program: "newuidmap",
        package: "uidmap",
        purpose: Purpose::Test,
    },
    Need {
        program: "slirp4netns",
        package: "slirp4netns",
        purpose: Purpose::Test,
    },
    // Python apps run on the host's interpreter where the stack is the host's.
    Need {
        program: "python3",
        package: "python3-venv",
        purpose: Purpose::Test,
    },
    // The identity provider that tests sign in at is of npm.
    Need {
        program: "npm",
        package: "npm",
        purpose: Purpose::Test,
    },
    // Java apps of the tests are compiled by it.
    Need {
        program: "javac",
        package: "default-jdk-headless",
        purpose: Purpose::Test,
    },
    // Modules of the kernel below.
    Need {
        program: "modprobe",
        package: "kmod",
        purpose: Purpose::Test,
    },
    // A kernel with control groups v2 alone, and what its first process speaks.
    Need {
        program: "linux.uml",
        package: "user-mode-linux",
        purpose: Purpose::Test,
    },
    Need {
        program: "busybox",
        package: "busybox-static",
        purpose: Purpose::Test,
    },
    // Images are pushed to it and pulled from it.
    Need {
        program: "docker-registry",
        package: "docker-registry",
        purpose: Purpose::Test,
    },
    Need {
        program: "initdb",
        package: "postgresql",
        purpose: Purpose::Test,
    },
    Need {
        program: "runc",
        package: "runc",
        purpose: Purpose::Bench,
    },
    Need {
        program: "crun",
        package: "crun",
        purpose: Purpose::Bench,
    },
    Need {
        program: "bwrap",
        package: "bubblewrap",
        purpose: Purpose::Bench,
    },
];

/// Makes sure that everything for `purpose` is there: installs it as root, else names the command.
pub fn ensure(purpose: Purpose) -> Result<()> {
    let missing = missing(purpose);
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    let remedy = format!("apt-get install --no-install-recommends {list}");
    if shell::find("apt-get").is_none() {
        bail!("these Debian packages, or what corresponds to them here, are missing: {list}");
    }
    if !shell::is_root() {
        bail!("missing packages: run `sudo {remedy}`, then this again");
    }
    println!("installing {list}");
    install(&missing).map_err(|error| error.context(format!("`{remedy}` did not work")))?;
    match self::missing(purpose).as_slice() {
        [] => Ok(()),
        still => bail!("still missing after their installation: {}", still.join(" ")),
    }
}

/// Packages whose program is not there.
fn missing(purpose: Purpose) -> Vec<&'static str> {
    let needed = NEEDS.iter().filter(|need| need.purpose <= purpose);
    needed
        .filter(|need| !is_there(need.program))
        .map(|need| need.package)
        .collect()
}

fn is_there(program: &str) -> bool {
    if program == "python3" {
        // Debian has what makes environments of it in a package of its own.
        let mut python = Command::new(program);
        python.args(["-c", "import ensurepip, venv"]).stderr(Stdio::null());
        return python.status().is_ok_and(|status| status.success());
    }
    // Debian keeps the server's programs out of PATH, in a folder per version.
    shell::find(program).is_some() || (program == "initdb" && crate::postgres::installed().is_some())
}

fn install(packages: &[&str]) -> Result<()> {
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command
            .args(["--quiet", "--yes"])
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive");
        // Daemons that a package brings (a database server) are not to be started by its installation.
        command.env("RUNLEVEL", "1");
        shell::run(&mut command)
    };
    let install: Vec<&str> = ["install", "--no-install-recommends"]
        .iter()
        .chain(packages)
        .copied()
        .collect();
    // The lists of packages may be missing or old.
    apt(&install).or_else(|_| apt(&["update"]).and_then(|()| apt(&install)))
}

/// Makes sure that cargo-nextest is there.
pub fn ensure_nextest() -> Result<()> {
    let there = crate::workspace::cargo(&crate::workspace::root())
        .args(["nextest", "--version"])
        .output();
    if there.is_ok_and(|output| output.status.success()) {
        return Ok(());
    }
    println!("installing cargo-nextest (once, some minutes)");
    shell::run(Command::new("cargo").args(["install", "cargo-nextest", "--locked"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_needs_no_database() {
        let run: Vec<_> = NEEDS
            .iter()
            .filter(|need| need.purpose <= Purpose::Run)
            .map(|need| need.package)
            .collect();
        assert!(run.contains(&"nftables") && !run.contains(&"postgresql"));
        assert!(is_there("sh") && !is_there("no-such-program"));
    }
}
