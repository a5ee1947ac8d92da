//! The layers with PHP and nginx, and with Composer: Debian's packages for the stack, unpacked.

use crate::extensions;
use crate::project::Project;
use crate::version::Wanted;
use buildpack_kit::http::Client;
use buildpack_kit::source::debian::{Debian, below_usr};
use buildpack_kit::source::{self, Provided, Recipe};
use buildpack_kit::{BuildContext, Failure, Layer, Result, Types, Variables, output};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Changes whenever the layout of the layers does.
const LAYOUT: &str = "1";

/// PHP in its layer.
#[derive(Debug)]
pub struct Php {
    /// The layer.
    pub layer: Layer,
    /// `8.2.36`.
    pub version: String,
}

impl Php {
    /// `8.2`.
    #[must_use]
    pub fn line(&self) -> String {
        line(&self.version)
    }

    /// Where its libraries are.
    #[must_use]
    pub fn libraries(&self) -> PathBuf {
        self.layer.dir.join(format!("lib/{}-linux-gnu", std::env::consts::ARCH))
    }
}

/// Installs PHP and nginx, or finds the layer as it should be.
///
/// # Errors
/// Where no release will do, an extension cannot be had, or anything cannot be downloaded.
pub fn install(context: &BuildContext, project: &Project, wanted: &Wanted) -> Result<Php> {
    let debian = Debian::of_stack(&context.variables, "php", is_php)?;
    let mut asked = project.extensions.clone();
    asked.extend(named(&context.variables));
    let layout = format!("{LAYOUT}-{}", asked.iter().cloned().collect::<Vec<_>>().join("+"));
    let wish = source::Wanted {
        layer: "php",
        title: "PHP",
        text: &wanted.text,
        said_by: wanted.said_by,
        types: Types::ALL,
        layout: &layout,
    };
    let recipe = Recipe {
        choose: &|releases| wanted.choose(releases),
        place: &place,
        finish: &|layer| complete(context, &debian, layer, &asked),
    };
    let Provided { layer, version } = source::provide(context, &wish, &debian, &recipe)?;
    Ok(Php { layer, version })
}

fn named(variables: &Variables) -> impl Iterator<Item = String> {
    let text = variables.get("BP_PHP_EXTENSIONS").unwrap_or_default();
    let words = text.split([' ', ',']).filter(|word| !word.is_empty());
    words
        .map(|word| word.to_ascii_lowercase())
        .collect::<Vec<_>>()
        .into_iter()
}

/// The package whose version is that of PHP, such as `php8.2-cli`.
fn is_php(name: &str) -> bool {
    let line = name
        .strip_prefix("php")
        .and_then(|rest| rest.strip_suffix("-cli"))
        .unwrap_or_default();
    line.contains('.')
        && line
            .split('.')
            .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
}

fn line(version: &str) -> String {
    version.split('.').take(2).collect::<Vec<_>>().join(".")
}

fn complete(context: &BuildContext, debian: &Debian, layer: &Layer, asked: &BTreeSet<String>) -> Result<()> {
    let client = Client::new(&context.variables)?;
    let line = line_of(layer)?;
    let exists = |name: &str| Ok(debian.package(&client, name)?.is_some());
    let packages = extensions::packages(&line, asked, &exists)?;
    let mut roots: Vec<&str> = packages.iter().map(String::as_str).collect();
    roots.push("nginx");
    let all = debian.closure(&client, &roots)?;
    output::detail(&format!("{} packages of Debian", all.len()));
    debian.unpack(&client, &all, &layer.dir, &place)?;
    configure(&layer.dir)
}

/// `8.2`, by the program that is there.
fn line_of(layer: &Layer) -> Result<String> {
    let bin = layer.dir.join("bin");
    let entries = fs::read_dir(&bin).map_err(Failure::file("read", &bin))?;
    let mut names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let found = names.find_map(|name| {
        name.strip_prefix("php")
            .filter(|line| line.starts_with(|c: char| c.is_ascii_digit()))
            .map(str::to_owned)
    });
    found.ok_or_else(|| {
        Failure::new(
            "the package of PHP has no program",
            "The operator checks the mirror of staging (BP_DEBIAN_MIRROR).",
        )
    })
}

/// The packages' files without what nobody runs.
fn place(path: &Path) -> Option<PathBuf> {
    let left_out = [
        "share/doc",
        "share/man",
        "share/lintian",
        "lib/systemd",
        "lib/tmpfiles.d",
        "share/locale",
        "share/bug",
    ];
    below_usr(path, &["bin", "sbin", "lib", "share"], &left_out)
}

/// Writes the `php.ini`: what production needs, and the extensions that were unpacked.
fn configure(dir: &Path) -> Result<()> {
    let modules = dir.join("lib/php");
    let entries = fs::read_dir(&modules).map_err(Failure::file("read", &modules))?;
    let is_api = |name: &str| name.len() == 8 && name.bytes().all(|byte| byte.is_ascii_digit());
    let folder = entries
        .flatten()
        .find(|entry| entry.file_name().to_str().is_some_and(is_api));
    let folder = folder.map(|entry| entry.path()).ok_or_else(|| {
        Failure::new(
            "the packages of PHP have no extensions",
            "The operator checks the mirror of staging (BP_DEBIAN_MIRROR).",
        )
    })?;
    let text = format!(
        "{INI}extension_dir = \"{}\"\n{}",
        folder.display(),
        extensions::switches(&folder)
    );
    let etc = dir.join("etc");
    fs::create_dir_all(&etc).map_err(Failure::file("create", &etc))?;
    let path = etc.join("php.ini");
    fs::write(&path, text).map_err(Failure::file("write", &path))?;
    // Scripts ask for it by this name.
    let plain = dir.join("bin/php");
    if !plain.exists() {
        let name = fs::read_dir(dir.join("bin"))
            .map_err(Failure::file("read", dir))?
            .flatten()
            .map(|entry| entry.file_name())
            .find(|name| {
                name.to_str().is_some_and(|name| {
                    name.strip_prefix("php")
                        .is_some_and(|line| line.starts_with(|c: char| c.is_ascii_digit()))
                })
            });
        if let Some(name) = name {
            std::os::unix::fs::symlink(name, &plain).map_err(Failure::file("link", &plain))?;
        }
    }
    Ok(())
}

/// Settings for production: errors into the log and not into pages.
const INI: &str = "\
; Written when the app was built. The app's own .user.ini files and PHP_INI_SCAN_DIR come after it.
display_errors = Off
display_startup_errors = Off
log_errors = On
error_reporting = E_ALL & ~E_DEPRECATED & ~E_STRICT
expose_php = Off
variables_order = \"GPCSE\"
upload_max_filesize = 64M
post_max_size = 64M
realpath_cache_size = 4M
opcache.validate_timestamps = Off
opcache.memory_consumption = 64
";

/// Installs Composer, or finds the layer as it should be: its folder.
///
/// # Errors
/// Where it cannot be had.
pub fn composer(context: &BuildContext, php: &Php) -> Result<PathBuf> {
    let mut layer = context.layer("composer");
    let key = format!("{LAYOUT}-{}", php.version);
    if !layer.is(&key) {
        output::headline("Composer: installing from the packages of the stack's distribution");
        let debian = Debian::of_stack(&context.variables, "php", is_php)?;
        let client = Client::new(&context.variables)?;
        layer.reset()?;
        let all = debian.closure(&client, &["composer"])?;
        let own: Vec<String> = all
            .into_iter()
            .filter(|name| !name.contains(&php.line()) && !name.starts_with("lib"))
            .collect();
        debian.unpack(&client, &own, &layer.dir, &place)?;
    }
    layer.keep(Types::CACHED, &key, &[])?;
    Ok(layer.dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_interpreter_is_the_interpreter() {
        assert!(is_php("php8.2-cli"));
        assert!(!is_php("php-cli") && !is_php("php8.2-fpm") && !is_php("php8.2"));
        assert_eq!(line("8.2.36"), "8.2");
    }

    #[test]
    fn settings_name_the_extensions_that_are_there() {
        let folder = tempfile::tempdir().unwrap();
        let modules = folder.path().join("lib/php/20220829");
        fs::create_dir_all(&modules).unwrap();
        fs::create_dir_all(folder.path().join("bin")).unwrap();
        fs::write(folder.path().join("bin/php8.2"), "").unwrap();
        fs::write(modules.join("curl.so"), "").unwrap();
        configure(folder.path()).unwrap();
        let text = fs::read_to_string(folder.path().join("etc/php.ini")).unwrap();
        assert!(
            text.contains("20220829\"\nextension = curl\n") && text.contains("display_errors = Off"),
            "{text}"
        );
        assert_eq!(
            fs::read_link(folder.path().join("bin/php")).unwrap(),
            Path::new("php8.2")
        );
    }

    #[test]
    fn files_go_where_the_contract_has_them() {
        let placed = |path: &str| place(Path::new(path)).is_some();
        assert!(
            placed("usr/sbin/nginx")
                && placed("usr/lib/php/20220829/curl.so")
                && placed("usr/share/php/Composer/autoload.php")
        );
        assert!(!placed("etc/nginx/nginx.conf") && !placed("usr/share/doc/php/x") && !placed("var/lib/php"));
    }
}
