//! No control groups: for an agent that may not make any. Nothing is limited; a sandbox ends because its first process
//! does, which takes everything in its process namespace along.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use super::device::Device;
use super::meter::Figure;
use super::share::Share;
use super::{GroupPlan, Groups};
use crate::{Error, Limits, Oom, Result};

/// Reads as no figures at all.
const NOTHING: &str = "/dev/null";

/// See the module.
#[derive(Debug)]
pub struct Absent;

impl Groups for Absent {
    fn layout(&self) -> &'static str {
        "none"
    }

    fn create(&self, _id: &str, _limits: &Limits) -> Result<()> {
        Ok(())
    }

    fn update(&self, _id: &str, _from: &Limits, _to: &Limits, _devices: &[Device]) -> Result<()> {
        Ok(())
    }

    fn divide(&self, _id: &str, _memory_bytes: u64, _shares: &[(usize, u64)]) -> Result<Vec<Share>> {
        Ok(Vec::new())
    }

    fn plan(&self, _id: &str) -> GroupPlan {
        GroupPlan {
            oom_counter: NOTHING.into(),
            memory_limit: NOTHING.into(),
            pids_events: NOTHING.into(),
            pids_limit: NOTHING.into(),
            ..GroupPlan::default()
        }
    }

    fn entry(&self, _id: &str) -> Result<Option<OwnedFd>> {
        Ok(None)
    }

    fn kill(&self, _id: &str) -> Result<()> {
        Ok(())
    }

    fn freeze(&self, _id: &str, _frozen: bool) -> Result<()> {
        Err(Error::Host {
            reason: "sandboxes can only be stopped where there are control groups: run as root".to_owned(),
        })
    }

    fn is_frozen(&self, _id: &str) -> bool {
        false
    }

    fn figures(&self, _id: &str) -> Vec<Figure> {
        Vec::new()
    }

    fn missing(&self, _disks: &[Device]) -> Vec<String> {
        Vec::new()
    }

    fn oom(&self, _id: &str) -> Option<Oom> {
        None
    }

    fn pids_refused(&self, _id: &str) -> u64 {
        0
    }

    fn folders(&self, _id: &str) -> Vec<PathBuf> {
        Vec::new()
    }

    fn parents(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    fn unified_parent(&self) -> Option<PathBuf> {
        None
    }

    fn adopt_spawner(&self, _pid: i32) -> io::Result<()> {
        Ok(())
    }
}
