//! The build, step by step.

use crate::module::Project;
use crate::{toolchain, version};
use buildpack_kit::source::mirror::SETTING;
use buildpack_kit::tool::{self, Hint};
use buildpack_kit::{BuildContext, Failure, Launch, Layer, Result, Types, Variables, http, memory, output};
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

/// Sets what depends on the memory of the instance, when it starts.
const EXEC_D: &str = include_str!("memory.sh");
/// Most bytes of compiled packages, and of modules, that are kept for the next build.
const CACHE_BYTES: u64 = 1024 * 1024 * 1024;
/// Names of the program that serves, where there are several.
const WEB: &[&str] = &["web", "server", "app", "main"];

/// Everything the go command works with.
struct Workshop<'a> {
    context: &'a BuildContext,
    project: &'a Project,
    go: &'a Path,
    modules: Layer,
    objects: Layer,
    tmp: &'a Path,
}

/// A package that is a program.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Program {
    package: String,
    name: String,
}

/// Installs Go, builds, and declares the processes.
///
/// # Errors
/// Why the app cannot be built.
pub fn run(context: &BuildContext) -> Result<()> {
    let Some(project) = Project::read(&context.app)? else {
        return Err(Failure::new(
            "there is no go.mod and no .go file at the top of the app",
            "Push the folder that holds them, or create go.mod by `go mod init NAME`.",
        ));
    };
    project.require_module(&context.app)?;
    let wanted = version::wanted(&context.app, &project, &context.variables)?;
    let go = toolchain::install(context, &wanted)?;
    let tmp = context.scratch()?;
    let workshop = Workshop {
        context,
        project: &project,
        go: &go.layer.dir,
        modules: context.layer("modules").bounded(CACHE_BYTES)?,
        objects: context.layer("objects").bounded(CACHE_BYTES)?,
        tmp: tmp.path(),
    };
    let programs = workshop.programs()?;
    workshop.build(&programs)?;
    workshop.modules.keep(Types::CACHED, "1", &[])?;
    workshop.objects.settle()?;
    workshop.objects.keep(Types::CACHED, "1", &[])?;
    processes(context, &project, &programs)
}

impl Workshop<'_> {
    fn command(&self) -> Command {
        let variables = &self.context.variables;
        let mut path = OsString::from(self.go.join("bin"));
        path.push(":");
        path.push(variables.get("PATH").unwrap_or("/usr/local/bin:/usr/bin:/bin"));
        let flags = variables.get("GOFLAGS").unwrap_or_default();
        let mut command = Command::new(self.go.join("bin/go"));
        command
            .current_dir(&self.context.app)
            .env("PATH", path)
            .env_remove("GOROOT")
            .env("GOTOOLCHAIN", "local")
            // Without it the next build could not remove what this one downloaded.
            .env("GOFLAGS", format!("{flags} -modcacherw").trim())
            .env("GOPATH", self.tmp.join("path"))
            .env("GOMODCACHE", &self.modules.dir)
            .env("GOCACHE", &self.objects.dir)
            // Its index of packages leaves out files that are new, so it would differ from build to build.
            .env("GODEBUG", "goindex=0")
            .env("XDG_CONFIG_HOME", self.tmp)
            .env("GOTMPDIR", self.tmp);
        if variables.get("CGO_ENABLED").is_none() {
            // What is built then runs on any stack, also a later one.
            command.env("CGO_ENABLED", "0");
        }
        if let Some(proxy) = proxy(variables) {
            command.env("GOPROXY", proxy);
            if variables.get("GOSUMDB").is_none() {
                // The checksum database is out of reach; go.sum holds all the same.
                command.env("GOSUMDB", "off");
            }
        }
        command
    }

    /// What to build: what the app names, else every program of its modules.
    fn programs(&self) -> Result<Vec<Program>> {
        if self.project.file.is_none() {
            return Ok(vec![Program {
                package: self.project.loose.join(" "),
                name: "main".to_owned(),
            }]);
        }
        let named = targets(self.project, &self.context.variables);
        let patterns = if named.is_empty() {
            self.patterns()?
        } else {
            named.clone()
        };
        let mut list = self.command();
        list.args([
            "list",
            "-find",
            "-f",
            "{{if eq .Name \"main\"}}paas-program {{.ImportPath}}{{end}}",
        ]);
        let listed = quietly(list.args(&patterns), "go list")?;
        let programs: Vec<Program> = listed
            .lines()
            .filter_map(|line| line.strip_prefix("paas-program "))
            .map(program)
            .collect();
        if programs.is_empty() {
            return Err(Failure::new(
                format!(
                    "there is no program to build: no package main in {}",
                    patterns.join(" ")
                ),
                "Push the folder that holds main.go; or name what to build in BP_GO_TARGETS, for example ./cmd/web.",
            ));
        }
        Ok(programs)
    }

    /// All packages of the module, or of each module of the workspace.
    fn patterns(&self) -> Result<Vec<String>> {
        if self.project.file != Some("go.work") {
            return Ok(vec!["./...".to_owned()]);
        }
        let listed = quietly(self.command().args(["list", "-m", "-f", "{{.Dir}}"]), "go list -m")?;
        let below = listed
            .lines()
            .filter_map(|line| Path::new(line).strip_prefix(&self.context.app).ok());
        Ok(below
            .map(|folder| format!("./{}/...", folder.display()).replace(".//", "./"))
            .collect())
    }

    fn build(&self, programs: &[Program]) -> Result<()> {
        let mut layer = self.context.layer("programs");
        layer.reset()?;
        let bin = layer.dir.join("bin");
        std::fs::create_dir_all(&bin).map_err(Failure::file("create", &bin))?;
        // Go trims what was not used for days by the times of files, which are all alike after a restore.
        let trimmed = self.objects.dir.join("trim.txt");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let seconds = now.map_or(0, |since| since.as_secs());
        std::fs::write(&trimmed, seconds.to_string()).map_err(Failure::file("write", &trimmed))?;
        let mut build = self.command();
        build.args(["build", "-trimpath", "-ldflags", &linker_flags(&self.context.variables)]);
        // The revision would come from a history that the push does not have.
        build.arg("-buildvcs=false");
        let extra = self.context.variables.get("BP_GO_BUILD_FLAGS").unwrap_or_default();
        build.args(extra.split_whitespace());
        let shown: Vec<&str> = programs.iter().map(|program| program.package.as_str()).collect();
        if self.project.file.is_none() {
            build.arg("-o").arg(bin.join("main")).args(&self.project.loose);
        } else {
            build.arg("-o").arg(format!("{}/", bin.display())).args(&shown);
        }
        let how = if self.project.vendored {
            ", modules from vendor"
        } else {
            ""
        };
        output::headline(&format!("Build: go build {}{how}", shown.join(" ")));
        let built = tool::run(&mut build, "go build", HINTS);
        std::fs::remove_file(&trimmed).map_err(Failure::file("remove", &trimmed))?;
        built.map_err(compile_failure)?;
        layer.write_program("exec.d", "go-memory", &memory::program(EXEC_D))?;
        layer.keep(Types::LAUNCH, "programs", &[])
    }
}

fn compile_failure(failure: Failure) -> Failure {
    if failure.cause.starts_with("go build failed") {
        return Failure::new(
            "the app does not compile (see above)",
            "Repair it; `go build ./...` in a fresh copy of the app should fail in the same way.",
        );
    }
    failure
}

/// Runs a command whose output is for us; what it says where it fails is shown.
fn quietly(command: &mut Command, shown: &str) -> Result<String> {
    let output = command.output().map_err(|error| {
        Failure::new(
            format!("{shown} could not be started: {error}"),
            "Report this to the operator.",
        )
    })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let tail = String::from_utf8_lossy(&output.stderr).into_owned();
    output::detail(&tail);
    Err(tool::explain(shown, &tail, false, HINTS))
}

/// Where modules come from where the app does not say it: the operator's mirror.
fn proxy(variables: &Variables) -> Option<String> {
    if variables.get("GOPROXY").is_some() {
        return None;
    }
    let base = http::address(variables.get(SETTING)?);
    let proxy = format!("{base}/goproxy");
    let there = http::local(&proxy).is_none_or(Path::is_dir);
    there.then_some(proxy)
}

/// Packages that the app names: a variable, or a comment in go.mod.
fn targets(project: &Project, variables: &Variables) -> Vec<String> {
    let variable = ["BP_GO_TARGETS", "GO_INSTALL_PACKAGE_SPEC"]
        .iter()
        .find_map(|name| variables.get(name));
    match variable {
        Some(text) => text
            .split([' ', ':', ','])
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect(),
        None => project.comment_targets.clone(),
    }
}

/// Without symbols, which only debuggers read; and one variable of the program, as Cloud Foundry sets it.
fn linker_flags(variables: &Variables) -> String {
    let mut flags = variables.get("BP_GO_BUILD_LDFLAGS").unwrap_or("-s -w").to_owned();
    if let (Some(symbol), Some(value)) = (variables.get("GO_LINKER_SYMBOL"), variables.get("GO_LINKER_VALUE")) {
        flags.push_str(&format!(" -X {symbol}={value}"));
    }
    flags
}

/// A program with the name that `go build` gives it.
fn program(package: &str) -> Program {
    let parts: Vec<&str> = package.split('/').collect();
    let is_major = |part: &str| {
        part.strip_prefix('v')
            .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let name = match parts.as_slice() {
        [.., before, last] if is_major(last) => before,
        [.., last] => last,
        [] => "",
    };
    Program {
        package: package.to_owned(),
        name: (*name).to_owned(),
    }
}

/// The program that serves: the only one, the one at the top, or one with a usual name.
fn web<'a>(project: &Project, programs: &'a [Program]) -> Option<&'a Program> {
    if let [only] = programs {
        return Some(only);
    }
    let top = programs
        .iter()
        .find(|program| Some(&program.package) == project.path.as_ref());
    let usual = || {
        WEB.iter()
            .find_map(|name| programs.iter().find(|program| program.name == *name))
    };
    top.or_else(usual)
}

fn processes(context: &BuildContext, project: &Project, programs: &[Program]) -> Result<()> {
    let Some(web) = web(project, programs) else {
        if !context.app.join("Procfile").is_file() {
            let names: Vec<&str> = programs.iter().map(|program| program.name.as_str()).collect();
            output::alert(&format!(
                "Nothing says which of these programs serves: {}.",
                names.join(", ")
            ));
            output::alert(&format!(
                "Add a Procfile, for example `web: {}`.",
                names.first().copied().unwrap_or("web")
            ));
        }
        return Launch::default().write(context);
    };
    let source = match project.file {
        Some(_) => format!("package main in {}", web.package),
        None => format!("package main in {}", project.loose.join(", ")),
    };
    Launch::default().direct("web", &[&web.name], &source).write(context)
}

/// What the go command says, and what it means.
const HINTS: &[Hint] = &[
    Hint {
        words: &["inconsistent vendoring"],
        cause: "go.mod and vendor disagree (see above)",
        remedy: "Run `go mod vendor`, and push go.mod, go.sum and vendor together.",
    },
    Hint {
        words: &[
            "missing go.sum entry",
            "updates to go.mod needed",
            "updates to go.sum needed",
        ],
        cause: "go.mod, go.sum and the sources disagree (see above)",
        remedy: "Run `go mod tidy`, see that the app still works, and push go.mod and go.sum.",
    },
    Hint {
        words: &["checksum mismatch", "SECURITY ERROR"],
        cause: "a module is not the one that go.sum describes (see above)",
        remedy: "Find out why it changed; then `go mod tidy` writes the new checksum.",
    },
    Hint {
        words: &["requires go >=", "(running go "],
        cause: "a module needs a newer Go than the app asks for (see above)",
        remedy: "Raise the `go` line of go.mod, for example by `go get go@latest`.",
    },
    Hint {
        words: &[
            "no required module provides package",
            "is not in std",
            "cannot find module providing",
        ],
        cause: "a package that the app imports is in none of the modules of go.mod (see above)",
        remedy: "Run `go mod tidy`, and push go.mod and go.sum; a module of the app itself belongs into go.work or a replace.",
    },
    Hint {
        words: &[
            "module lookup disabled",
            "proxyconnect",
            "dial tcp",
            "reading file:",
            "TLS handshake",
        ],
        cause: "a module could not be downloaded (see above)",
        remedy: "Run `go mod vendor` and push the folder vendor, which needs no download; or the operator names a module \
                 proxy that builds can reach (GOPROXY, or a goproxy folder of BP_MIRROR).",
    },
    Hint {
        words: &[
            "terminal prompts disabled",
            "could not read Username",
            "404 Not Found",
            "410 Gone",
        ],
        cause: "a module does not exist where it is looked for, or is private (see above)",
        remedy: "Repair its name or version; vendor private modules (`go mod vendor`).",
    },
    Hint {
        words: &["C compiler \"gcc\" not found", "requires cgo"],
        cause: "a package needs a C compiler, which the stack lacks",
        remedy: "Use a stack with build-essential, or a package without cgo.",
    },
    Hint {
        words: &["build constraints exclude all Go files"],
        cause: "a package has no files for this machine, or needs cgo (see above)",
        remedy: "Set CGO_ENABLED=1 and use a stack with build-essential, or another package.",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_that_serves_is_known() {
        let project = Project {
            path: Some("x.org/shop".to_owned()),
            ..Project::default()
        };
        let served = |packages: &[&str]| {
            let programs: Vec<Program> = packages.iter().map(|package| program(package)).collect();
            web(&project, &programs).map(|program| program.name.clone())
        };
        assert_eq!(served(&["x.org/shop/cmd/api"]).as_deref(), Some("api"));
        assert_eq!(served(&["x.org/shop", "x.org/shop/cmd/job"]).as_deref(), Some("shop"));
        assert_eq!(
            served(&["x.org/shop/cmd/job", "x.org/shop/cmd/web/v2"]).as_deref(),
            Some("web")
        );
        assert_eq!(served(&["x.org/shop/cmd/job", "x.org/shop/cmd/other"]), None);
    }

    #[test]
    fn what_is_built_may_be_named() {
        let variables = Variables([("BP_GO_TARGETS".into(), "./cmd/a, ./cmd/b".into())].into());
        assert_eq!(targets(&Project::default(), &variables), ["./cmd/a", "./cmd/b"]);
        let project = Project {
            comment_targets: vec!["./x".to_owned()],
            ..Project::default()
        };
        assert_eq!(targets(&project, &Variables::default()), ["./x"]);
        let variables = Variables(
            [("GO_LINKER_SYMBOL", "main.version"), ("GO_LINKER_VALUE", "7")]
                .map(|(name, value)| (name.into(), value.into()))
                .into(),
        );
        assert_eq!(linker_flags(&variables), "-s -w -X main.version=7");
    }

    #[test]
    fn modules_come_from_the_mirror_where_it_has_them() {
        let mirror = tempfile::tempdir().unwrap();
        let variables = Variables([(SETTING.into(), mirror.path().into())].into());
        assert_eq!(proxy(&variables), None);
        std::fs::create_dir(mirror.path().join("goproxy")).unwrap();
        assert_eq!(
            proxy(&variables),
            Some(format!("file://{}/goproxy", mirror.path().display()))
        );
    }

    /// Everything that is told where a build fails, for reading.
    #[test]
    fn failures_in_words() {
        let told: Vec<String> = HINTS
            .iter()
            .map(|hint| format!("{}\n  {}\n  -> {}\n", hint.words[0], hint.cause, hint.remedy))
            .collect();
        insta::assert_snapshot!(told.join("\n"));
    }
}
