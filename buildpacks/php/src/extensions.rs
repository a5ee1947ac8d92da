//! Extensions of PHP: which package has each, and how they are switched on.

use buildpack_kit::{Failure, Result};
use std::collections::BTreeSet;
use std::path::Path;

/// Packages (behind `php8.2-`) that every app gets: what frameworks take for granted.
const USUAL: &[&str] = &["cli", "fpm", "opcache", "mbstring", "xml", "curl", "zip"];
/// Part of the interpreter, or of the package that all others need.
const BUILT_IN: &[&str] = &[
    "calendar",
    "core",
    "ctype",
    "date",
    "exif",
    "ffi",
    "fileinfo",
    "filter",
    "ftp",
    "gettext",
    "hash",
    "iconv",
    "json",
    "libxml",
    "openssl",
    "pcntl",
    "pcre",
    "pdo",
    "phar",
    "posix",
    "random",
    "reflection",
    "session",
    "shmop",
    "sockets",
    "sodium",
    "spl",
    "standard",
    "sysvmsg",
    "sysvsem",
    "sysvshm",
    "tokenizer",
    "zlib",
    "readline",
];
/// Extensions whose package is called otherwise.
const ELSEWHERE: &[(&str, &str)] = &[
    ("dom", "xml"),
    ("simplexml", "xml"),
    ("xmlreader", "xml"),
    ("xmlwriter", "xml"),
    ("xsl", "xml"),
    ("pdo_sqlite", "sqlite3"),
    ("pdo_pgsql", "pgsql"),
    ("pdo_mysql", "mysql"),
    ("mysqli", "mysql"),
    ("mysqlnd", "mysql"),
    ("pdo_odbc", "odbc"),
    ("pdo_dblib", "sybase"),
];
/// Switched on first: others need them.
const FIRST: &[&str] = &["mysqlnd", "pdo", "xml", "dom", "igbinary", "msgpack"];
/// Not switched on by themselves: they open a way around the interpreter.
const OFF: &[&str] = &["ffi"];

/// Packages for a PHP of `line` with `extensions`, each once; `exists` tells which packages there are.
///
/// # Errors
/// Where an extension is in none.
pub fn packages(
    line: &str,
    extensions: &BTreeSet<String>,
    exists: &dyn Fn(&str) -> Result<bool>,
) -> Result<BTreeSet<String>> {
    let mut packages: BTreeSet<String> = USUAL.iter().map(|name| format!("php{line}-{name}")).collect();
    for extension in extensions.iter().filter(|name| !BUILT_IN.contains(&name.as_str())) {
        let elsewhere = ELSEWHERE.iter().find(|(name, _)| name == extension);
        let name = elsewhere.map_or(extension.as_str(), |(_, package)| package);
        let own = format!("php{line}-{name}");
        if packages.contains(&own) || exists(&own)? {
            packages.insert(own);
            continue;
        }
        return Err(Failure::new(
            format!("the app asks for ext-{extension}, which PHP {line} of this stack's distribution does not have"),
            "Remove it from composer.json and BP_PHP_EXTENSIONS, or use a stack of another release of Debian.",
        ));
    }
    Ok(packages)
}

/// Lines of a `php.ini` that switch on the extensions of `folder`.
#[must_use]
pub fn switches(folder: &Path) -> String {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".so").map(str::to_owned))
        .filter(|name| !OFF.contains(&name.as_str()))
        .collect();
    let place = |name: &String| FIRST.iter().position(|first| first == name).unwrap_or(FIRST.len());
    names.sort_by(|a, b| place(a).cmp(&place(b)).then(a.cmp(b)));
    let line = |name: &String| match name.as_str() {
        "opcache" | "xdebug" => format!("zend_extension = {name}\n"),
        name => format!("extension = {name}\n"),
    };
    names.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_extension_is_in_a_package() {
        let exists = |name: &str| Ok(["php8.2-gd", "php8.2-pgsql"].contains(&name));
        let of = |names: &[&str]| packages("8.2", &names.iter().map(|&name| name.to_owned()).collect(), &exists);
        let plain = of(&[]).unwrap();
        assert!(plain.contains("php8.2-fpm") && plain.len() == USUAL.len());
        let more = of(&["json", "gd", "pdo_pgsql", "dom"]).unwrap();
        let added: Vec<&String> = more.difference(&plain).collect();
        assert_eq!(added, ["php8.2-gd", "php8.2-pgsql"]);
        assert!(of(&["swoole"]).unwrap_err().cause.contains("ext-swoole"));
    }

    #[test]
    fn what_others_need_comes_first() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["curl", "opcache", "pdo", "ffi", "mysqlnd", "mysqli"] {
            std::fs::write(folder.path().join(format!("{name}.so")), "").unwrap();
        }
        let text = switches(folder.path());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "extension = mysqlnd",
                "extension = pdo",
                "extension = curl",
                "extension = mysqli",
                "zend_extension = opcache"
            ]
        );
    }
}
