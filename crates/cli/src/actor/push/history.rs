//! How long the phases of an app's earlier pushes took, kept on this machine to compare with.

use crate::config::Config;
use crate::ui::waterfall::Span;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Pushes that are remembered for each app.
const KEPT: usize = 10;
/// Largest file that is read, in bytes.
const MAX_BYTES: u64 = 256 * 1024;

#[derive(Debug, Default, Serialize, Deserialize)]
struct History {
    /// Milliseconds by phase; the oldest push first.
    pushes: Vec<BTreeMap<String, u64>>,
}

/// Adds to each span what is usual for it, and remembers this push where `complete`. Failures cost the comparison only.
pub fn compare(config: &Config, app: &str, mut spans: Vec<Span>, total_ms: u64, complete: bool) -> Vec<Span> {
    let path = config.cache.join("pushes").join(format!("{app}.json"));
    let mut history = read(&path).unwrap_or_default();
    for span in &mut spans {
        span.usual_ms = median(
            history
                .pushes
                .iter()
                .filter_map(|push| push.get(&span.name))
                .copied()
                .collect(),
        );
    }
    if complete {
        let mut push: BTreeMap<String, u64> = spans.iter().map(|span| (span.name.clone(), span.duration_ms)).collect();
        push.insert("total".into(), total_ms);
        history.pushes.push(push);
        let surplus = history.pushes.len().saturating_sub(KEPT);
        history.pushes.drain(..surplus);
        let _ = write(&path, &history);
    }
    spans
}

fn median(mut values: Vec<u64>) -> Option<u64> {
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

fn read(path: &PathBuf) -> Option<History> {
    let small = std::fs::metadata(path).ok()?.len() <= MAX_BYTES;
    small
        .then(|| std::fs::read(path).ok())
        .flatten()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
}

fn write(path: &Path, history: &History) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let file = tempfile::NamedTempFile::new_in(folder)?;
    serde_json::to_writer(&file, history)?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, Flags};

    #[test]
    fn the_median_of_earlier_pushes_is_usual() {
        let home = tempfile::tempdir().expect("folder");
        let text = home.path().to_str().expect("UTF-8");
        let env = Environment::fake(home.path(), &[("HOME", text), ("PAAS_DEV_LOGIN", "/nonexistent")]);
        let config = Config::load(&env, &Flags::default()).expect("loads");
        let push = |ms: u64| {
            let span = Span {
                name: "stage".into(),
                start_ms: 0,
                duration_ms: ms,
                usual_ms: None,
            };
            compare(&config, "app", vec![span], ms, true)[0].usual_ms
        };
        assert_eq!(
            [push(100), push(300), push(200), push(1)],
            [None, Some(100), Some(300), Some(200)]
        );
        for _ in 0..20 {
            push(7);
        }
        let history = read(&home.path().join(".cache/paas/pushes/app.json")).expect("there");
        assert_eq!(history.pushes.len(), KEPT);
    }
}
