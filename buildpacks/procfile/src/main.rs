//! Procfile and compiled programs: the app is already what runs. The last of the built-in buildpacks, since a Procfile may
//! accompany any language.

mod program;

use buildpack_kit::{
    BuildContext, Buildpack, DetectContext, Detection, Failure, Launch, Result, Variables, output, run,
};
use program::Found;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    run(&Procfile, &arguments, Variables(std::env::vars_os().collect()))
}

struct Procfile;

impl Buildpack for Procfile {
    fn detect(&self, context: &DetectContext) -> Result<Detection> {
        if context.app.join("Procfile").is_file() {
            return Ok(passed("Procfile".to_owned()));
        }
        Ok(match program::find(&context.app) {
            Found::One(name) => passed(format!("compiled program {name}")),
            Found::None => Detection::Declined("no Procfile and no compiled program (ELF) at the top".to_owned()),
            Found::Many(names) => Detection::Declined(format!(
                "no Procfile, and several compiled programs at the top ({}): name one in a Procfile",
                names.join(", ")
            )),
        })
    }

    fn build(&self, context: &BuildContext) -> Result<()> {
        let mut launch = Launch::default();
        let procfile = context.app.join("Procfile");
        if procfile.is_file() {
            output::headline("Procfile: the app runs as it was pushed");
            for (process, command) in read(&procfile)? {
                launch = launch.shell(&process, &command, "Procfile");
            }
            return launch.write(context);
        }
        match program::find(&context.app) {
            Found::One(name) => {
                output::headline(&format!("Compiled program {name}: the app runs as it was pushed"));
                program::make_executable(&context.app.join(&name))?;
                launch = launch.direct("web", &[&format!("./{name}")], "the one compiled program");
            }
            // Chosen by name: then the start command comes from the person who pushes.
            Found::None | Found::Many(_) => {
                output::headline("Nothing to build: the app runs by its start command");
                output::detail(
                    "No Procfile, and not exactly one compiled program: give a start command when you push.",
                );
            }
        }
        launch.write(context)
    }
}

fn passed(found: String) -> Detection {
    Detection::Passed { found, provides: None }
}

fn read(path: &Path) -> Result<BTreeMap<String, String>> {
    let text = std::fs::read_to_string(path).map_err(Failure::file("read", path))?;
    serde_yaml::from_str(&text).or_else(|_| {
        // A command may be anything, also what is no YAML.
        let lines = text
            .lines()
            .filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
        let pairs = lines.map(|line| {
            line.split_once(':')
                .map(|(name, command)| (name.into(), command.trim().into()))
        });
        pairs.collect::<Option<_>>().ok_or_else(|| {
            Failure::new(
                "the Procfile has a line without a process type",
                "Write each line as `type: command`.",
            )
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_procfile_or_one_program_is_enough() {
        let folder = tempfile::tempdir().unwrap();
        let detect = || {
            Procfile
                .detect(&DetectContext {
                    app: folder.path().to_owned(),
                    variables: Variables::default(),
                })
                .unwrap()
        };
        assert!(matches!(detect(), Detection::Declined(_)));
        std::fs::write(
            folder.path().join("server"),
            b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0",
        )
        .unwrap();
        assert_eq!(detect(), passed("compiled program server".to_owned()));
        std::fs::copy(folder.path().join("server"), folder.path().join("tool")).unwrap();
        assert!(matches!(detect(), Detection::Declined(reason) if reason.contains("server, tool")));
        std::fs::write(folder.path().join("Procfile"), "web: ./server").unwrap();
        assert_eq!(detect(), passed("Procfile".to_owned()));
    }
}
