//! What the pool lacks and what it has too much of: decisions from its state alone, one task at a time. Carrying them
//! out is the parent's.

use std::time::{Duration, Instant};

use super::{IMAGES, State, Task};
use crate::{ParkSpec, Parking};

impl State {
    /// Blanks of this kind are wanted before others.
    pub(super) fn expect(&mut self, networked: bool) {
        self.kinds.retain(|known| *known != networked);
        self.kinds.insert(0, networked);
    }

    /// The kind of blank that one more is wanted of.
    pub(super) fn missing_blank(&self, parking: &Parking) -> Option<bool> {
        let each = parking.blanks.checked_div(self.kinds.len())?.max(1);
        let mut left = parking.blanks;
        self.kinds.iter().copied().find(|kind| {
            let allowed = left.min(each);
            left -= allowed;
            self.blanks.iter().filter(|blank| blank.networked == *kind).count() < allowed
        })
    }

    /// One too many: the latest kind is served first, so it is one of another.
    pub(super) fn surplus_blank(&self, parking: &Parking) -> Option<usize> {
        if self.blanks.len() <= parking.blanks {
            return None;
        }
        let other = |blank: &super::Blank| Some(&blank.networked) != self.kinds.first();
        Some(self.blanks.iter().position(other).unwrap_or(0))
    }

    /// Whether nothing is missing that is wanted and permitted.
    pub(super) fn is_complete(&self, parking: &Parking) -> bool {
        self.missing(parking).is_none()
            && self.missing_disk(parking).is_none()
            && self.missing_blank(parking).is_none()
            && self.missing_image().is_none()
    }

    /// The shape that one more is wanted of.
    pub(super) fn missing(&self, parking: &Parking) -> Option<ParkSpec> {
        let mut left = parking.max;
        for (spec, count) in &self.wishes {
            let allowed = left.min(*count);
            left -= allowed;
            if self
                .ready
                .iter()
                .filter(|parked| !parked.spoiled && parked.spec == *spec)
                .count()
                < allowed
            {
                return Some(spec.clone());
            }
        }
        None
    }

    /// One that nobody wants any more, or that has died.
    pub(super) fn surplus(&self, parking: &Parking) -> Option<usize> {
        let mut left = parking.max;
        let mut kept = vec![false; self.ready.len()];
        for (spec, count) in &self.wishes {
            let allowed = left.min(*count);
            left -= allowed;
            let alike = self.ready.iter().enumerate();
            let alike = alike.filter(|(_, parked)| parked.spec == *spec && !parked.spoiled);
            alike.take(allowed).for_each(|(at, _)| kept[at] = true);
        }
        kept.iter().position(|kept| !kept)
    }

    pub(super) fn missing_disk(&self, parking: &Parking) -> Option<(u64, u64)> {
        let each = parking.disks.checked_div(self.sizes.len())?.max(1);
        let mut left = parking.disks;
        self.sizes.iter().copied().find(|size| {
            let allowed = left.min(each);
            left -= allowed;
            self.disks
                .iter()
                .filter(|(bytes, inodes, ..)| (*bytes, *inodes) == *size)
                .count()
                < allowed
        })
    }

    pub(super) fn surplus_disk(&self, parking: &Parking) -> Option<usize> {
        let sizes = &self.sizes;
        let unknown = self
            .disks
            .iter()
            .position(|(bytes, inodes, ..)| !sizes.contains(&(*bytes, *inodes)));
        unknown.or((self.disks.len() > parking.disks).then_some(0))
    }

    /// The size that one more image is wanted of.
    pub(super) fn missing_image(&self) -> Option<(u64, u64)> {
        let count = |size| {
            self.images
                .iter()
                .filter(|(bytes, inodes, _)| (*bytes, *inodes) == size)
                .count()
        };
        let mut sizes = self.sizes.iter().copied().filter(|_| self.can_stock);
        sizes.find(|size| count(*size) < IMAGES)
    }

    fn surplus_image(&self) -> Option<usize> {
        let known = |size| self.sizes.contains(&size);
        self.images
            .iter()
            .position(|(bytes, inodes, _)| !known((*bytes, *inodes)))
    }

    pub(super) fn pauses(&self) -> Option<Duration> {
        let (until, _) = self.pause?;
        Some(until.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero())
    }

    pub(super) fn has_task(&self, parking: &Parking) -> bool {
        let surplus = self.surplus(parking).is_some()
            || self.surplus_disk(parking).is_some()
            || self.surplus_image().is_some()
            || self.surplus_blank(parking).is_some();
        surplus || self.pauses().is_none() && !self.is_complete(parking)
    }

    pub(super) fn task(&mut self, parking: &Parking) -> Option<Task> {
        if let Some(at) = self.surplus(parking) {
            return Some(Task::Clear(Box::new(self.ready.swap_remove(at).seat)));
        }
        if let Some(at) = self.surplus_blank(parking) {
            return Some(Task::Clear(Box::new(self.blanks.remove(at).seat)));
        }
        if let Some(at) = self.surplus_disk(parking) {
            return self
                .disks
                .remove(at)
                .map(|(_, _, layer, dir)| Task::DropDisk(layer, dir));
        }
        if let Some(at) = self.surplus_image() {
            return Some(Task::DropImage(self.images.swap_remove(at).2));
        }
        if self.pauses().is_some() {
            return None;
        }
        if let Some(spec) = self.missing(parking) {
            return Some(Task::Park(spec));
        }
        if let Some(networked) = self.missing_blank(parking) {
            return Some(Task::Blank(networked));
        }
        if let Some((bytes, inodes)) = self.missing_disk(parking) {
            return Some(Task::Disk(bytes, inodes));
        }
        self.missing_image().map(|(bytes, inodes)| Task::Image(bytes, inodes))
    }
}
