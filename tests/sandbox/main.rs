//! The sandbox suite: real sandboxes on this machine, judged from inside by a probe and from
//! outside by what is left. Needs root.

mod isolation;
mod kit;
mod lifecycle;
mod limits;
mod logs;
mod timing;
