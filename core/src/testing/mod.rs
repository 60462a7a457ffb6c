//! The test kit: drives operators and sources without an engine.
//!
//! - [`OperatorHarness`] feeds one operator, or a whole chain, with records, watermarks and time,
//!   and shows what comes out, what goes to side outputs, which timers wait and what state is kept.
//!   No threads, no clock: a test is a list of calls.
//! - [`SourceHarness`] polls a source: records with splits and positions, pauses, restores. Files
//!   come from a [`MemoryDisk`].
//! - [`conformance()`] runs an operator over a script many times (restored from a snapshot after
//!   every step, with a budget of one, on one, two and three tasks) and checks that what comes out
//!   does not depend on it. An operator that passes may be restarted and rescaled anywhere.
//! - [`two_phase_conformance`] kills a transactional sink of yours after every call, and looks at
//!   what can be seen.
//! - [`written_lines`] reads what a whole job wrote to files.
//!
//! ```
//! use millstream::operator::process::KeyedProcess;
//! use millstream::prelude::*;
//! use millstream::testing::{OperatorHarness, Step, conformance};
//!
//! /// A sensor and what it measured.
//! type Reading = (String, i64);
//!
//! /// Readings that came after their time.
//! const LATE: OutputTag<Reading> = OutputTag::new("late");
//!
//! /// Reports a sensor that was silent for a minute of event time, and forgets it an hour of
//! /// processing time after its first reading.
//! #[derive(Clone, Default)]
//! struct Silence {
//!     last_ms: ValueState<i64>,
//!     counts: MapState<i64, u64>,
//! }
//!
//! impl KeyedProcessFunction<String, Reading> for Silence {
//!     type Out = String;
//!
//!     fn open(&mut self, ctx: &mut OpenContext<'_>) {
//!         self.last_ms = ctx.value("last", StateSpec::kept_until_cleared());
//!         self.counts = ctx.map("counts", StateSpec::kept_until_cleared());
//!     }
//!
//!     fn process(
//!         &mut self,
//!         reading: Reading,
//!         ctx: &mut KeyedContext<'_, String>,
//!         _out: &mut impl Output<String>,
//!     ) {
//!         let now_ms = ctx.event_time_ms();
//!         if now_ms <= ctx.watermark_ms() {
//!             ctx.side_output(LATE, reading);
//!             return;
//!         }
//!         if self.last_ms.get(ctx).is_none() {
//!             ctx.register_processing_timer(ctx.processing_time_ms() + 3_600_000);
//!         }
//!         self.last_ms.set(ctx, now_ms);
//!         let count = self.counts.get(ctx, &reading.1).copied().unwrap_or(0);
//!         self.counts.put(ctx, reading.1, count + 1);
//!         ctx.register_event_timer(now_ms + 60_000);
//!     }
//!
//!     fn on_timer(
//!         &mut self,
//!         timer: FiredTimer,
//!         ctx: &mut KeyedContext<'_, String>,
//!         out: &mut impl Output<String>,
//!     ) {
//!         match timer.kind {
//!             TimerKind::Event if self.last_ms.get(ctx) == Some(&(timer.time_ms - 60_000)) => {
//!                 out.collect(format!("{} is silent", ctx.key()));
//!             }
//!             TimerKind::Event => {}
//!             TimerKind::Processing => {
//!                 self.last_ms.clear(ctx);
//!                 self.counts.clear(ctx);
//!                 out.collect(format!("{} is forgotten", ctx.key()));
//!             }
//!         }
//!     }
//! }
//!
//! let harness = || {
//!     let operator = KeyedProcess::new(|r: &Reading| r.0.clone(), Silence::default());
//!     OperatorHarness::new(operator).keyed_by(|r: &Reading| r.0.clone()).reading(LATE)
//! };
//! let reading = |sensor: &str, value| (sensor.to_string(), value);
//!
//! // Records, and what waits then.
//! let mut silence = harness();
//! silence.push(reading("a", 20), 1_000);
//! silence.push(reading("b", 20), 2_000);
//! silence.push(reading("a", 20), 30_000);
//! assert_eq!(silence.timers::<String>(TimerKind::Event).len(), 3);
//! assert_eq!(silence.next_time_ms(), Some(3_600_000));
//!
//! // The watermark fires timers, and goes on behind what they give.
//! silence.watermark(62_000);
//! assert_eq!(silence.take_output(), ["b is silent"]);
//! assert_eq!(silence.released_watermark_ms(), 62_000);
//!
//! // A record behind the watermark.
//! silence.push(reading("a", 21), 5_000);
//! assert_eq!(silence.take_side_output(LATE), [reading("a", 21)]);
//!
//! // State, as a restart finds it.
//! silence.restart(harness());
//! assert!(silence.keyed_state::<String, i64>("last").contains(&("a".to_string(), 30_000)));
//! assert!(silence.map_state::<String, i64, u64>("counts").contains(&("a".to_string(), 20, 2)));
//!
//! // Processing time.
//! silence.processing_time(3_600_000);
//! let mut forgotten = silence.take_output();
//! forgotten.sort();
//! assert_eq!(forgotten, ["a is forgotten", "b is forgotten"]);
//! assert!(silence.keyed_state::<String, i64>("last").is_empty());
//!
//! // However it is cut, the same comes out.
//! conformance(harness, [
//!     Step::record(reading("a", 20), 1_000),
//!     Step::record(reading("b", 21), 2_000),
//!     Step::Watermark(61_000),
//!     Step::record(reading("b", 22), 61_500),
//!     Step::record(reading("a", 20), 500),
//!     Step::ProcessingTime(3_600_000),
//!     Step::End,
//! ]);
//! ```

mod conformance;
mod disk;
mod harness;
mod source;
#[cfg(test)]
mod tests;
mod two_phase;
mod written;

pub use conformance::{Step, conformance};
pub use disk::MemoryDisk;
pub use harness::OperatorHarness;
pub use source::{SourceHarness, SourceRecord};
pub use two_phase::two_phase_conformance;
pub use written::written_lines;

use crate::data::key_group::KeyGroupCount;
use crate::operator::TaskEnv;
use crate::operator::env::TaskPlace;

/// The environment of task `task_index` of `parallelism`.
pub(crate) fn task_env(task_index: u32, parallelism: u32) -> TaskEnv {
    let key_group_count = KeyGroupCount::new(128).expect("within the limits");
    TaskEnv::new(TaskPlace { chain_index: 0, task_index, parallelism, key_group_count })
}
