//! The packages of the app, as Composer installs them from `composer.lock`.

use crate::project::Project;
use crate::runtime::{self, Php};
use buildpack_kit::tool::{self, Hint};
use buildpack_kit::{BuildContext, Result, Types, output};
use std::path::Path;
use std::process::Command;

/// Most bytes of downloaded packages that are kept for the next build.
const CACHE_BYTES: u64 = 512 * 1024 * 1024;

/// Installs the packages into the app's `vendor`, unless they were pushed along.
///
/// # Errors
/// Where Composer fails.
pub fn install(context: &BuildContext, project: &Project, php: &Php) -> Result<()> {
    if !project.composer || !project.installs {
        return Ok(());
    }
    if context.app.join("vendor/autoload.php").is_file() {
        output::headline("Packages: vendor was pushed along, and is used as it is");
        return Ok(());
    }
    if !project.locked {
        output::alert(
            "There is no composer.lock: the newest packages that fit are taken, and may be others next time.",
        );
        output::alert("Push the composer.lock that `composer install` writes.");
    }
    let composer = runtime::composer(context, php)?;
    let cache = context.layer("packages").bounded(CACHE_BYTES)?;
    let tmp = context.scratch()?;
    let shown = "composer install --no-dev --optimize-autoloader";
    output::headline(&format!("Packages: {shown}"));
    let mut command = command(context, php, &composer, tmp.path());
    command.env("COMPOSER_CACHE_DIR", &cache.dir);
    command.args(["install", "--no-dev", "--optimize-autoloader", "--prefer-dist"]);
    command.args(["--no-interaction", "--no-progress", "--no-ansi"]);
    tool::run(&mut command, "composer install", HINTS)?;
    if !project.locked {
        let _ = std::fs::remove_file(context.app.join("composer.lock"));
    }
    cache.settle()?;
    cache.keep(Types::CACHED, "1", &[])
}

fn command(context: &BuildContext, php: &Php, composer: &Path, home: &Path) -> Command {
    let mut command = Command::new(php.layer.dir.join("bin/php"));
    command
        .arg("-d")
        .arg(format!("include_path=.:{}", composer.join("share/php").display()))
        .args(["-d", "opcache.enable=0", "-d", "memory_limit=-1"])
        .arg(composer.join("bin/composer"))
        .current_dir(&context.app)
        .env("LD_LIBRARY_PATH", php.libraries())
        .env("PHPRC", php.layer.dir.join("etc"))
        .env("PHP_INI_SCAN_DIR", "")
        .env("COMPOSER_HOME", home)
        .env("HOME", home)
        .env("COMPOSER_ALLOW_SUPERUSER", "1");
    if let Some(bundle) = context.variables.get("SSL_CERT_FILE") {
        command.env("COMPOSER_CAFILE", bundle);
    }
    command
}

/// What Composer says, and what it means.
const HINTS: &[Hint] = &[
    Hint {
        words: &[
            "lock file is not up to date",
            "not present in the lock file",
            "lock file does not contain a compatible set",
        ],
        cause: "composer.json and composer.lock disagree (see above)",
        remedy: "Run `composer update --lock`, and push composer.json and composer.lock together.",
    },
    Hint {
        words: &["does not satisfy that requirement", "your php version"],
        cause: "a package asks for another PHP (see above)",
        remedy: "Say in composer.json which PHP the app needs; or take versions of the package that run on this one.",
    },
    Hint {
        words: &[
            "it is missing from your system",
            "requires ext-",
            "requires PHP extension",
        ],
        cause: "a package asks for an extension that is not there (see above)",
        remedy: "Require it in composer.json as ext-NAME, or name it in BP_PHP_EXTENSIONS.",
    },
    Hint {
        words: &[
            "could not be found in any version",
            "could not find a matching version",
            "could not find package",
        ],
        cause: "a package that the app asks for is not there (see above)",
        remedy: "Correct its name and version in composer.json.",
    },
    Hint {
        words: &[
            "does not contain valid JSON",
            "Parse error on line",
            "JsonValidationException",
            "does not match the expected JSON schema",
        ],
        cause: "composer.json or composer.lock is not as it should be (see above)",
        remedy: "Repair it; `composer validate` in a fresh copy of the app should fail in the same way.",
    },
    Hint {
        words: &[
            "curl error",
            "could not be fully loaded",
            "Failed to download",
            "could not be downloaded",
        ],
        cause: "a package could not be downloaded (see above)",
        remedy: "Try again; or push vendor along; the operator checks the egress policy, the proxy and the mirrors of staging.",
    },
    Hint {
        words: &["returned with error code"],
        cause: "a script of composer.json failed (see above)",
        remedy: "Run the same command in a fresh copy of the app: it should fail in the same way.",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_words() {
        let said = [
            "Warning: The lock file is not up to date with the latest changes in composer.json.",
            "  - a/b is locked to version 1 and requires php >=8.4 -> your php version (8.2.36) does not satisfy that requirement.",
            "  - Root composer.json requires PHP extension ext-redis * but it is missing from your system.",
            "  - Root composer.json requires no/such, it could not be found in any version",
            "curl error 6 while downloading https://repo.test/packages.json: Could not resolve host: repo.test",
            "Script build handling the post-install-cmd event returned with error code 3",
            "something else",
        ];
        let mut told = String::new();
        for line in said {
            let failure = tool::explain("composer install", line, false, HINTS);
            told.push_str(&format!("{line}\n  {}\n  -> {}\n\n", failure.cause, failure.remedy));
        }
        insta::assert_snapshot!(told);
    }
}
