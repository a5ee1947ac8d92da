//! What is done for a piece of work, one file a step: prepare trees, describe the sandbox, take over a build's outputs.
//! When a step is due, and what follows from its failure, is the work's.

pub(crate) mod outputs;
pub(crate) mod prepare;
pub(crate) mod shape;
