//! The router as clients, instances and operators see it: real sockets, a fake controller.

mod balance;
mod checklist;
mod face;
mod kit;
mod operation;
mod protocols;
mod requests;
mod strict;
mod tls;
