//! Functions with two inputs, with broadcast, without keys.
