//! Private layers that are ready, formatted and mounted, and below them a stock of empty images: files on
//! their devices, of which a layer is made within a millisecond. The stock is kept whatever [`crate::Parking`] says, for the sizes last asked for.

use std::path::{Path, PathBuf};

use super::{Inner, MAX_SIZES, Pool, State};
use crate::Result;
use crate::disk::{Layer, Stocked};
use crate::error::Context;

/// Where the stock is among the layers that are ready.
const STOCK: &str = "stock";

impl State {
    /// Layers of this size are wanted before others.
    fn expect_size(&mut self, size: (u64, u64)) {
        self.sizes.retain(|known| *known != size);
        self.sizes.insert(0, size);
        self.sizes.truncate(MAX_SIZES);
    }
}

impl Pool {
    /// A private layer of the size wanted, if one is ready.
    pub fn take_disk(&self, size: (u64, u64)) -> Option<(Layer, PathBuf)> {
        let mut state = self.lock();
        state.expect_size(size);
        let at = state
            .disks
            .iter()
            .position(|(bytes, inodes, ..)| (*bytes, *inodes) == size)?;
        state.disks.remove(at).map(|(_, _, layer, dir)| (layer, dir))
    }

    /// Puts a layer that was ready into a sandbox's folder.
    pub fn move_disk(&self, (layer, from): (Layer, PathBuf), dir: &Path) -> Result<Layer> {
        let plan = layer.plan.clone().moved(dir);
        if let (Some(old), Some(new)) = (layer.plan.image(), plan.image()) {
            std::fs::rename(old, new).at("take the private layer", new)?;
        }
        std::fs::remove_dir(&from).at("remove folder", from)?;
        Ok(Layer { plan, ..layer })
    }

    /// An empty image for a layer of the size wanted, if there is one.
    fn take_image(&self, size: (u64, u64)) -> Option<Stocked> {
        let mut state = self.lock();
        let at = state
            .images
            .iter()
            .position(|(bytes, inodes, _)| (*bytes, *inodes) == size)?;
        Some(state.images.swap_remove(at).2)
    }
}

impl Inner {
    /// A private layer in the folder `dir`.
    pub fn new_layer(&self, dir: &Path, (bytes, inodes): (u64, u64)) -> Result<Layer> {
        if let Some(image) = self.pool.take_image((bytes, inodes)) {
            match Layer::of_stock(image, dir) {
                Ok(layer) => return Ok(layer),
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "an empty image is of no use; another is made");
                }
            }
        }
        Layer::make(&*self.disk, dir, bytes, inodes)
    }

    pub(super) fn make_disk(&self, bytes: u64, inodes: u64) -> Result<()> {
        let dir = self.folders.disks().join(self.pool.name());
        std::fs::create_dir(&dir).at("make folder", &dir)?;
        let layer = self.new_layer(&dir, (bytes, inodes));
        let layer = layer.inspect_err(|_| drop(std::fs::remove_dir_all(&dir)))?;
        self.pool.lock().disks.push_back((bytes, inodes, layer, dir));
        Ok(())
    }

    pub(super) fn make_image(&self, bytes: u64, inodes: u64) -> Result<()> {
        let stock = self.folders.disks().join(STOCK);
        std::fs::create_dir_all(&stock).at("make folder", &stock)?;
        let image = stock.join(self.pool.name());
        let image = self.disk.stock(&image, bytes, inodes)?;
        self.pool.lock().images.push((bytes, inodes, image));
        Ok(())
    }
}
