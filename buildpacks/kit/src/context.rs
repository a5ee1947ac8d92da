//! What the platform tells a buildpack's programs, and how they answer.

use crate::{Failure, Layer, Result, output};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Exit code of a bin/detect that declines.
const DECLINED: u8 = 100;

/// Variables of the program.
#[derive(Debug, Clone, Default)]
pub struct Variables(pub BTreeMap<OsString, OsString>);

impl Variables {
    /// The value of `name` where it is set, not empty and text.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .get(OsStr::new(name))
            .and_then(|value| value.to_str())
            .filter(|value| !value.is_empty())
    }

    /// Whether `name` is set to something other than `0` and `false`.
    #[must_use]
    pub fn is_on(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value != "0" && value != "false")
    }
}

/// For `bin/detect`.
#[derive(Debug)]
pub struct DetectContext {
    /// The app.
    pub app: PathBuf,
    /// Variables, the user's among them.
    pub variables: Variables,
}

/// For `bin/build`.
#[derive(Debug)]
pub struct BuildContext {
    /// The app.
    pub app: PathBuf,
    /// The buildpack's own folder.
    pub buildpack: PathBuf,
    /// Folder of the buildpack's layers.
    pub layers: PathBuf,
    /// Variables, the user's among them.
    pub variables: Variables,
}

impl BuildContext {
    /// The layer `name` as the last build left it, or a new one.
    #[must_use]
    pub fn layer(&self, name: &str) -> Layer {
        Layer::open(&self.layers, name)
    }

    /// A folder for what is needed during the build only: on the file system of the layers, so that files can be linked
    /// into them, and not in `/tmp`, which may be memory.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn scratch(&self) -> Result<tempfile::TempDir> {
        tempfile::Builder::new()
            .prefix(".scratch-")
            .tempdir_in(&self.layers)
            .map_err(Failure::file("create a folder in", &self.layers))
    }
}

/// What `bin/detect` answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Detection {
    /// The app is for this buildpack; what was found, for people, and the name that it provides in the build plan.
    Passed {
        /// Such as `Node.js 22`.
        found: String,
        /// Such as `node`, provided to and required by itself, so that others may require it too.
        provides: Option<String>,
    },
    /// It is not; what was looked for.
    Declined(String),
}

/// The two programs of a buildpack.
pub trait Buildpack {
    /// Whether the app is for this buildpack.
    ///
    /// # Errors
    /// Where that cannot be told.
    fn detect(&self, context: &DetectContext) -> Result<Detection>;

    /// Makes the layers.
    ///
    /// # Errors
    /// Why the app cannot be built.
    fn build(&self, context: &BuildContext) -> Result<()>;
}

/// Runs the program that the first argument names, `detect` or `build`, in the current directory.
pub fn run(buildpack: &dyn Buildpack, arguments: &[OsString], variables: Variables) -> ExitCode {
    let program = arguments
        .first()
        .and_then(|path| Path::new(path).file_name())
        .and_then(OsStr::to_str);
    let outcome = match program {
        Some("detect") => run_detect(buildpack, arguments, variables),
        Some("build") => run_build(buildpack, arguments, variables),
        _ => Err(Failure::new(
            "this program is bin/detect and bin/build of a buildpack, by the name it is called by",
            "Link it under both names.",
        )),
    };
    outcome.unwrap_or_else(|failure| {
        output::alert(&failure.cause);
        output::alert(&format!("Remedy: {}", failure.remedy));
        ExitCode::FAILURE
    })
}

/// The variable is the contract's way, the argument its older one.
fn path(variables: &Variables, name: &str, arguments: &[OsString], index: usize) -> Result<PathBuf> {
    let found = variables.get(name).map(PathBuf::from);
    found
        .or_else(|| arguments.get(index).map(PathBuf::from))
        .ok_or_else(|| {
            Failure::new(
                format!("the platform gives neither {name} nor argument {index}"),
                "Run it by a platform that follows the Cloud Native Buildpacks contract.",
            )
        })
}

fn current_folder() -> Result<PathBuf> {
    std::env::current_dir().map_err(Failure::file("enter", Path::new(".")))
}

fn run_detect(buildpack: &dyn Buildpack, arguments: &[OsString], variables: Variables) -> Result<ExitCode> {
    let plan = path(&variables, "CNB_BUILD_PLAN_PATH", arguments, 2)?;
    let app = current_folder()?;
    let detection = buildpack.detect(&DetectContext { app, variables });
    // Files that are there and cannot be understood are still this buildpack's: its build says what is wrong with them.
    let detection = detection.unwrap_or_else(|failure| Detection::Passed {
        found: format!("yes, but {}", failure.cause),
        provides: None,
    });
    match detection {
        Detection::Passed { found, provides } => {
            output::plain(&found);
            if let Some(name) = provides {
                let name = toml::Value::String(name);
                let text = format!("[[provides]]\nname = {name}\n[[requires]]\nname = {name}\n");
                std::fs::write(&plan, text).map_err(Failure::file("write", &plan))?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Detection::Declined(reason) => {
            output::plain(&reason);
            Ok(ExitCode::from(DECLINED))
        }
    }
}

fn run_build(buildpack: &dyn Buildpack, arguments: &[OsString], variables: Variables) -> Result<ExitCode> {
    let context = BuildContext {
        app: current_folder()?,
        buildpack: path(&variables, "CNB_BUILDPACK_DIR", &[], 0)?,
        layers: path(&variables, "CNB_LAYERS_DIR", arguments, 1)?,
        variables,
    };
    buildpack.build(&context)?;
    Ok(ExitCode::SUCCESS)
}
