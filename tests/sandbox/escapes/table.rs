//! The table of attempts and results: each test leaves its row in `escapes` of the target's folder for tests.

/// Leaves a row. Not on a machine where the target folder cannot be written.
pub fn record(name: &str, class: &str, real: &str, weakened_by: &str, reached: &str) {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("escapes");
    // Whoever corrects docs/isolation-tests.md takes it from there.
    let row = format!("| {class} | `{name}` | {real} | {weakened_by} | {reached} |\n");
    let _ = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(folder.join(name), row));
}

#[test]
fn the_document_has_every_attempt_and_no_other() {
    let document = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/isolation-tests.md");
    let text = std::fs::read_to_string(document).unwrap();
    let rows = text
        .lines()
        .filter_map(|line| line.split('|').nth(2)?.trim().strip_prefix('`')?.strip_suffix('`'));
    let mut told: Vec<String> = rows.map(|name| name.replace('-', "_")).collect();
    let mut made: Vec<String> = super::NAMES.iter().map(|&name| name.to_owned()).collect();
    told.sort();
    made.sort();
    assert_eq!(told, made);
}
