//! Tests of the log store on real files: order, bounds, crashes, followers that race with writers.

use super::*;
use crate::Stream;
use std::collections::HashSet;
use std::fs;
use std::path::Path;

fn line(app: &str, ts_ns: i64, text: &str) -> Envelope {
    Envelope {
        ts_ns,
        source_id: app.to_owned(),
        instance_id: "0".to_owned(),
        source_type: if text.starts_with("stage") {
            "STG"
        } else {
            "APP/PROC/WEB"
        }
        .to_owned(),
        stream: Stream::Out,
        payload: text.as_bytes().to_vec(),
    }
}

fn lines(app: &str, times: impl IntoIterator<Item = i64>) -> Vec<Envelope> {
    times
        .into_iter()
        .map(|time| line(app, time, &format!("line {time}")))
        .collect()
}

fn times(page: &Page) -> Vec<i64> {
    page.envelopes.iter().map(|envelope| envelope.ts_ns).collect()
}

/// Segments of about ten lines.
fn small() -> Limits {
    Limits {
        app_bytes: 3000,
        total_bytes: 5000,
        segment_bytes: 500,
        age: Duration::from_nanos(100),
    }
}

fn open(root: &Path) -> LogStore {
    LogStore::open(root, small()).unwrap()
}

fn all(store: &LogStore, app: &str) -> Vec<i64> {
    let query = Query {
        descending: false,
        ..Query::newest(usize::MAX)
    };
    times(&store.read(app, &query).unwrap())
}

#[test]
fn reads_by_time_across_segments() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    // Two cells, one a little behind: arrival is not the order of time.
    let mut arrivals: Vec<i64> = (0..40).collect();
    arrivals.chunks_mut(7).for_each(<[i64]>::reverse);
    for chunk in arrivals.chunks(3) {
        assert_eq!(store.append(&lines("a", chunk.iter().copied())).unwrap(), chunk.len());
    }
    assert_eq!(all(&store, "a"), (0..40).collect::<Vec<_>>());
    for (start_ns, end_ns, limit) in [
        (0, 40, 5),
        (3, 30, 8),
        (12, 13, 5),
        (30, 90, 100),
        (50, 60, 5),
        (0, 40, 0),
    ] {
        let query = |descending| Query {
            start_ns,
            end_ns,
            limit,
            descending,
            types: Vec::new(),
        };
        let expected: Vec<i64> = (start_ns..end_ns.min(40)).collect();
        let up: Vec<i64> = expected.iter().copied().take(limit).collect();
        let down: Vec<i64> = expected.iter().rev().copied().take(limit).collect();
        assert_eq!(
            times(&store.read("a", &query(false)).unwrap()),
            up,
            "{start_ns}..{end_ns} first {limit}"
        );
        assert_eq!(
            times(&store.read("a", &query(true)).unwrap()),
            down,
            "{start_ns}..{end_ns} last {limit}"
        );
    }
    assert_eq!(all(&store, "b"), Vec::<i64>::new());
}

#[test]
fn lines_of_one_time_keep_their_order_and_types_are_prefixes() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let texts = ["one", "stage two", "three", "four"];
    store.append(&texts.map(|text| line("a", 5, text))).unwrap();
    let read = |descending, kind: &str| {
        let types = vec![kind.to_owned()];
        let page = store
            .read(
                "a",
                &Query {
                    descending,
                    types,
                    ..Query::newest(10)
                },
            )
            .unwrap();
        page.envelopes
            .iter()
            .map(|envelope| String::from_utf8(envelope.payload.clone()).unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(read(false, "APP"), ["one", "three", "four"]);
    assert_eq!(read(true, "APP/PROC/WEB"), ["four", "three", "one"]);
    assert_eq!(read(false, "STG"), ["stage two"]);
    assert!(read(false, "AP").is_empty());
}

#[test]
fn survives_a_restart_and_a_torn_write() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path()).append(&lines("a", 0..25)).unwrap();
    let store = open(folder.path());
    assert_eq!(all(&store, "a"), (0..25).collect::<Vec<_>>());
    store.append(&lines("a", 25..28)).unwrap();
    assert_eq!(store.dropped(), Dropped::default());

    // Half a frame at the end, as a kill in the middle of a write leaves it.
    let segments = fs::read_dir(folder.path().join("a")).unwrap();
    let newest = segments
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().unwrap() == "open")
        .unwrap();
    let mut frame = Vec::new();
    line("a", 99, "never acknowledged").encode(&mut frame);
    let mut bytes = fs::read(&newest).unwrap();
    bytes.extend(&frame[..frame.len() - 3]);
    fs::write(&newest, bytes).unwrap();
    let store = open(folder.path());
    store.append(&lines("a", 28..30)).unwrap();
    assert_eq!(all(&store, "a"), (0..30).collect::<Vec<_>>());
    assert_eq!(store.dropped().damaged, 1);
}

#[test]
fn bounds_hold_and_what_goes_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    store.append(&lines("quiet", 0..5)).unwrap();
    for time in 0..500 {
        store.append(&lines("loud", [time])).unwrap();
        assert!(store.bytes() <= small().total_bytes);
    }
    let kept = all(&store, "loud");
    assert_eq!(*kept.last().unwrap(), 499, "the newest stay");
    assert!((20..100).contains(&kept.len()), "{}", kept.len());
    assert_eq!(store.dropped().evicted, 500 - kept.len() as u64);
    // A second loud one brings the total over its bound; the quiet one keeps all.
    store.append(&lines("louder", 0..500)).unwrap();
    assert!(store.bytes() <= small().total_bytes);
    assert_eq!(all(&store, "quiet"), (0..5).collect::<Vec<_>>());

    store.sweep(102).unwrap();
    assert_eq!(
        all(&store, "quiet").len(),
        5,
        "the newest line of the segment is not old yet"
    );
    store.sweep(105).unwrap();
    assert!(all(&store, "quiet").is_empty());
    assert_eq!(store.dropped().expired, 5);
    store.append(&lines("quiet", [200])).unwrap();
    assert_eq!(all(&store, "quiet"), [200]);
}

#[test]
fn refuses_what_is_no_app_and_what_is_too_long() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let long = line("a", 0, &"x".repeat(Envelope::MAX_PAYLOAD + 1));
    let bad = ["", "..", "../b", "a/b", "a b", &"a".repeat(65)].map(|app| line(app, 0, "x"));
    assert_eq!(
        store.append(&bad).unwrap() + store.append(&[long, line("a", 1, "fine")]).unwrap(),
        1
    );
    assert_eq!(store.dropped().refused, 7);
    assert!(matches!(store.read("..", &Query::newest(1)), Err(Error::App { .. })));
    assert_eq!(store.apps(), ["a"]);
}

#[tokio::test]
async fn following_continues_where_reading_ended() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    store.append(&lines("a", 0..15)).unwrap();
    let page = store.read("a", &Query::newest(5)).unwrap();
    assert_eq!(times(&page), [14, 13, 12, 11, 10]);
    store.append(&lines("a", 15..17)).unwrap();
    let mut follower = store.follow("a", page.end).unwrap();
    let batch = follower.next().await.unwrap().unwrap();
    assert_eq!(batch.envelopes, lines("a", 15..17));
    assert!(!batch.gap && batch.end == store.end("a").unwrap());

    store.remove("a").unwrap();
    assert_eq!(follower.next().await.unwrap(), None, "removal ends it");
    assert!(all(&store, "a").is_empty() && !folder.path().join("a").exists());
    store.append(&lines("a", [50])).unwrap();
    assert_eq!(all(&store, "a"), [50]);
    let stale = store
        .follow("a", Position { segment: 90, offset: 7 })
        .unwrap()
        .next()
        .await
        .unwrap()
        .unwrap();
    assert!(
        stale.gap && stale.end == store.end("a").unwrap(),
        "a place of the old log is a gap, not an error"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_follower_sees_every_line_once_while_others_write() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits {
        app_bytes: 1 << 20,
        total_bytes: 2 << 20,
        segment_bytes: 2000,
        age: Duration::from_secs(1),
    };
    let store = LogStore::open(folder.path(), limits).unwrap();
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..4 {
        let store = store.clone();
        writers.spawn_blocking(move || {
            for chunk in 0..50 {
                let start = writer * 1_000_000 + chunk * 10;
                store.append(&lines("a", start..start + 10)).unwrap();
            }
        });
    }
    let mut follower = store.follow("a", Position::default()).unwrap();
    let mut seen = Vec::new();
    while seen.len() < 2000 {
        let batch = follower.next().await.unwrap().unwrap();
        assert!(!batch.gap);
        seen.extend(batch.envelopes.iter().map(|envelope| envelope.ts_ns));
    }
    assert_eq!(seen.iter().collect::<HashSet<_>>().len(), 2000);
    for writer in 0..4 {
        let own = seen.iter().filter(|time| **time / 1_000_000 == writer);
        assert!(own.is_sorted(), "each writer's lines keep their order");
    }
    writers.join_all().await;
    tokio::select! {
        biased;
        more = follower.next() => panic!("{more:?}"),
        () = tokio::task::yield_now() => {}
    }
}

#[tokio::test]
async fn a_follower_that_was_overtaken_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    store.append(&lines("a", 0..3)).unwrap();
    let mut follower = store.follow("a", Position::default()).unwrap();
    assert_eq!(follower.next().await.unwrap().unwrap().envelopes.len(), 3);
    store.append(&lines("a", 3..400)).unwrap();
    let batch = follower.next().await.unwrap().unwrap();
    assert!(batch.gap);
    let mut last = batch;
    while last.envelopes.last().is_none_or(|envelope| envelope.ts_ns != 399) {
        last = follower.next().await.unwrap().unwrap();
        assert!(!last.gap);
    }
}

#[test]
fn what_there_is_is_known_without_reading() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    assert_eq!(store.summary("a").unwrap(), None);
    store.append(&lines("a", [5, 3, 9])).unwrap();
    let three = Summary {
        lines: 3,
        gone: 0,
        span_ns: Some((3, 9)),
    };
    assert_eq!(store.summary("a").unwrap(), Some(three));
    // The same after a start, though the open segment's name does not say it.
    drop(store);
    let store = open(folder.path());
    assert_eq!(store.summary("a").unwrap(), Some(three));
    store.append(&lines("a", 10..200)).unwrap();
    let summary = store.summary("a").unwrap().unwrap();
    assert_eq!(summary.lines, all(&store, "a").len() as u64);
    assert_eq!((summary.lines + summary.gone, summary.span_ns.unwrap().1), (193, 199));
}
