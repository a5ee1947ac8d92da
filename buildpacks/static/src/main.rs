//! Static sites: the buildpack, and the server that it puts beside the site. One program under three names.

mod precompress;
mod server;
mod settings;

use buildpack_kit::{
    BuildContext, Buildpack, DetectContext, Detection, Failure, Launch, Result, Types, Variables, output, run,
};
use settings::{Settings, Staticfile};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Name of the program when it is the server.
const SERVER: &str = "paas-static-server";

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    let name = arguments.first().and_then(|path| Path::new(path).file_name());
    let variables = Variables(std::env::vars_os().collect());
    if name.is_some_and(|name| name == SERVER) {
        return server::main(arguments.get(1).map(PathBuf::from), &variables);
    }
    run(&Static, &arguments, variables)
}

struct Static;

/// Folders that hold a built site, in the order in which they are looked at.
const ROOTS: &[&str] = &["", "public", "dist", "build", "_site"];

impl Buildpack for Static {
    fn detect(&self, context: &DetectContext) -> Result<Detection> {
        let passed = |found: String| Detection::Passed { found, provides: None };
        if context.app.join("Staticfile").is_file() {
            return Ok(passed("static site (Staticfile)".to_owned()));
        }
        Ok(match default_root(&context.app) {
            Some("") => passed("static site (index.html)".to_owned()),
            Some(folder) => passed(format!("static site ({folder}/index.html)")),
            None => {
                Detection::Declined("no Staticfile, index.html, or index.html in public, dist, build or _site".into())
            }
        })
    }

    fn build(&self, context: &BuildContext) -> Result<()> {
        let staticfile = Staticfile::read(&context.app)?;
        for warning in staticfile.warnings() {
            output::alert(&warning);
        }
        let root = root(&context.app, &staticfile)?;
        let server = install_server(context)?;
        let compressed = precompress::layer(context, &root)?;
        let settings = staticfile.settings(root.clone(), compressed);
        write_settings(&server, &settings)?;
        let shown = root.strip_prefix(&context.app).unwrap_or(&root).display().to_string();
        output::headline(&format!(
            "Static site in {}",
            if shown.is_empty() { "." } else { &shown }
        ));
        let file = server.join("settings.json").display().to_string();
        Launch::default()
            .direct("web", &[SERVER, &file], "static site")
            .write(context)
    }
}

/// The folder to serve where no Staticfile names one.
fn default_root(app: &Path) -> Option<&'static str> {
    ROOTS
        .iter()
        .find(|folder| app.join(folder).join("index.html").is_file())
        .copied()
}

fn root(app: &Path, staticfile: &Staticfile) -> Result<PathBuf> {
    let Some(named) = staticfile.root.as_deref() else {
        return Ok(app.join(default_root(app).unwrap_or_default()));
    };
    let missing = |reason: &str| {
        Failure::new(
            format!("the Staticfile names root {named:?}, {reason}"),
            "Name a folder of the app, relative to the Staticfile.",
        )
    };
    let root = fs::canonicalize(app.join(named)).map_err(|_| missing("which is not in the app"))?;
    let app = fs::canonicalize(app).map_err(Failure::file("read", app))?;
    if !root.is_dir() {
        return Err(missing("which is no folder"));
    }
    if !root.starts_with(&app) {
        return Err(missing("which is outside the app"));
    }
    Ok(root)
}

/// Copies this program into a layer, where the last build did not leave the same one.
fn install_server(context: &BuildContext) -> Result<PathBuf> {
    let own = Path::new("/proc/self/exe");
    let program = fs::read(own).map_err(Failure::file("read", own))?;
    let key = buildpack_kit::key(&[&program]);
    let mut layer = context.layer("server");
    if !layer.is(&key) {
        layer.reset()?;
        let folder = layer.dir.join("bin");
        fs::create_dir_all(&folder).map_err(Failure::file("create", &folder))?;
        let file = folder.join(SERVER);
        fs::write(&file, &program).map_err(Failure::file("write", &file))?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&file, mode).map_err(Failure::file("make executable", &file))?;
    }
    layer.keep(Types::LAUNCH_CACHED, &key, &[])?;
    // Settings are small and change with the app: a layer of their own leaves the server's alone.
    let mut settings = context.layer("settings");
    if !settings.dir.is_dir() {
        settings.reset()?;
    }
    settings.keep(Types::LAUNCH, "settings", &[])?;
    Ok(settings.dir)
}

fn write_settings(folder: &Path, settings: &Settings) -> Result<()> {
    let path = folder.join("settings.json");
    let text = serde_json::to_string(settings).map_err(|error| {
        Failure::new(
            format!("the settings cannot be written: {error}"),
            "Report this to the maintainers.",
        )
    })?;
    fs::write(&path, text).map_err(Failure::file("write", &path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detect(files: &[&str]) -> Detection {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        Static
            .detect(&DetectContext {
                app: folder.path().to_owned(),
                variables: Variables::default(),
            })
            .unwrap()
    }

    #[test]
    fn a_site_is_recognised_by_its_index() {
        let found = |files: &[&str]| match detect(files) {
            Detection::Passed { found, .. } => Some(found),
            Detection::Declined(_) => None,
        };
        assert_eq!(found(&["index.html"]).as_deref(), Some("static site (index.html)"));
        assert_eq!(
            found(&["public/index.html"]).as_deref(),
            Some("static site (public/index.html)")
        );
        assert_eq!(found(&["Staticfile"]).as_deref(), Some("static site (Staticfile)"));
        assert_eq!(found(&["page.html"]), None);
    }

    #[test]
    fn a_root_outside_the_app_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let app = folder.path().join("app");
        fs::create_dir_all(app.join("site")).unwrap();
        let staticfile = |root: &str| {
            let mut staticfile = Staticfile::default();
            staticfile.root = Some(root.to_owned());
            staticfile
        };
        assert!(root(&app, &staticfile("site")).is_ok());
        for bad in ["..", "nowhere", "/etc"] {
            assert!(root(&app, &staticfile(bad)).is_err(), "{bad}");
        }
    }
}
