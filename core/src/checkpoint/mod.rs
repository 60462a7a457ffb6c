//! Checkpoints of a job: when they are taken, what is on disk of them, what of that can be
//! believed.
//!
//! ```text
//! Coordinator ─trigger n─► shards ─barriers─► tasks ─snapshots─► shard: part file, durable
//!      ▲                                                               │
//!      └──────────────────────────── part row ◄────────────────────────┘
//!      └─all parts─► manifest, durable: THAT IS THE COMMIT ─► sinks commit, older ones are removed
//! ```
//!
//! All of it is pure: the [`Coordinator`] is told what happened and answers with orders, files are
//! bytes. Shards carry the orders out, in the simulator as on a machine.
//!
//! | file of a directory | what it is |
//! |---|---|
//! | `chk-0000000042.manifest` | which parts make checkpoint 42, see [`manifest`] |
//! | `chk-0000000042.shard-00003` | what the tasks of shard 3 had, see [`part`] |
//! | `ended` | that the job has ended, see [`ended`] |
//! | `state-0000000007.shard-00003/…` | what keys of shard 3 had, see [`tables`] |
//!
//! Tables are shared by the checkpoints of a run, which is called by its first: 7.
//!
//! Invariant: a manifest is written when everything it names is durable, and goes before any of
//! that goes. So whoever reads a manifest finds all of it, whenever the machine fails.
//!
//! A job that fails begins again in its process as [`restart`] says.
//!
//! Not here: barriers and what is in a snapshot (`task/`, `operator/`), files as effects
//! (`shard/`).

pub mod coordinator;
pub mod directory;
pub mod ended;
pub mod manifest;
pub mod names;
pub mod part;
pub mod restart;
pub mod tables;

pub use coordinator::{CheckpointSettings, Coordinator, Order, WrittenPart};
pub use ended::Ended;
pub use manifest::{Manifest, PartRow, Tables};
pub use restart::{Restarts, Strategy, Verdict};
