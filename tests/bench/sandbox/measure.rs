//! The measurements, each the same for every contender.

use crate::contender::{Seat, Standing, Start, now_ns};
use crate::meters::memory;
use crate::results::{Crowd, Results, Rush};
use anyhow::{Context as _, Result, bail};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// One contender's turn within a round: enough that its own caches are warm, few enough that all see the same noise.
const TURN: usize = 5;
/// Threads that start and end a crowd.
const HANDS: usize = 32;

/// Set when the benchmark is to end early.
pub static STOP: AtomicBool = AtomicBool::new(false);

/// A name that no sandbox had before.
fn fresh(name: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("{name}x{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

fn go_on() -> Result<()> {
    if STOP.load(Ordering::Relaxed) {
        bail!("ended early");
    }
    Ok(())
}

/// Start to the app's first instruction, and until everything is removed: one at a time.
pub fn cycles(seats: &[Seat], rounds: usize, name: &str, results: &mut Results) -> Result<()> {
    in_turn(seats, rounds, |seat| {
        let id = fresh(name);
        let cycle = seat.ask(move |contender| {
            contender.prepare(1)?;
            let cycle = contender.cycle(&id)?;
            // What it makes ready again must not be the next one's noise.
            contender.prepare(1)?;
            Ok(cycle)
        })?;
        let times = results.times(&seat.name);
        times.start_us.push(cycle.start.took_ns() / 1000);
        times.cycle_us.push((cycle.gone_ns - cycle.start.asked_ns) / 1000);
        Ok(())
    })
}

/// Kill until nothing is left: one at a time.
pub fn kills(seats: &[Seat], rounds: usize, name: &str, results: &mut Results) -> Result<()> {
    in_turn(seats, rounds, |seat| {
        let id = fresh(name);
        let took_ns = seat.ask(move |contender| {
            contender.prepare(1)?;
            let mut standing = contender.start(&id, false)?;
            standing.start()?;
            standing.find()?;
            let began = now_ns();
            standing.kill()?;
            let took = now_ns() - began;
            contender.prepare(1)?;
            Ok(took)
        })?;
        results.times(&seat.name).kill_us.push(took_ns / 1000);
        Ok(())
    })
}

/// Rounds in which the contenders take turns, each round beginning with another.
fn in_turn(seats: &[Seat], rounds: usize, mut step: impl FnMut(&Seat) -> Result<()>) -> Result<()> {
    let turns = rounds.div_ceil(TURN);
    for turn in 0..turns {
        for at in 0..seats.len() {
            let seat = &seats[(at + turn) % seats.len()];
            for _ in 0..TURN.min(rounds - turn * TURN) {
                go_on()?;
                step(seat)?;
            }
        }
    }
    Ok(())
}

/// Many at once: until all run, and each on its own.
pub fn rush(seats: &[Seat], count: usize, rounds: usize, name: &str, results: &mut Results) -> Result<()> {
    for _ in 0..rounds {
        for seat in seats {
            go_on()?;
            let ids: Vec<String> = (0..count).map(|_| fresh(name)).collect();
            let rush = seat.ask(move |contender| {
                contender.prepare(ids.len())?;
                let gate = Barrier::new(ids.len());
                let mut standing = together(&ids, ids.len(), |id| {
                    gate.wait();
                    contender.start(id, false)
                })?;
                let starts = starts(&mut standing)?;
                let ended = end(&mut standing);
                Ok(Rush {
                    wall_us: wall_us(&starts),
                    each_us: starts.iter().map(|start| start.took_ns() / 1000).collect(),
                    end_us: ended? / 1000,
                })
            })?;
            results.times(&seat.name).rushes.push(rush);
        }
    }
    Ok(())
}

/// Many that stay: how long until all are there and until all are gone, and what each costs in memory.
pub fn crowd(seats: &[Seat], count: usize, name: &str, results: &mut Results) -> Result<()> {
    for seat in seats {
        go_on()?;
        let ids: Vec<String> = (0..count).map(|_| fresh(name)).collect();
        let crowd = seat.ask(move |contender| {
            let own = || crate::meters::private_kib(std::process::id().cast_signed());
            let (before, own_before, shared_before) = (memory(), own(), contender.shared_kib());
            contender.prepare(ids.len())?;
            let mut standing = together(&ids, HANDS, |id| contender.start(id, true))?;
            let starts = starts(&mut standing)?;
            let (after, own_after, shared_after) = (memory(), own(), contender.shared_kib());
            let private_kib = standing
                .iter()
                .take(20)
                .map(|standing| standing.private_kib())
                .sum::<u64>()
                / 20;
            let ended = end(&mut standing)?;
            let moved = |field: &str| {
                let at = |memory: &crate::meters::Memory| memory.get(field).copied().unwrap_or_default();
                at(&after) - at(&before)
            };
            let fields = before.keys().map(|field| ((*field).to_owned(), moved(field))).collect();
            Ok(Crowd {
                count: starts.len(),
                start_us: wall_us(&starts),
                end_us: ended / 1000,
                used_kib: -moved("MemAvailable"),
                private_kib,
                agent_kib: own_after.saturating_sub(own_before),
                shared_kib: shared_after.saturating_sub(shared_before),
                fields,
            })
        })?;
        results.times(&seat.name).crowds.push(crowd);
    }
    Ok(())
}

/// When each was asked for and began. Looked at only when all were asked for, so that looking delays none.
fn starts(standing: &mut [Box<dyn Standing>]) -> Result<Vec<Start>> {
    let starts = standing.iter_mut().map(|one| one.start()).collect();
    standing.iter_mut().try_for_each(|one| one.find())?;
    starts
}

/// From the first request to the last beginning.
fn wall_us(starts: &[Start]) -> u64 {
    let first = starts.iter().map(|start| start.asked_ns).min().unwrap_or(0);
    let last = starts.iter().map(|start| start.began_ns).max().unwrap_or(0);
    last.saturating_sub(first) / 1000
}

/// Does something for every name on a number of threads; all of it, or the first error.
fn together(
    ids: &[String],
    hands: usize,
    job: impl Fn(&str) -> Result<Box<dyn Standing>> + Sync,
) -> Result<Vec<Box<dyn Standing>>> {
    let next = AtomicUsize::new(0);
    let (next, job) = (&next, &job);
    let work = || -> Result<Vec<Box<dyn Standing>>> {
        let mut done = Vec::new();
        while let Some(id) = ids.get(next.fetch_add(1, Ordering::Relaxed)) {
            done.push(job(id)?);
        }
        Ok(done)
    };
    let outcomes: Vec<Result<Vec<Box<dyn Standing>>>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..hands).map(|_| scope.spawn(work)).collect();
        let joined = threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow::anyhow!("a thread died")));
        joined.map(|outcome| outcome.and_then(|outcome| outcome)).collect()
    });
    let mut all = Vec::new();
    for outcome in outcomes {
        all.extend(outcome?);
    }
    Ok(all)
}

/// Kills all, on a number of threads: how long until none was left, nanoseconds.
fn end(standing: &mut Vec<Box<dyn Standing>>) -> Result<u64> {
    let mut hands: Vec<Vec<Box<dyn Standing>>> = (0..HANDS).map(|_| Vec::new()).collect();
    for (at, one) in standing.drain(..).enumerate() {
        hands[at % HANDS].push(one);
    }
    let began = now_ns();
    std::thread::scope(|scope| {
        let threads: Vec<_> = hands
            .into_iter()
            .map(|all| scope.spawn(move || all.into_iter().try_for_each(|one| one.kill())))
            .collect();
        let mut outcomes = threads
            .into_iter()
            .map(|thread| thread.join().ok().context("a thread died")?);
        outcomes.try_for_each(|outcome| outcome)
    })?;
    Ok(now_ns() - began)
}
