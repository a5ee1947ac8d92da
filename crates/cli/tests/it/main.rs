//! The program as its users run it: the real binary against a real HTTP server that plays the controller.

mod apps;
mod basics;
mod fake;
mod push;
mod run;
mod security_groups;
mod ssh;
mod staging;
#[cfg(unix)]
mod terminal;
