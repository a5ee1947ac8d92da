//! The network as its users see it, on a host of its own.

mod forged;
mod lifecycle;
mod pace;
mod reach;
mod robust;
mod told;
mod world;
