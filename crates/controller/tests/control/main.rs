//! The control loop and the feeds, end to end over HTTP, on both engines. Cells and routers are fakes that speak the
//! real contracts; the scheduler, the store and the feeds are the product's.

mod backup;
mod canary;
mod cell;
mod machines;
mod platform;
mod policies;
mod rollout;
mod router;
mod seed;
mod sessions;
mod streams;
mod survival;
