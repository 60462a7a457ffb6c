//! The kit itself, and functions of users under it.
