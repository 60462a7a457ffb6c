//! The plan of a job, as pure data.
//!
//! Nothing here runs anything: the plan handed to tasks is numbers and names, so that it can be
//! checked, printed and simulated without an engine.

pub mod explain;
pub mod facts;
pub mod guarantee;
pub mod logical;
pub mod physical;
pub mod plan;
pub mod validate;

pub use explain::{ExplainFormat, Explanation};
pub use facts::{Appearance, Facts, SideOutputFact, SideOutputFacts};
pub use guarantee::{Delivery, Guarantee};
pub use logical::{ChainEnd, ChainId, Edge, LogicalGraph, Node, NodeId, NodeKind};
pub use physical::{PhysicalChain, PhysicalEdge, PhysicalGraph};
pub use plan::{ChannelId, ChannelPlan, InputPlan, OutputPlan, Partitioner, SidePlan, TaskPlan};
pub use validate::{Findings, unmarked_sources, validate};
