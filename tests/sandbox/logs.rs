//! Output is kept, bounded, and never in anybody's way.

use std::time::Instant;

use sandbox::log::Stream;

use crate::kit::{Host, ended, printed, records, text};

#[test]
fn streams_and_times_are_kept_apart() {
    let host = Host::new();
    let (_, records) = host.run(&host.spec("say", &["say", "to", "out", "--", "to", "err"]));
    assert_eq!(text(&records, Stream::Out), "to out");
    assert_eq!(text(&records, Stream::Err), "to err");
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_nanos() as u64;
    assert!(records.iter().all(|r| now - r.unix_ns < 60_000_000_000));
    host.finish();
}

#[test]
fn streams_can_be_opened_by_name() {
    let host = Host::new();
    let (_, records) = host.run(&host.spec("reopen", &["reopen"]));
    assert_eq!(text(&records, Stream::Out), "through /dev/stdout");
    assert_eq!(text(&records, Stream::Err), "through /dev/stderr");
    let sandbox = host.create(&host.spec("exec", &["sleep"]));
    assert_eq!(
        crate::lifecycle::exec_output(&sandbox, &["reopen"]).1,
        "through /dev/stdout\n"
    );
    sandbox.destroy().unwrap();
    host.finish();
}

#[test]
fn a_flood_is_cut_counted_and_harms_nobody() {
    let host = Host::new();
    let mut spec = host.spec("flood", &["flood", "300000000"]);
    spec.log.rate_bytes_per_second = 100_000;
    spec.log.burst_bytes = 200_000;
    // More than the rate lets through in the time that it may take: nothing that counts is rotated away.
    spec.log.keep_bytes = 4 << 20;
    let start = Instant::now();
    let flood = host.create(&spec);
    let neighbour = host.create(&host.spec("neighbour", &["say", "here"]));
    printed(&neighbour, "here");
    let exit = ended(&flood);
    let seconds = start.elapsed().as_secs_f64();
    assert_eq!(exit.code, Some(0));
    println!("300 MB in {seconds:.2} s");
    // Never held up by the log: far above 100 MB/s even on a busy machine with no optimisation.
    assert!(seconds < 20.0, "{seconds}");
    let records = records(&flood);
    let said = text(&records, Stream::System);
    assert!(said.contains("exceeded log rate limit (100000 bytes/sec)"), "{said}");
    let dropped: u64 = said
        .lines()
        .filter_map(|l| l.split("dropped ").nth(1)?.split(' ').next()?.parse::<u64>().ok())
        .sum();
    let kept = records.iter().filter(|r| r.stream == Stream::Out).count() as u64;
    let flooded = text(&records, Stream::Err);
    let lines: u64 = flooded
        .split(" in ")
        .nth(1)
        .and_then(|t| t.split(' ').next())
        .map_or(kept + dropped, |n| n.parse().unwrap());
    assert_eq!(kept + dropped, lines, "every line is kept or counted");
    let size: u64 = std::fs::read_dir(flood.log_dir())
        .unwrap()
        .map(|e| e.unwrap().metadata().unwrap().len())
        .sum();
    assert!(size <= 4 << 20, "{size}");
    flood.destroy().unwrap();
    neighbour.destroy().unwrap();
    host.finish();
}

#[test]
fn old_segments_go_and_the_newest_stay() {
    let host = Host::new();
    let mut spec = host.spec("keep", &["flood", "20000000"]);
    spec.log.rate_bytes_per_second = u64::MAX;
    spec.log.keep_bytes = 2 << 20;
    let sandbox = host.create(&spec);
    ended(&sandbox);
    let size: u64 = std::fs::read_dir(sandbox.log_dir())
        .unwrap()
        .map(|e| e.unwrap().metadata().unwrap().len())
        .sum();
    assert!((1 << 20..=2 << 20).contains(&size), "{size}");
    let tail = sandbox.log().tail(1).unwrap();
    assert!(
        tail[0].payload.starts_with(b"flooded"),
        "{:?}",
        String::from_utf8_lossy(&tail[0].payload)
    );
    sandbox.destroy().unwrap();
    host.finish();
}
