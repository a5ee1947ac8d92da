//! Test kit: a real platform on one machine, started and torn down by a test.
