//! What a shard counts. Plain fields: a shard owns its numbers, the node asks for a copy.

use std::time::Duration;

use crate::state::shard_store::StoreStatus;
use crate::task::TaskStatus;

/// How long turns take and what they did.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct TurnMetrics {
    /// Turns in which something was done. *Is it alive?*
    pub busy_turns: u64,
    /// Turns in which nothing was there. *Is it spinning for nothing?*
    pub idle_turns: u64,
    /// Turns longer than their tasks may take together, and than
    /// [`crate::limits::TURN_STALL_NS`]. *Does somebody's code block the core?*
    pub stalls: u64,
    /// All busy turns together, nanoseconds. *How much of the core is used?*
    pub turn_ns_sum: u64,
    /// Longest turn, nanoseconds.
    pub turn_ns_max: u64,
    /// Busy turns by length: entry `i` counts those of `2^i..2^(i+1)` nanoseconds.
    pub turn_ns_log2: [u64; 32],
}

impl TurnMetrics {
    /// A busy turn took this long.
    pub(crate) fn on_turn(&mut self, took: Duration) {
        let took_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.busy_turns += 1;
        self.turn_ns_sum = self.turn_ns_sum.saturating_add(took_ns);
        self.turn_ns_max = self.turn_ns_max.max(took_ns);
        self.turn_ns_log2[took_ns.max(1).ilog2().min(31) as usize] += 1;
    }
}

/// How a task stands on its shard.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct TaskReport {
    /// Number of its chain.
    pub chain_index: u16,
    /// Which task of the chain.
    pub task_index: u32,
    /// Its operators, joined by ` -> `.
    pub name: String,
    /// What it says itself.
    pub status: TaskStatus,
    /// How long it had input and could not go on because an output was full or a sink lagged.
    /// *Who is the bottleneck?* The task behind the last one that is backpressured.
    pub backpressured_ms: u64,
}

/// How a shard stands.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ShardStatus {
    /// Which shard.
    pub shard: u32,
    /// Its turns.
    pub turns: TurnMetrics,
    /// Its tasks, in the order of their chains.
    pub tasks: Vec<TaskReport>,
    /// Bytes of the frame buffers that exist. *Is memory in flight bounded?*
    pub frame_bytes: u64,
    /// Frame buffers that are filled, on their way or unread.
    pub frames_outstanding: u64,
    /// Its store, if any of its rows come by key.
    pub store: Option<StoreStatus>,
}
