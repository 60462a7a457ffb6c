//! The test kit: drives operators without an engine.
//!
//! [`OperatorHarness`] feeds one operator, or a whole chain, with records, watermarks and time, and
//! shows what comes out, what goes to side outputs, which timers wait and what state is kept. No
//! threads, no clock: a test is a list of calls.
//!
//! [`conformance()`] runs an operator over a script many times (restored from a snapshot after
//! every step, with a budget of one, on one, two and three tasks) and checks that what comes out
//! does not depend on it. An operator that passes may be restarted and rescaled anywhere.
//!
//! [`written_lines`] reads what a whole job wrote to files.
//!
//! ```
//! use millstream::operator::process::KeyedProcess;
//! use millstream::prelude::*;
//! use millstream::testing::{OperatorHarness, Step, conformance};
//!
//! /// Reports a key that was silent for a minute.
//! #[derive(Clone, Default)]
//! struct Silence {
//!     last_ms: ValueState<i64>,
//! }
//!
//! impl KeyedProcessFunction<String, String> for Silence {
//!     type Out = String;
//!
//!     fn open(&mut self, ctx: &mut OpenContext<'_>) {
//!         self.last_ms = ctx.value("last", StateSpec::kept_until_cleared());
//!     }
//!
//!     fn process(
//!         &mut self,
//!         _key: String,
//!         ctx: &mut KeyedContext<'_, String>,
//!         _out: &mut impl Output<String>,
//!     ) {
//!         let now_ms = ctx.event_time_ms();
//!         self.last_ms.set(ctx, now_ms);
//!         ctx.register_event_timer(now_ms + 60_000);
//!     }
//!
//!     fn on_timer(
//!         &mut self,
//!         timer: FiredTimer,
//!         ctx: &mut KeyedContext<'_, String>,
//!         out: &mut impl Output<String>,
//!     ) {
//!         if self.last_ms.get(ctx) == Some(&(timer.time_ms - 60_000)) {
//!             self.last_ms.clear(ctx);
//!             out.collect(ctx.key().clone());
//!         }
//!     }
//! }
//!
//! let harness = || {
//!     let operator = KeyedProcess::new(|key: &String| key.clone(), Silence::default());
//!     OperatorHarness::new(operator).keyed_by(|key: &String| key.clone())
//! };
//!
//! let mut silence = harness();
//! silence.push("sensor-1".to_string(), 1_000);
//! silence.push("sensor-2".to_string(), 2_000);
//! silence.push("sensor-1".to_string(), 30_000);
//! assert_eq!(silence.timers::<String>(TimerKind::Event).len(), 3);
//! silence.watermark(62_000);
//! assert_eq!(silence.take_output(), ["sensor-2"]);
//! assert_eq!(silence.keyed_state::<String, i64>("last"), [("sensor-1".to_string(), 30_000)]);
//!
//! conformance(harness, [
//!     Step::record("sensor-1".to_string(), 1_000),
//!     Step::record("sensor-2".to_string(), 2_000),
//!     Step::Watermark(61_000),
//!     Step::record("sensor-2".to_string(), 61_500),
//!     Step::End,
//! ]);
//! ```

mod conformance;
mod harness;
#[cfg(test)]
mod tests;
mod written;

pub use conformance::{Step, conformance};
pub use harness::OperatorHarness;
pub use written::written_lines;
