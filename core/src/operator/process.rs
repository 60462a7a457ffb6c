//! Functions of a user's own with state and timers: [`KeyedProcessFunction`] and its relatives.
//!
//! | function | inputs | state and timers per key | operator |
//! |---|---|---|---|
//! | [`KeyedProcessFunction`] | one, keyed | yes | [`KeyedProcess`] |
//! | [`ProcessFunction`] | one | no | [`Process`] |
//! | [`KeyedCoProcessFunction`] | two, both keyed alike | yes | [`KeyedCoProcess`] |
//! | [`CoProcessFunction`] | two | no | [`CoProcess`] |
//! | [`KeyedBroadcastProcessFunction`] | keyed and broadcast | yes | [`KeyedBroadcastProcess`] |
//! | [`BroadcastProcessFunction`] | one and broadcast | no | [`BroadcastProcess`] |
//!
//! A function is a value: the plan holds a prototype, every task opens and runs a clone. In `open`
//! it declares its states and keeps their handles; everything else it needs is in the context of
//! the call. It sees one record or one timer at a time, and for each key they come in order: timers
//! that are due fire before the key's next record.
//!
//! The plan opens a prototype's clone too, to learn the states' names; so `open` declares, and does
//! nothing else.

mod broadcast;
mod co;
mod context;
mod keyed;
pub(in crate::operator) mod open;
mod task;
#[cfg(test)]
mod tests;
mod unkeyed;

pub use broadcast::{
    BroadcastContext, BroadcastProcess, BroadcastProcessFunction, KeyedBroadcastContext,
    KeyedBroadcastProcess, KeyedBroadcastProcessFunction,
};
pub use co::{CoProcess, CoProcessFunction, KeyedCoProcess, KeyedCoProcessFunction};
pub use context::{FiredTimer, KeyedContext, ProcessContext};
pub use keyed::{KeyedProcess, KeyedProcessFunction};
pub use open::OpenContext;
pub use unkeyed::{Process, ProcessFunction};
