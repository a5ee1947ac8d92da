//! The cell for real: an agent in a process of its own, real sandboxes, a controller that is as small as the contract
//! allows. Needs root, `paas-init` and `paas-lifecycle`. What a test leaves behind fails it.

mod builds;
mod controller;
mod hostile;
mod images;
mod instances;
mod kit;
mod parked;
mod policies;
mod restart;
mod sessions;
mod world;

/// Not a test: the agent's process, which the tests start with a configuration.
#[test]
fn agent_process() {
    kit::agent_process();
}
