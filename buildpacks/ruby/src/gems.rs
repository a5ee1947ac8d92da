//! The layer with the gems of the app, as Bundler installs them from `Gemfile.lock`.

use crate::interpreter::{self, Ruby};
use crate::lock::Lock;
use buildpack_kit::tool::{self, Hint};
use buildpack_kit::{BuildContext, Failure, Layer, Result, Types, app, key, output};
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Groups of gems that only development needs.
const WITHOUT: &str = "development:test";
/// Changes whenever the layout of the layer does.
const LAYOUT: &[u8] = b"1";

/// Everything Bundler works with.
pub struct Workshop<'a> {
    /// The build.
    pub context: &'a BuildContext,
    /// The interpreter.
    pub ruby: &'a Ruby,
    /// Where gems are.
    pub gems: Layer,
    tmp: &'a Path,
}

impl<'a> Workshop<'a> {
    /// With a folder for what nobody needs afterwards.
    #[must_use]
    pub fn new(context: &'a BuildContext, ruby: &'a Ruby, tmp: &'a Path) -> Self {
        Self {
            context,
            ruby,
            gems: context.layer("gems"),
            tmp,
        }
    }

    /// A program of the interpreter's, as the app will find it.
    pub fn command(&self, program: &str) -> Command {
        let bin = self.ruby.layer.dir.join("bin");
        let variables = &self.context.variables;
        let mut path = OsString::from(&bin);
        path.push(":");
        path.push(variables.get("PATH").unwrap_or("/usr/local/bin:/usr/bin:/bin"));
        let mut command = Command::new(bin.join(program));
        command.current_dir(&self.context.app).env("PATH", path);
        command.envs(interpreter::variables(&self.ruby.layer, &self.ruby.version));
        command.envs(self.settings());
        command
            .env("HOME", self.tmp)
            .env("BUNDLE_USER_HOME", self.tmp.join("bundle"))
            .env("BUNDLE_RETRY", "3")
            // It would fetch the Bundler that wrote the lock; this one reads it as well.
            .env("BUNDLE_VERSION", "system");
        for name in ["RUBYOPT", "GEM_HOME", "BUNDLE_BIN_PATH"] {
            command.env_remove(name);
        }
        command
    }

    /// Settings of Bundler that hold for the build and for the app.
    #[must_use]
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        let without = self.context.variables.get("BUNDLE_WITHOUT").unwrap_or(WITHOUT);
        let locked = self.context.app.join("Gemfile.lock").is_file();
        vec![
            ("BUNDLE_PATH", self.gems.dir.display().to_string()),
            ("BUNDLE_WITHOUT", without.to_owned()),
            ("BUNDLE_FROZEN", locked.to_string()),
            // What the app's own folder .bundle says was meant for another machine.
            ("BUNDLE_APP_CONFIG", self.gems.dir.join(".config").display().to_string()),
        ]
    }

    /// Installs the gems, or finds the layer as it should be.
    ///
    /// # Errors
    /// Where Bundler fails.
    pub fn install(&mut self, lock: Option<&Lock>) -> Result<()> {
        let key = self.key()?;
        if self.gems.is(&key) {
            output::headline("Gems: reused");
            return self.gems.keep(Types::ALL, &key, &[]);
        }
        if lock.is_none() {
            output::alert("There is no Gemfile.lock: the newest gems that fit are taken, and may be others next time.");
            output::alert("Push the Gemfile.lock that `bundle install` writes.");
        }
        self.gems.reset()?;
        let mut command = self.command("bundle");
        command.args(["install", "--no-color", "--jobs", "4"]);
        let vendored = self.context.app.join("vendor/cache").is_dir();
        if vendored {
            command.arg("--local");
        }
        output::headline(&format!(
            "Gems: bundle install{}",
            if vendored { ", from vendor/cache" } else { "" }
        ));
        tool::run(&mut command, "bundle install", HINTS)?;
        self.tidy();
        self.gems.keep(Types::ALL, &key, &[])
    }

    /// What decides the contents of the layer.
    fn key(&self) -> Result<String> {
        let app = &self.context.app;
        let files = app::key_of(app, |name| {
            matches!(name, "Gemfile" | "Gemfile.lock")
                || name.ends_with(".gemspec")
                || name.starts_with("vendor/cache/")
        })?;
        let settings: Vec<String> = self
            .settings()
            .into_iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        Ok(key(&[
            LAYOUT,
            files.as_bytes(),
            self.ruby.version.as_bytes(),
            settings.join("\n").as_bytes(),
        ]))
    }

    /// Removes what was downloaded and what compiling left, which differs from build to build.
    fn tidy(&self) {
        let roots = fs::read_dir(self.gems.dir.join("ruby")).into_iter().flatten().flatten();
        for root in roots {
            let _ = fs::remove_dir_all(root.path().join("cache"));
            let extensions = app::files(&root.path().join("extensions"));
            let logs = extensions
                .iter()
                .filter(|name| name.ends_with("gem_make.out") || name.ends_with("mkmf.log"));
            for log in logs {
                let _ = fs::remove_file(root.path().join("extensions").join(log));
            }
        }
    }

    /// Runs a task of the app.
    ///
    /// # Errors
    /// Where it fails.
    pub fn rake(&self, task: &str) -> Result<()> {
        output::headline(&format!("Task: rake {task}"));
        let mut command = self.command("bundle");
        command
            .args(["exec", "rake", task])
            .env("RAILS_ENV", "production")
            .env("RACK_ENV", "production");
        // Compiling needs none of the app's secrets, and Rails insists on one.
        command.env("SECRET_KEY_BASE_DUMMY", "1");
        if self.context.variables.get("SECRET_KEY_BASE").is_none() {
            command.env("SECRET_KEY_BASE", "only-while-staging");
        }
        tool::run(&mut command, &format!("rake {task}"), HINTS)?;
        Ok(())
    }
}

/// Removes the file that a build of an app without a lock wrote into it.
///
/// # Errors
/// Where it cannot be removed.
pub fn forget_lock(app: &Path) -> Result<()> {
    let path = app.join("Gemfile.lock");
    match fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Failure::file("remove", &path)(error)),
        _ => Ok(()),
    }
}

/// What Bundler says, and what it means.
pub const HINTS: &[Hint] = &[
    Hint {
        words: &["Your Ruby version is"],
        cause: "the Gemfile asks for another Ruby (see above)",
        remedy: "Give a range in the Gemfile, such as ruby \"~> 3.1\"; or use a stack of another release of Debian, which has another Ruby.",
    },
    Hint {
        words: &[
            "dependencies in your gemfile changed",
            "the lockfile can't be updated",
            "lockfile does not satisfy dependencies",
            "cannot be updated because frozen mode",
            "gemspecs for path gems changed",
        ],
        cause: "Gemfile and Gemfile.lock disagree (see above)",
        remedy: "Run `bundle install`, and push Gemfile and Gemfile.lock together.",
    },
    Hint {
        words: &["but that platform is not", "Your bundle only supports platforms"],
        cause: "Gemfile.lock was made for another machine (see above)",
        remedy: "Run `bundle lock --add-platform x86_64-linux`, and push Gemfile.lock.",
    },
    Hint {
        words: &[
            "There was an error parsing `Gemfile`",
            "There was an error while loading",
            "Your lockfile is unreadable",
            "Your Gemfile.lock contains merge conflicts",
        ],
        cause: "Gemfile or Gemfile.lock cannot be read (see above)",
        remedy: "Repair it; `bundle check` in a fresh copy of the app should fail in the same way.",
    },
    Hint {
        words: &[
            "Could not reach host",
            "Could not fetch specs",
            "Network error while fetching",
            "Gem::RemoteFetcher::FetchError",
        ],
        cause: "a server of gems could not be reached (see above)",
        remedy: "Try again; or push the gems along (`bundle cache`); the operator checks the egress policy, the proxy and BUNDLE_MIRROR__ALL of staging.",
    },
    Hint {
        words: &[
            "in locally installed gems",
            "in any of the sources",
            "in rubygems repository",
            "Could not find gem",
        ],
        cause: "a gem that the app asks for is not there (see above)",
        remedy: "Correct its name and version; where vendor/cache is pushed, `bundle cache --all-platforms` puts all gems into it.",
    },
    Hint {
        words: &[
            "Failed to build gem native extension",
            "mkmf.rb can't find",
            "extconf failed",
        ],
        cause: "a gem with a part in C could not be compiled (see above)",
        remedy: "The operator adds the library or the compiler (build-essential) to the stack; or take a version of the gem that is compiled already.",
    },
    Hint {
        words: &["Checksum of", "checksum mismatch", "ChecksumMismatchError"],
        cause: "a gem is not the one that Gemfile.lock describes (see above)",
        remedy: "Find out why it changed; `bundle update` of that gem writes the new checksum.",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_words() {
        let said = [
            "Your Ruby version is 3.1.7, but your Gemfile specified 3.3.0",
            "The dependencies in your gemfile changed, but the lockfile can't be updated because frozen mode is set",
            "Your bundle only supports platforms [\"arm64-darwin\"] but your local platform is x86_64-linux",
            "Could not reach host gems.test. Check your network connection and try again.",
            "Could not find gem 'nonsense' in rubygems repository or installed locally.",
            "Gem::Ext::BuildError: ERROR: Failed to build gem native extension.",
            "something else",
        ];
        let mut told = String::new();
        for line in said {
            let failure = tool::explain("bundle install", line, false, HINTS);
            told.push_str(&format!("{line}\n  {}\n  -> {}\n\n", failure.cause, failure.remedy));
        }
        insta::assert_snapshot!(told);
    }

    #[test]
    fn a_lock_that_a_build_wrote_goes_again() {
        let folder = tempfile::tempdir().unwrap();
        forget_lock(folder.path()).unwrap();
        fs::write(folder.path().join("Gemfile.lock"), "").unwrap();
        forget_lock(folder.path()).unwrap();
        assert!(!folder.path().join("Gemfile.lock").exists());
    }
}
