//! Where settings come from, in order: flag, `PAAS_*` variable, project file, user file, server default.
//!
//! Not the place for defaults of single commands: those are in `args`.

pub mod environment;
pub mod file;

pub use environment::Environment;

use crate::errors::Error;
use file::{Context, UserFile};
use model::Secret;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Name of the project file, looked for in the current folder and above.
pub const PROJECT_FILE: &str = ".paas.toml";
/// Where `paasd dev` leaves a login for the local user, if root runs it.
pub const DEV_LOGIN: &str = "/var/lib/paas/login.json";
/// The same below the state folder of a user who runs it.
const OWN_LOGIN: &str = "login.json";
/// Name of the context made from it.
pub const DEV_CONTEXT: &str = "local";
/// Largest configuration file that is read, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// What flags say about the target.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    pub context: Option<String>,
    pub org: Option<String>,
    pub space: Option<String>,
}

/// The project file. It chooses among contexts that the user has; it can't name a server to send credentials to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Project {
    pub context: Option<String>,
    pub org: Option<String>,
    pub space: Option<String>,
}

/// The login that a development platform leaves for its user.
#[derive(Debug, Clone, Deserialize)]
pub struct DevLogin {
    pub api: String,
    #[serde(default)]
    pub username: Option<String>,
    #[serde(default)]
    pub password: Option<Secret>,
    #[serde(default)]
    pub refresh_token: Option<Secret>,
    #[serde(default)]
    pub org: Option<String>,
    #[serde(default)]
    pub space: Option<String>,
}

/// A setting and where its value is from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Setting {
    pub key: &'static str,
    pub value: Option<String>,
    pub source: String,
}

/// The settings in force.
#[derive(Debug, Clone)]
pub struct Config {
    /// Name of the context in use; empty where there is none.
    pub context_name: String,
    /// It, with flags, environment and project file applied.
    pub context: Option<Context>,
    /// User name and password to log in with where the context has no valid token.
    pub credentials: Option<(String, Secret)>,
    /// A token from the environment, used as it is.
    pub token: Option<Secret>,
    /// Whether tokens are written back to the user file.
    pub persistent: bool,
    /// All of it, for `paas config explain`.
    pub settings: Vec<Setting>,
    /// The user file.
    pub user_path: PathBuf,
    /// Folder for caches.
    pub cache: PathBuf,
}

/// A value with its source, the first of several that is there.
fn pick(key: &'static str, candidates: Vec<(Option<String>, String)>) -> Setting {
    candidates
        .into_iter()
        .find_map(|(value, source)| {
            value.map(|value| Setting {
                key,
                value: Some(value),
                source,
            })
        })
        .unwrap_or(Setting {
            key,
            value: None,
            source: "not set".into(),
        })
}

impl Config {
    /// Reads what there is and applies the order of precedence.
    ///
    /// # Errors
    /// A file that is there and can't be read or understood; a context that is asked for and not there.
    pub fn load(env: &Environment, flags: &Flags) -> Result<Self, Error> {
        let user_path = env.config_dir().join("config.toml");
        let user = UserFile::read(&user_path)?;
        let (project, project_path) = find_project(&env.cwd)?;
        let from_project = format!("project file {}", project_path.display());
        let from_user = format!("user file {}", user_path.display());
        let known = user
            .contexts
            .get(DEV_CONTEXT)
            .and_then(|context| context.dev_login.clone());
        let dev_path = env
            .var("PAAS_DEV_LOGIN")
            .map(PathBuf::from)
            .unwrap_or_else(|| local_login(known, PathBuf::from(DEV_LOGIN), env.state_dir().join(OWN_LOGIN)));
        let dev = read_dev_login(&dev_path);
        let context = pick(
            "context",
            vec![
                (flags.context.clone(), "flag --context".into()),
                (env.var("PAAS_CONTEXT"), "PAAS_CONTEXT".into()),
                (project.context.clone(), from_project.clone()),
                (user.current.clone(), from_user.clone()),
                (
                    dev.as_ref()
                        .filter(|_| env.var("PAAS_API").is_none())
                        .map(|_| DEV_CONTEXT.to_owned()),
                    format!("local platform {}", dev_path.display()),
                ),
            ],
        );
        let name = context.value.clone().unwrap_or_default();
        let stored = user.contexts.get(&name).cloned();
        let dev = dev.filter(|_| {
            stored
                .as_ref()
                .map_or(name == DEV_CONTEXT, |stored| stored.dev_login.is_some())
        });
        if stored.is_none() && dev.is_none() && !name.is_empty() {
            return Err(Error::NotFound {
                kind: "context",
                name,
                place: user_path.display().to_string(),
                similar: user.contexts.keys().cloned().collect(),
            });
        }
        // A local platform that was set up anew elsewhere has another address, and other tokens.
        let moved = |stored: &Context| dev.as_ref().is_some_and(|dev| Context::new(&dev.api).api != stored.api);
        let base = stored
            .filter(|stored| !moved(stored))
            .or_else(|| dev.as_ref().map(|dev| Context::from_dev(dev, &dev_path)));
        let mut config = Self {
            context_name: name,
            context: base.clone(),
            credentials: None,
            token: env.var("PAAS_TOKEN").map(Secret::new),
            persistent: true,
            settings: vec![context],
            user_path,
            cache: env.cache_dir(),
        };
        config.apply_target(env, flags, &project, base.as_ref(), &from_project, &from_user);
        config.apply_credentials(env, dev.as_ref());
        Ok(config)
    }

    fn apply_target(
        &mut self,
        env: &Environment,
        flags: &Flags,
        project: &Project,
        base: Option<&Context>,
        from_project: &str,
        from_user: &str,
    ) {
        let stored = |get: fn(&Context) -> Option<String>| (base.and_then(get), from_user.to_owned());
        let api = pick(
            "api",
            vec![
                (env.var("PAAS_API"), "PAAS_API".into()),
                stored(|c| Some(c.api.clone())),
            ],
        );
        let org = pick(
            "org",
            vec![
                (flags.org.clone(), "flag --org".into()),
                (env.var("PAAS_ORG"), "PAAS_ORG".into()),
                (project.org.clone(), from_project.to_owned()),
                stored(|c| c.org.clone()),
            ],
        );
        let space = pick(
            "space",
            vec![
                (flags.space.clone(), "flag --space".into()),
                (env.var("PAAS_SPACE"), "PAAS_SPACE".into()),
                (project.space.clone(), from_project.to_owned()),
                stored(|c| c.space.clone()),
            ],
        );
        if let Some(api) = &api.value {
            let same = base.is_some_and(|base| base.api == *api);
            // Tokens belong to the server that gave them: another address never sees them.
            let mut context = base.filter(|_| same).cloned().unwrap_or_else(|| Context::new(api));
            self.persistent = same;
            context.org.clone_from(&org.value);
            context.space.clone_from(&space.value);
            self.context = Some(context);
        }
        self.settings.extend([api, org, space]);
    }

    fn apply_credentials(&mut self, env: &Environment, dev: Option<&DevLogin>) {
        let from_env = env.var("PAAS_USERNAME").zip(env.var("PAAS_PASSWORD").map(Secret::new));
        let from_dev = dev
            .filter(|_| self.persistent)
            .and_then(|dev| dev.username.clone().zip(dev.password.clone()));
        let shown = |value: bool| value.then(|| "[set]".to_owned());
        self.settings.push(pick(
            "credentials",
            vec![
                (shown(self.token.is_some()), "PAAS_TOKEN".into()),
                (shown(from_env.is_some()), "PAAS_USERNAME and PAAS_PASSWORD".into()),
                (
                    shown(
                        self.context
                            .as_ref()
                            .is_some_and(|context| context.refresh_token.is_some()),
                    ),
                    format!("user file {}", self.user_path.display()),
                ),
                (shown(from_dev.is_some()), "local platform's login".into()),
            ],
        ));
        self.credentials = from_env.or(from_dev);
    }

    /// The context in use.
    ///
    /// # Errors
    /// Where there is none.
    pub fn context(&self) -> Result<&Context, Error> {
        self.context.as_ref().ok_or(Error::NotLoggedIn)
    }
}

/// The nearest project file at or above `folder`, not above the repository that it belongs to.
fn find_project(folder: &Path) -> Result<(Project, PathBuf), Error> {
    for folder in folder.ancestors() {
        let path = folder.join(PROJECT_FILE);
        if let Some(text) = read_small(&path)? {
            let project = toml::from_str(&text).map_err(|error| Error::ConfigBroken {
                path: path.clone(),
                detail: error.message().to_owned(),
            })?;
            return Ok((project, path));
        }
        if folder.join(".git").exists() {
            break;
        }
    }
    Ok((Project::default(), PathBuf::from(PROJECT_FILE)))
}

/// Where the login of the local platform is: where it was found before if that is a place of its own, else with root or
/// with this user, whoever started one last.
fn local_login(known: Option<PathBuf>, root: PathBuf, own: PathBuf) -> PathBuf {
    if let Some(known) = known.filter(|known| *known != root && *known != own) {
        return known;
    }
    let written = |path: &Path| std::fs::metadata(path).and_then(|found| found.modified()).ok();
    if written(&own) > written(&root) { own } else { root }
}

/// A development login, where there is one that this user may read. Anything else means that there is none.
fn read_dev_login(path: &Path) -> Option<DevLogin> {
    let text = read_small(path).ok().flatten()?;
    serde_json::from_str(&text).ok()
}

/// The text of a configuration file; `None` where there is no such file.
fn read_small(path: &Path) -> Result<Option<String>, Error> {
    let broken = |detail: String| Error::ConfigBroken {
        path: path.to_owned(),
        detail,
    };
    match std::fs::metadata(path) {
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(broken(error.to_string())),
        Ok(meta) if meta.len() > MAX_FILE => Err(broken(format!("it is larger than {MAX_FILE} bytes"))),
        Ok(_) => std::fs::read_to_string(path)
            .map(Some)
            .map_err(|error| broken(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(home: &Path, vars: &[(&str, &str)]) -> Environment {
        let mut all = vec![
            ("HOME", home.to_str().expect("UTF-8")),
            ("PAAS_DEV_LOGIN", "/nonexistent"),
        ];
        all.extend_from_slice(vars);
        Environment::fake(home, &all)
    }

    fn write_user(home: &Path) {
        let mut user = UserFile {
            current: Some("one".into()),
            ..UserFile::default()
        };
        let mut context = Context::new("http://one.test");
        context.org = Some("org1".into());
        context.space = Some("space1".into());
        context.refresh_token = Some(Secret::new("r"));
        user.contexts.insert("one".into(), context);
        user.contexts.insert("two".into(), Context::new("http://two.test"));
        user.write(&home.join(".config/paas/config.toml")).expect("written");
    }

    #[test]
    fn flag_beats_environment_beats_project_beats_user_file() {
        let home = tempfile::tempdir().expect("folder");
        write_user(home.path());
        let load = |vars: &[(&str, &str)], flags: &Flags| {
            let config = Config::load(&environment(home.path(), vars), flags).expect("loads");
            config
                .settings
                .iter()
                .find(|s| s.key == "space")
                .cloned()
                .expect("there")
        };
        assert_eq!(load(&[], &Flags::default()).value.as_deref(), Some("space1"));
        std::fs::write(home.path().join(PROJECT_FILE), "space = \"space2\"\n").expect("written");
        assert_eq!(load(&[], &Flags::default()).value.as_deref(), Some("space2"));
        assert_eq!(
            load(&[("PAAS_SPACE", "space3")], &Flags::default()).value.as_deref(),
            Some("space3")
        );
        let flags = Flags {
            space: Some("space4".into()),
            ..Flags::default()
        };
        let setting = load(&[("PAAS_SPACE", "space3")], &flags);
        assert_eq!(
            (setting.value.as_deref(), setting.source.as_str()),
            (Some("space4"), "flag --space")
        );
    }

    #[test]
    fn tokens_never_go_to_another_server() {
        let home = tempfile::tempdir().expect("folder");
        write_user(home.path());
        let config = Config::load(
            &environment(home.path(), &[("PAAS_API", "http://evil.test")]),
            &Flags::default(),
        );
        let context = config.expect("loads").context.expect("there");
        assert_eq!(
            (context.api.as_str(), context.refresh_token),
            ("http://evil.test", None)
        );
    }

    #[test]
    fn a_project_file_may_not_name_a_server() {
        let home = tempfile::tempdir().expect("folder");
        std::fs::write(home.path().join(PROJECT_FILE), "api = \"http://evil.test\"\n").expect("written");
        let error = Config::load(&environment(home.path(), &[]), &Flags::default()).expect_err("refused");
        assert!(matches!(error, Error::ConfigBroken { .. }));
    }

    #[test]
    fn a_local_platform_that_moved_is_found_again() {
        let home = tempfile::tempdir().expect("folder");
        let login = home.path().join("login.json");
        let env = environment(home.path(), &[("PAAS_DEV_LOGIN", login.to_str().expect("UTF-8"))]);
        let write = |api: &str| {
            let text = format!(r#"{{"api":"{api}","username":"admin","password":"p","org":"dev","space":"dev"}}"#);
            std::fs::write(&login, text).expect("written");
        };
        write("http://127.0.0.1:1");
        let config = Config::load(&env, &Flags::default()).expect("loads");
        let mut context = config.context.expect("there");
        context.access_token = Some(Secret::new("old"));
        UserFile::update(&config.user_path, |user| {
            user.contexts.insert(DEV_CONTEXT.into(), context);
        })
        .expect("written");
        let again = Config::load(&env, &Flags::default())
            .expect("loads")
            .context
            .expect("there");
        assert!(again.access_token.is_some());
        write("http://127.0.0.1:2");
        let moved = Config::load(&env, &Flags::default())
            .expect("loads")
            .context
            .expect("there");
        assert_eq!((moved.api.as_str(), moved.access_token), ("http://127.0.0.1:2", None));
    }

    #[test]
    fn the_local_platform_is_the_one_that_was_started_last() {
        let home = tempfile::tempdir().expect("folder");
        let [root, own, other] = ["root", "own", "other"].map(|name| home.path().join(name));
        let find = |known: Option<&PathBuf>| local_login(known.cloned(), root.clone(), own.clone());
        assert_eq!(find(None), root);
        assert_eq!(find(Some(&other)), other);
        std::fs::write(&own, "").expect("written");
        assert_eq!((find(None), find(Some(&root))), (own.clone(), own.clone()));
        let later = std::time::SystemTime::now() + std::time::Duration::from_secs(9);
        let file = std::fs::File::create(&root).expect("written");
        file.set_modified(later).expect("set");
        assert_eq!((find(None), find(Some(&own))), (root.clone(), root.clone()));
    }

    #[test]
    fn an_unknown_context_names_those_there_are() {
        let home = tempfile::tempdir().expect("folder");
        write_user(home.path());
        let flags = Flags {
            context: Some("three".into()),
            ..Flags::default()
        };
        let error = Config::load(&environment(home.path(), &[]), &flags).expect_err("refused");
        assert!(matches!(error, Error::NotFound { similar, .. } if similar == ["one", "two"]));
    }

    #[test]
    fn a_local_platform_is_used_where_nothing_is_configured() {
        let home = tempfile::tempdir().expect("folder");
        let login = home.path().join("login.json");
        let text = r#"{"api":"http://127.0.0.1:8181","username":"admin","password":"p","org":"dev","space":"dev"}"#;
        std::fs::write(&login, text).expect("written");
        let env = environment(home.path(), &[("PAAS_DEV_LOGIN", login.to_str().expect("UTF-8"))]);
        let config = Config::load(&env, &Flags::default()).expect("loads");
        assert_eq!(config.context_name, DEV_CONTEXT);
        assert!(config.credentials.is_some());
        write_user(home.path());
        let config = Config::load(&env, &Flags::default()).expect("loads");
        assert_eq!(config.context_name, "one");
        assert!(config.credentials.is_none(), "the local login is not for other servers");
    }
}
