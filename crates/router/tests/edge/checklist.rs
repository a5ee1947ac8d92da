//! The document that compares the router with Cloud Foundry's names tests that exist.

use std::path::Path;

fn sources(folder: &Path, all: &mut String) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            sources(&path, all);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            all.push_str(&std::fs::read_to_string(path).expect("text"));
        }
    }
}

#[test]
fn every_test_that_the_checklist_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = String::new();
    for folder in ["src", "tests", "../api/src", "../paasd/src"] {
        sources(&root.join(folder), &mut all);
    }
    let text = std::fs::read_to_string(root.join("../../docs/checklists/router.md")).expect("the document");
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| What"))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    let mut named = 0;
    for row in &rows {
        let [what, shown] = row.as_slice() else {
            panic!("{row:?} has not two cells")
        };
        if shown.starts_with("not yet") || shown.starts_with("on purpose not") {
            continue;
        }
        let tests: Vec<&str> = shown.split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "{what} names no test");
        for test in tests {
            assert!(all.contains(&format!("fn {test}(")), "there is no test {test}");
            named += 1;
        }
    }
    assert!(rows.len() > 60 && named > 60, "{} rows, {named} tests", rows.len());
}
