//! How a buildpack's programs are run: arguments, `CNB_*` variables, and which other variables reach them.

use super::descriptor::{ARCH, Buildpack, Distro, EXEC_ENV};
use super::environment::Environment;
use model::secret::SecretEnv;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Variables of the platform that reach buildpacks besides the user's: search paths, locale, proxies, certificate bundles,
/// mirrors of package registries, and what Cloud Foundry tells builds.
const PASSED: &[&str] = &[
    "PATH",
    "LD_LIBRARY_PATH",
    "LIBRARY_PATH",
    "CPATH",
    "PKG_CONFIG_PATH",
    "HOSTNAME",
    "HOME",
    "LANG",
    "LC_ALL",
    "TZ",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NODE_EXTRA_CA_CERTS",
    "npm_config_cafile",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "CARGO_HTTP_CAINFO",
    "AWS_CA_BUNDLE",
    "npm_config_registry",
    "NPM_CONFIG_REGISTRY",
    "UV_DEFAULT_INDEX",
    "UV_INDEX_URL",
    "UV_PYTHON_INSTALL_MIRROR",
    "PIP_INDEX_URL",
    "GOPROXY",
    "GONOPROXY",
    "GOPRIVATE",
    "GOSUMDB",
    "GONOSUMDB",
    "CF_STACK",
    "MEMORY_LIMIT",
    "VCAP_APPLICATION",
    "VCAP_SERVICES",
];
/// Operators configure buildpacks by variables of this prefix.
const PASSED_PREFIX: &str = "BP_";

/// What all programs of a build share.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The app, their working directory.
    pub app: PathBuf,
    /// The contract's platform directory, with the user's variables in `env/`.
    pub platform: PathBuf,
    /// Name of the stack.
    pub stack: String,
    /// What the stack says it is; its own name where it does not say.
    pub distro: Distro,
    /// Variables of the platform that reach buildpacks.
    pub base: Environment,
}

impl Surroundings {
    /// Writes the platform directory below `tmp` and picks from `own`, the lifecycle's variables.
    ///
    /// # Errors
    /// Where a file cannot be written.
    pub fn prepare(
        app: &Path,
        tmp: &Path,
        stack: &str,
        user: &SecretEnv,
        own: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> std::io::Result<Self> {
        let platform = tmp.join("platform");
        let folder = platform.join("env");
        std::fs::create_dir_all(&folder)?;
        for (name, value) in user.expose() {
            // A name that is no file name cannot be passed by this contract; such names are no variables of any shell either.
            if !name.is_empty() && !name.contains(['/', '\0', '=']) && !name.starts_with('.') {
                std::fs::write(folder.join(name), value)?;
            }
        }
        let passed = |name: &OsStr| {
            name.to_str()
                .is_some_and(|name| PASSED.contains(&name) || name.starts_with(PASSED_PREFIX))
        };
        let mut base = Environment(own.into_iter().filter(|(name, _)| passed(name)).collect());
        if base.get("PATH").is_none() {
            base.set("PATH", "/usr/local/bin:/usr/bin:/bin");
        }
        base.set("CF_STACK", stack);
        Ok(Self {
            app: app.to_owned(),
            platform,
            stack: stack.to_owned(),
            distro: distribution(stack),
            base,
        })
    }

    /// A command for `program` of `buildpack` with `arguments`; `layers` are earlier ones' changes, as they left the environment.
    #[must_use]
    pub fn command(&self, buildpack: &Buildpack, program: &str, layers: &Environment) -> Command {
        let mut environment = layers.clone();
        if !buildpack.descriptor.buildpack.clear_env {
            self.add_user(&mut environment);
        }
        let mut command = Command::new(buildpack.dir.join("bin").join(program));
        command
            .env_clear()
            .envs(&environment.0)
            .env("CNB_BUILDPACK_DIR", &buildpack.dir)
            .env("CNB_PLATFORM_DIR", &self.platform)
            .env("CNB_TARGET_OS", "linux")
            .env("CNB_TARGET_ARCH", ARCH)
            .env("CNB_TARGET_ARCH_VARIANT", "")
            .env("CNB_TARGET_DISTRO_NAME", &self.distro.name)
            .env(
                "CNB_TARGET_DISTRO_VERSION",
                self.distro.version.as_deref().unwrap_or("unknown"),
            )
            .env("CNB_EXEC_ENV", EXEC_ENV)
            .current_dir(&self.app);
        command
    }

    /// A command for a script of a classic buildpack: the user's variables, and those of Cloud Foundry.
    #[must_use]
    pub fn classic_command(&self, program: &Path) -> Command {
        let mut environment = self.base.clone();
        // Heroku's name for the stack.
        environment.set("STACK", &self.stack);
        self.add_user(&mut environment);
        let mut command = Command::new(program);
        command.env_clear().envs(&environment.0).current_dir(&self.app);
        command
    }

    /// Search paths of the user come before the platform's, all other variables replace them.
    fn add_user(&self, environment: &mut Environment) {
        const SEARCH: &[&str] = &["PATH", "LD_LIBRARY_PATH", "LIBRARY_PATH", "CPATH", "PKG_CONFIG_PATH"];
        for (name, value) in super::environment::files(&self.platform.join("env")) {
            if SEARCH.iter().any(|search| name == *search) {
                environment.prepend(&name, &value, OsStr::new(":"));
            } else {
                environment.set(name, value);
            }
        }
    }
}

/// `ID` and `VERSION_ID` of the stack's os-release.
fn distribution(stack: &str) -> Distro {
    let text = std::fs::read_to_string("/etc/os-release").or_else(|_| std::fs::read_to_string("/usr/lib/os-release"));
    let (name, version) = text.as_deref().map(os_release).unwrap_or_default();
    Distro {
        name: name.unwrap_or_else(|| stack.to_owned()),
        version,
    }
}

fn os_release(text: &str) -> (Option<String>, Option<String>) {
    let value = |key: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
        Some(line.trim().trim_matches(['"', '\'']).to_owned()).filter(|value| !value.is_empty())
    };
    (value("ID"), value("VERSION_ID"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn variables(clear: bool) -> BTreeMap<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let mut user = SecretEnv::default();
        for (name, value) in [
            ("GREETING", "hello"),
            ("PATH", "/mine"),
            ("../evil", "x"),
            ("HTTP_PROXY", "user"),
        ] {
            user.set(name, value);
        }
        let own = [
            ("PATH", "/bin"),
            ("HTTP_PROXY", "platform"),
            ("TOKEN", "x"),
            ("BP_NODE_MIRROR", "m"),
        ]
        .map(|(name, value)| (name.into(), value.into()));
        let around = Surroundings::prepare(Path::new("/"), folder.path(), "host", &user, own).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        let buildpack = Buildpack {
            name: "x".to_owned(),
            dir: "/bp".into(),
            api: 10,
            descriptor: toml::from_str(&format!("api='0.10'\nbuildpack={{id='x',clear-env={clear}}}")).unwrap(),
        };
        let command = around.command(&buildpack, "build", &around.base);
        assert_eq!(command.get_program(), "/bp/bin/build");
        let text = |value: &OsStr| value.to_str().unwrap().to_owned();
        command
            .get_envs()
            .filter_map(|(name, value)| Some((text(name), text(value?))))
            .collect()
    }

    #[test]
    fn the_user_s_variables_come_after_the_platform_s() {
        let variables = variables(false);
        assert_eq!(variables["GREETING"], "hello");
        assert_eq!(variables["PATH"], "/mine:/bin");
        assert_eq!(variables["HTTP_PROXY"], "user");
        assert_eq!(variables["BP_NODE_MIRROR"], "m");
        assert!(!variables["CNB_TARGET_DISTRO_NAME"].is_empty());
        assert!(!variables.contains_key("TOKEN"));
    }

    #[test]
    fn clear_env_keeps_the_user_s_variables_out() {
        let variables = variables(true);
        assert!(!variables.contains_key("GREETING"));
        assert_eq!(variables["HTTP_PROXY"], "platform");
    }

    #[test]
    fn a_stack_says_what_it_is() {
        let text = "NAME=x\nVERSION_ID=\"12\"\nID=debian\nID_LIKE=y\n";
        assert_eq!(os_release(text), (Some("debian".to_owned()), Some("12".to_owned())));
        assert_eq!(os_release("ID=\n"), (None, None));
    }
}
