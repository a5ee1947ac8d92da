//! The results as people read them, and whether the aims are met.

use crate::results::{Crowd, Results, Times, percentile};
use crate::{BARE, BLANK, COLD, CRUN, PARKED};
use std::fmt::Write as _;

/// An aim, and what was measured.
struct Aim {
    what: &'static str,
    most: f64,
    is: Option<f64>,
    unit: &'static str,
}

/// Everything, in Markdown.
pub fn text(results: &Results) -> String {
    let mut text = format!("{}\nbuild: {}\n\n", results.machine, results.build);
    single(results, &mut text);
    phases(results, &mut text);
    rushes(results, &mut text);
    crowds(results, &mut text);
    for aim in aims(results) {
        let _ = writeln!(text, "{}", line(&aim));
    }
    text
}

fn shown<'a>(results: &'a Results) -> impl Iterator<Item = (&'a str, &'a Times)> {
    let find = |name: &'a String| Some((name.as_str(), results.times.get(name)?));
    results.contenders.iter().filter_map(find)
}

fn single(results: &Results, text: &mut String) {
    let base =
        |name: &str, kind: fn(&Times) -> &Vec<u64>| results.times.get(name).map(|times| percentile(kind(times), 50));
    for (title, kind) in [
        (
            "start: request to the app's first instruction, one at a time",
            (|times| &times.start_us) as fn(&Times) -> &Vec<u64>,
        ),
        (
            "cycle: request, start, exit, everything removed, one at a time",
            |times| &times.cycle_us,
        ),
        ("kill: until everything is removed, one at a time", |times| {
            &times.kill_us
        }),
    ] {
        if shown(results).all(|(_, times)| kind(times).is_empty()) {
            continue;
        }
        let _ = writeln!(
            text,
            "### {title}, µs\n\n| | min | p50 | p90 | p99 | n | p50 / crun | p50 / {BARE} |"
        );
        let _ = writeln!(text, "|---|---|---|---|---|---|---|---|");
        for (name, times) in shown(results).filter(|(_, times)| !kind(times).is_empty()) {
            let values = kind(times);
            let [min, p50, p90, p99] = [0, 50, 90, 99].map(|share| percentile(values, share));
            let (crun, bare) = (ratio(p50, base(CRUN, kind)), ratio(p50, base(BARE, kind)));
            let _ = writeln!(
                text,
                "| {name} | {min} | {p50} | {p90} | {p99} | {} | {crun} | {bare} |",
                values.len()
            );
        }
        text.push('\n');
    }
}

/// Steps in the order in which they are done.
fn phases(results: &Results, text: &mut String) {
    for (name, times) in shown(results).filter(|(_, times)| times.phases.len() > 1) {
        let mut steps: Vec<(u64, &str, u64)> = times
            .phases
            .iter()
            .map(|(step, values)| (percentile(values, 50), step.as_str(), percentile(values, 99)))
            .collect();
        steps.sort_unstable();
        let steps: Vec<String> = steps
            .iter()
            .map(|(p50, step, p99)| format!("{step} {p50} ({p99})"))
            .collect();
        let _ = writeln!(
            text,
            "{name}, steps of a start, done after µs p50 (p99): {}\n",
            steps.join(", ")
        );
    }
}

fn rushes(results: &Results, text: &mut String) {
    let all: Vec<_> = shown(results).filter(|(_, times)| !times.rushes.is_empty()).collect();
    let Some(count) = all.first().map(|(_, times)| times.rushes[0].each_us.len()) else {
        return;
    };
    let _ = writeln!(
        text,
        "### {count} at once, µs (medians of the rounds)\n\n| | until all run | each: p50 | p99 | until all are gone | rounds |"
    );
    let _ = writeln!(text, "|---|---|---|---|---|---|");
    for (name, times) in all {
        let each: Vec<u64> = times
            .rushes
            .iter()
            .flat_map(|rush| rush.each_us.iter().copied())
            .collect();
        let median = |all: Vec<u64>| percentile(&all, 50);
        let wall = median(times.rushes.iter().map(|rush| rush.wall_us).collect());
        let end = median(times.rushes.iter().map(|rush| rush.end_us).collect());
        let (p50, p99) = (percentile(&each, 50), percentile(&each, 99));
        let _ = writeln!(
            text,
            "| {name} | {wall} | {p50} | {p99} | {end} | {} |",
            times.rushes.len()
        );
    }
    text.push('\n');
}

fn crowds(results: &Results, text: &mut String) {
    let all: Vec<_> = shown(results)
        .filter_map(|(name, times)| Some((name, times.crowds.last()?)))
        .collect();
    if all.is_empty() {
        return;
    }
    let _ = writeln!(
        text,
        "### many that stay: time for all, and KiB for each\n\n| | count | start ms | end ms | memory used | of it slab | kernel \
         stack | page tables | percpu | shared memory | own processes | agent | runtime's shared |"
    );
    let _ = writeln!(text, "|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    for (name, crowd) in all {
        let each = |kib: i64| kib / i64::try_from(crowd.count.max(1)).unwrap_or(1);
        let field = |name: &str| each(crowd.fields.get(name).copied().unwrap_or_default());
        let _ = writeln!(
            text,
            "| {name} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            crowd.count,
            crowd.start_us / 1000,
            crowd.end_us / 1000,
            each(crowd.used_kib),
            field("SUnreclaim") + field("SReclaimable"),
            field("KernelStack"),
            field("PageTables"),
            field("Percpu"),
            field("Shmem"),
            crowd.private_kib,
            each(crowd.agent_kib.cast_signed()),
            each(crowd.shared_kib.cast_signed()),
        );
    }
    text.push('\n');
}

fn ratio(value: u64, base: Option<u64>) -> String {
    match base {
        Some(base) if base > 0 => format!("{:.2}", value as f64 / base as f64),
        _ => "-".to_owned(),
    }
}

fn aims(results: &Results) -> [Aim; 6] {
    let start = |name: &str, share| {
        let values = &results.times.get(name)?.start_us;
        (!values.is_empty()).then(|| percentile(values, share) as f64)
    };
    let share = |of: Option<f64>, to: Option<f64>| Some(of? / to?);
    let each = |crowd: &Crowd| crowd.used_kib as f64 / crowd.count.max(1) as f64 / 1024.0;
    let idle = |name: &str| results.times.get(name)?.crowds.last().map(each);
    let parked = |percent| start(PARKED, percent);
    [
        Aim {
            what: "start of a parked sandbox, p50, of crun's",
            most: 0.1,
            is: share(parked(50), start(CRUN, 50)),
            unit: "",
        },
        Aim {
            what: "start of a parked sandbox, p99, of crun's",
            most: 0.1,
            is: share(parked(99), start(CRUN, 99)),
            unit: "",
        },
        Aim {
            what: "start of a parked sandbox, p50, of a bare start",
            most: 2.0,
            is: share(parked(50), start(BARE, 50)),
            unit: "",
        },
        Aim {
            what: "cold start with nothing ready, p50, of crun's",
            most: 1.0 / 3.0,
            is: share(start(COLD, 50), start(CRUN, 50)),
            unit: "",
        },
        Aim {
            what: "cold start out of what fits anything, p50, of crun's",
            most: 1.0 / 3.0,
            is: share(start(BLANK, 50), start(CRUN, 50)),
            unit: "",
        },
        Aim {
            what: "memory of an idle sandbox beyond the app",
            most: 1.5,
            is: idle(COLD).zip(idle(BARE)).map(|(all, app)| all - app),
            unit: " MiB",
        },
    ]
}

fn line(aim: &Aim) -> String {
    let Aim { what, most, is, unit } = aim;
    match is {
        None => format!("aim: {what} <= {most:.2}{unit}: not measured"),
        Some(is) if is <= most => format!("aim: {what} <= {most:.2}{unit}, is {is:.2}{unit}: reached"),
        Some(is) => format!("aim: {what} <= {most:.2}{unit}, is {is:.2}{unit}: not reached"),
    }
}
