//! The network as its users meet it: real namespaces, bridge and rules, on a throw-away host.

mod lifecycle;
mod reach;
mod world;
