//! The cells as candidates, with what is taken of each while a plan goes on, in an order that finds a good one without
//! looking at all.
//!
//! Cells that take work of one shape (stack and isolation segment) form a pool; a pool keeps those of each zone by
//! their load. A choice looks at the lightest [`LOOK`] that fit, and at as many that have a layer of the work already,
//! in the zones where the process has fewest instances: in a zone of up to that many cells it looks at all.

use crate::input::{CellView, Needs, Slot, Work};
use crate::output::{Refusal, Refusals};
use model::Timestamp;
use model::digest::Digest;
use model::id::{CellId, ProcessId};
use model::name::StackName;
use model::work::Wanted;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Cells of a zone that are compared for one piece of work.
pub(crate) const LOOK: usize = 32;

/// A cell's position in the order of name and id, which decides between equals.
type Rank = usize;
/// A zone's position in the order of their names.
type Zone = usize;
/// Load in thousandths of the memory, pieces of work, and rank: the lightest first.
type Load = (u64, u32, Rank);

/// What a cell must have, whatever is free on it.
type Shape<'a> = (&'a StackName, Option<&'a str>);

/// A cell, and what is taken of it.
struct Stand<'a> {
    view: &'a CellView,
    zone: Zone,
    memory_mb: u64,
    disk_mb: u64,
    count: u32,
    /// The pools that it is in.
    pools: Vec<usize>,
}

impl Stand<'_> {
    fn load(&self, rank: Rank) -> Load {
        let per_mille = self.memory_mb.saturating_mul(1000) / self.view.memory_mb.max(1);
        (per_mille, self.count, rank)
    }

    fn free_memory(&self) -> u64 {
        self.view.memory_mb.saturating_sub(self.memory_mb)
    }

    fn free_disk(&self) -> u64 {
        self.view.disk_mb.saturating_sub(self.disk_mb)
    }

    /// What is against it although it has what the shape asks for.
    fn full(&self, needs: &Needs) -> Option<Refusal> {
        if self.free_memory() < u64::from(needs.memory_mb) {
            let free_mb = self.free_memory();
            Some(Refusal::Memory { free_mb })
        } else if self.free_disk() < u64::from(needs.disk_mb) {
            let free_mb = self.free_disk();
            Some(Refusal::Disk { free_mb })
        } else if self.count >= self.view.max_work {
            let max = self.view.max_work;
            Some(Refusal::Count { max })
        } else {
            None
        }
    }

    /// What keeps it out of the pool of a shape.
    fn unfit(&self, shape: Shape<'_>, now: Timestamp) -> Option<Refusal> {
        let cell = self.view;
        let in_segment = match shape.1 {
            Some(segment) => cell.segments.contains(segment),
            None => cell.segments.is_empty(),
        };
        if cell.lease_until <= now {
            Some(Refusal::NotAlive)
        } else if cell.cordoned {
            Some(Refusal::Cordoned)
        } else if !cell.stacks.contains(shape.0) {
            Some(Refusal::Stack)
        } else if !in_segment {
            Some(Refusal::Segment)
        } else if !cell.synced {
            Some(Refusal::NotSynced)
        } else {
            None
        }
    }
}

/// Cells that take work of one shape.
struct Pool<'a> {
    zones: Vec<BTreeSet<Load>>,
    /// Cells by a layer that they have.
    layers: HashMap<&'a Digest, Vec<Rank>>,
    /// Amounts that no cell of the pool has any more: cells only fill up while a plan is made.
    hopeless: Vec<(u32, u32)>,
}

/// How instances of a process are spread.
#[derive(Default)]
struct Spread {
    zones: HashMap<Zone, u32>,
    cells: HashMap<Rank, u32>,
}

/// All cells, while a plan is made.
pub(crate) struct Field<'a> {
    now: Timestamp,
    stands: Vec<Stand<'a>>,
    ranks: HashMap<CellId, Rank>,
    zones: usize,
    shapes: BTreeMap<Shape<'a>, usize>,
    pools: Vec<Pool<'a>>,
    spread: HashMap<ProcessId, Spread>,
    refused: BTreeMap<(Shape<'a>, u32, u32), Arc<Refusals>>,
}

impl<'a> Field<'a> {
    /// The cells with the work that is on them.
    pub(crate) fn new(cells: impl Iterator<Item = &'a CellView>, works: &[Work], now: Timestamp) -> Self {
        let mut views: Vec<&CellView> = cells.collect();
        views.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
        let names: BTreeSet<&str> = views.iter().map(|view| view.zone.as_str()).collect();
        let zones: HashMap<&str, Zone> = names.iter().enumerate().map(|(at, name)| (*name, at)).collect();
        let stands = views.iter().map(|view| Stand {
            view,
            zone: zones[view.zone.as_str()],
            memory_mb: view.held_memory_mb,
            disk_mb: view.held_disk_mb,
            count: 0,
            pools: Vec::new(),
        });
        let mut field = Self {
            now,
            ranks: views.iter().enumerate().map(|(rank, view)| (view.id, rank)).collect(),
            stands: stands.collect(),
            zones: zones.len(),
            shapes: BTreeMap::new(),
            pools: Vec::new(),
            spread: HashMap::new(),
            refused: BTreeMap::new(),
        };
        for work in works {
            if let Some(&rank) = field.ranks.get(&work.cell) {
                let spreads = work.wanted == Wanted::Run;
                field.take(rank, work.slot, (work.memory_mb, work.disk_mb), spreads);
            }
        }
        field
    }

    /// Takes the best cell for a piece of work, or tells what each has against it.
    pub(crate) fn place(&mut self, slot: Slot, needs: &'a Needs) -> Result<CellId, Arc<Refusals>> {
        let pool = self.pool((&needs.stack, needs.segment.as_deref()));
        match self.choose(pool, slot, needs) {
            Some(rank) => {
                self.take(rank, slot, (needs.memory_mb, needs.disk_mb), true);
                Ok(self.stands[rank].view.id)
            }
            None => {
                self.pools[pool].despair(needs);
                Err(self.refusals(needs))
            }
        }
    }

    fn take(&mut self, rank: Rank, slot: Slot, (memory_mb, disk_mb): (u32, u32), spreads: bool) {
        let stand = &mut self.stands[rank];
        let before = stand.load(rank);
        stand.memory_mb += u64::from(memory_mb);
        stand.disk_mb += u64::from(disk_mb);
        stand.count += 1;
        for &pool in &stand.pools {
            let zone = &mut self.pools[pool].zones[stand.zone];
            zone.remove(&before);
            zone.insert(stand.load(rank));
        }
        if let (Slot::Instance { process, .. }, true) = (slot, spreads) {
            let spread = self.spread.entry(process).or_default();
            *spread.zones.entry(stand.zone).or_default() += 1;
            *spread.cells.entry(rank).or_default() += 1;
        }
    }

    fn pool(&mut self, shape: Shape<'a>) -> usize {
        if let Some(&pool) = self.shapes.get(&shape) {
            return pool;
        }
        let at = self.pools.len();
        let mut pool = Pool {
            zones: vec![BTreeSet::new(); self.zones],
            layers: HashMap::new(),
            hopeless: Vec::new(),
        };
        for (rank, stand) in self.stands.iter_mut().enumerate() {
            if stand.unfit(shape, self.now).is_some() {
                continue;
            }
            stand.pools.push(at);
            pool.zones[stand.zone].insert(stand.load(rank));
            for layer in &stand.view.layers {
                pool.layers.entry(layer).or_default().push(rank);
            }
        }
        self.pools.push(pool);
        self.shapes.insert(shape, at);
        at
    }

    /// The best cell: fewest instances of the process in the zone, then on the cell, then most layers already there,
    /// then the lightest load, then the first by name.
    fn choose(&self, pool: usize, slot: Slot, needs: &Needs) -> Option<Rank> {
        let pool = &self.pools[pool];
        if pool.is_hopeless(needs) {
            return None;
        }
        let spread = match slot {
            Slot::Instance { process, .. } => self.spread.get(&process),
            Slot::Job(_) => None,
        };
        let in_zone = |zone: Zone| spread.and_then(|spread| spread.zones.get(&zone)).copied().unwrap_or(0);
        let on_cell = |rank: Rank| spread.and_then(|spread| spread.cells.get(&rank)).copied().unwrap_or(0);
        let mut zones: Vec<(u32, Zone)> = (0..self.zones).map(|zone| (in_zone(zone), zone)).collect();
        zones.sort_unstable();
        let fits = |rank: Rank| self.stands[rank].full(needs).is_none();
        for group in zones.chunk_by(|a, b| a.0 == b.0) {
            let mut candidates = Vec::new();
            for &(_, zone) in group {
                let free = pool.zones[zone].iter().map(|&(_, _, rank)| rank);
                candidates.extend(free.filter(|&rank| on_cell(rank) == 0 && fits(rank)).take(LOOK));
            }
            let near = needs.layers.iter().filter_map(|layer| pool.layers.get(layer)).flatten();
            let near = near.copied().filter(|&rank| {
                on_cell(rank) == 0 && group.iter().any(|&(_, zone)| zone == self.stands[rank].zone) && fits(rank)
            });
            candidates.extend(near.take(LOOK));
            if candidates.is_empty() {
                let held = spread.iter().flat_map(|spread| spread.cells.keys().copied());
                candidates.extend(held.filter(|&rank| {
                    let stand = &self.stands[rank];
                    let here = group.iter().any(|&(_, zone)| zone == stand.zone);
                    here && fits(rank) && pool.zones[stand.zone].contains(&stand.load(rank))
                }));
            }
            let best = candidates.into_iter().min_by_key(|&rank| {
                let stand = &self.stands[rank];
                (on_cell(rank), missing_layers(stand.view, needs), stand.load(rank))
            });
            if best.is_some() {
                return best;
            }
        }
        None
    }

    /// What each cell has against it, told once for all work of the same size and shape.
    fn refusals(&mut self, needs: &'a Needs) -> Arc<Refusals> {
        let shape = (&needs.stack, needs.segment.as_deref());
        let key = (shape, needs.memory_mb, needs.disk_mb);
        if let Some(told) = self.refused.get(&key) {
            return told.clone();
        }
        let of = |stand: &Stand<'_>| {
            let refusal = stand.unfit(shape, self.now).or_else(|| stand.full(needs));
            refusal.map(|refusal| ((stand.view.name.clone(), stand.view.id), refusal))
        };
        let told: Arc<Refusals> = Arc::new(self.stands.iter().filter_map(of).collect());
        self.refused.insert(key, told.clone());
        told
    }
}

impl Pool<'_> {
    fn is_hopeless(&self, needs: &Needs) -> bool {
        let covered = |&(memory, disk): &(u32, u32)| needs.memory_mb >= memory && needs.disk_mb >= disk;
        self.hopeless.iter().any(covered)
    }

    fn despair(&mut self, needs: &Needs) {
        if !self.is_hopeless(needs) {
            self.hopeless.push((needs.memory_mb, needs.disk_mb));
        }
    }
}

fn missing_layers(cell: &CellView, needs: &Needs) -> usize {
    let missing = needs.layers.iter().filter(|layer| !cell.layers.contains(*layer));
    missing.count()
}
