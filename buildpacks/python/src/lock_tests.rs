//! Locks of each tool as requirements, and what cannot be used.

use super::*;

fn requirements(tool: Tool, lock: &str, manifest: &str) -> Result<String> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(tool.file()), lock).unwrap();
    std::fs::write(folder.path().join(tool.manifest()), manifest).unwrap();
    tool.requirements(folder.path())
}

const POETRY: &str = r#"
[[package]]
name = "Flask"
version = "3.0.0"
files = [{file = "f.whl", hash = "sha256:aa"}]
[package.dependencies]
click = {version = ">=8", markers = "sys_platform == 'win32'"}
importlib_metadata = {version = ">=3.6", markers = "python_version < \"3.10\""}
asgiref = {version = ">=3", optional = true, markers = "extra == \"async\""}
[package.extras]
async = ["asgiref (>=3)"]
[[package]]
name = "click"
version = "8.1.0"
files = [{file = "c.whl", hash = "sha256:bb"}]
[[package]]
name = "importlib-metadata"
version = "7.0"
files = [{file = "i.whl", hash = "sha256:cc"}]
[package.dependencies]
zipp = "*"
[[package]]
name = "zipp"
version = "3.1"
files = [{file = "z.whl", hash = "sha256:dd"}, {file = "z.tgz", hash = "sha256:de"}]
[[package]]
name = "asgiref"
version = "3.7"
files = [{file = "a.whl", hash = "sha256:ee"}]
[[package]]
name = "pytest"
version = "8.0"
files = [{file = "p.whl", hash = "sha256:ff"}]
"#;

#[test]
fn what_poetry_locked_for_run_time_is_followed() {
    let manifest = "[tool.poetry.dependencies]\npython = '^3.9'\nflask = '^3.0'\n[tool.poetry.group.dev.dependencies]\npytest = '*'\n";
    let found = requirements(Tool::Poetry, POETRY, manifest).unwrap();
    let expected = "click==8.1.0 ; (((sys_platform == 'win32'))) --hash=sha256:bb\nflask==3.0.0 --hash=sha256:aa\n\
        importlib-metadata==7.0 ; (((python_version < \"3.10\"))) --hash=sha256:cc\n\
        zipp==3.1 ; ((((python_version < \"3.10\")))) --hash=sha256:dd --hash=sha256:de\n";
    assert_eq!(
        found.replace("(((", "(").replace(")))", ")"),
        expected.replace("(((", "(").replace(")))", ")")
    );
    let extra = manifest.replace("'^3.0'", "{version = '^3.0', extras = ['async']}");
    assert!(
        requirements(Tool::Poetry, POETRY, &extra)
            .unwrap()
            .contains("asgiref==3.7 --hash")
    );
    let standard = "[project]\ndependencies = ['flask[async] (>=3.0) ; python_version > \"3\"']\n";
    let found = requirements(Tool::Poetry, POETRY, standard).unwrap();
    assert!(
        found.contains("asgiref==3.7 ; ") && !found.contains("pytest"),
        "{found}"
    );
}

#[test]
fn pdm_says_which_group_each_package_is_of() {
    let lock = "[[package]]\nname = 'flask'\nversion = '3.0'\ngroups = ['default']\nmarker = 'python_version > \"3\"'\nfiles = [{file = 'x', hash = 'sha256:aa'}]\n\
        [[package]]\nname = 'pytest'\nversion = '8'\ngroups = ['dev']\nfiles = [{file = 'x', hash = 'sha256:bb'}]\n";
    let manifest = "[project]\ndependencies = ['flask']\n";
    let found = requirements(Tool::Pdm, lock, manifest).unwrap();
    assert_eq!(found, "flask==3.0 ; python_version > \"3\" --hash=sha256:aa\n");
}

const PIPFILE: &str = "[[source]]\nurl = \"https://pypi.org/simple\"\nverify_ssl = true\nname = \"pypi\"\n[packages]\nms = \"*\"\n[requires]\npython_version = \"3.11\"\n";

#[test]
fn pipenv_notes_what_its_lock_was_made_from() {
    let manifest: toml::Table = toml::from_str(PIPFILE).unwrap();
    let hash = pipfile_hash(&manifest).unwrap();
    // Of `{"_meta":{"requires":{"python_version":"3.11"},"sources":[{"name":"pypi","url":"https://pypi.org/simple","verify_ssl":true}]},"default":{"ms":"*"},"develop":{}}`.
    assert_eq!(hash, "1b12e4ee2ac87d4f9b30ccc66b101a3ab1ff9dc572b13393120bee04080b9055");
    let lock = |hash: &str| {
        format!(
            r#"{{"_meta": {{"hash": {{"sha256": "{hash}"}}}}, "default": {{"ms": {{"version": "==1.0", "hashes": ["sha256:aa"], "markers": "python_version >= '3'"}}}}, "develop": {{"x": {{}}}}}}"#
        )
    };
    let found = requirements(Tool::Pipenv, &lock(&hash), PIPFILE).unwrap();
    assert_eq!(found, "ms==1.0 ; python_version >= '3' --hash=sha256:aa\n");
    let failure = requirements(Tool::Pipenv, &lock("00"), PIPFILE).unwrap_err();
    assert!(failure.cause.contains("another Pipfile"), "{failure:?}");
    let more = PIPFILE.replace("ms = ", "flask = '*'\nms = ");
    assert!(
        requirements(Tool::Pipenv, &lock(&hash), &more)
            .unwrap_err()
            .cause
            .contains("flask is not locked")
    );
}

#[test]
fn what_cannot_be_used_is_told() {
    let manifest = "[tool.poetry.dependencies]\nmine = '*'\n";
    let from_git = "[[package]]\nname = 'mine'\nversion = '1'\nfiles = []\n[package.source]\ntype = 'git'\nurl = 'x'\n";
    let told = |lock: &str| requirements(Tool::Poetry, lock, manifest).unwrap_err().cause;
    assert!(told(from_git).contains("has no hash"));
    assert!(told("").contains("mine is not locked"));
    assert!(told("[").contains("poetry.lock cannot be read"));
    assert!(
        requirements(Tool::Pipenv, "x", "")
            .unwrap_err()
            .remedy
            .contains("pipenv lock")
    );
}

#[test]
fn ranges_of_python_become_markers() {
    assert_eq!(
        python_marker(">=3.8,<3.12").as_deref(),
        Some("python_full_version >= \"3.8\" and python_full_version < \"3.12\"")
    );
    for any in ["", "*", "^3.8", "~3.8 || 3.9"] {
        assert_eq!(python_marker(any), None, "{any}");
    }
}
