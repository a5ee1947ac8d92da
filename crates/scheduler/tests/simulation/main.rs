//! Seeded simulation of the scheduler with fake cells, fake routers, users and faults, on a virtual clock.
//!
//! A run is a function of its seed. A seed that breaks an invariant is printed with its trace; `SIM_SEED=<n>` replays
//! it alone, `SIM_SEEDS=<n>` sets how many are run. Cells move work only through [`model::work::WorkState::step`].

mod cell;
mod check;
mod controller;
mod faults;
mod rng;
mod router;
mod world;

use world::World;

/// Runs one seed; the error is what was violated.
fn run(seed: u64) -> Result<World, (String, Vec<String>)> {
    let mut world = World::new(seed);
    match world.run() {
        Ok(()) => Ok(world),
        Err(violation) => Err((violation, world.trace)),
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().expect("a whole number"))
}

#[test]
fn invariants_hold_and_the_cluster_comes_to_rest() {
    let seeds = match number("SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIM_SEEDS").unwrap_or(1500),
    };
    let mut totals = world::Totals::default();
    for seed in seeds {
        match run(seed) {
            Ok(world) => totals.add(&world.totals),
            Err((violation, trace)) => {
                let tail = trace.len().saturating_sub(60);
                panic!(
                    "seed {seed}: {violation}\nreplay: SIM_SEED={seed} cargo nextest run -p scheduler --test simulation\n{}",
                    trace[tail..].join("\n")
                );
            }
        }
    }
    // A simulation in which nothing happens proves nothing.
    if number("SIM_SEED").is_none() && number("SIM_SEEDS").is_none() {
        assert!(totals.deployed > 500, "{totals:?}");
        assert!(totals.canceled > 200, "{totals:?}");
        assert!(totals.paused > 200, "{totals:?}");
        assert!(totals.continued > 100, "{totals:?}");
        assert!(totals.crashes > 1000, "{totals:?}");
        assert!(totals.lost > 100, "{totals:?}");
        assert!(totals.settled > 200, "{totals:?}");
    }
}

#[test]
fn a_seed_replays_exactly() {
    let traces: Vec<Vec<String>> = (0..2)
        .map(|_| match run(7) {
            Ok(world) => world.trace,
            Err((_, trace)) => trace,
        })
        .collect();
    assert!(!traces[0].is_empty());
    assert_eq!(traces[0], traces[1]);
}
