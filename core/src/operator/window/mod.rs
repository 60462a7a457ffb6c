//! Windows of keyed streams.
//!
//! ```text
//!                     ┌─ TumblingWindows   one table of accumulators per window, dropped whole
//! reduce, aggregate ──┤
//!                     └─ SlidingWindows    slices shared by all windows that cover them
//! anything else ─────── GeneralWindows     any assigner, trigger, evictor, function
//! ```
//!
//! All three fire in slices: a watermark makes windows due, they fire as far as the turn's budget
//! goes, and the watermark goes on when the last one has. Rows may come in between. They are late
//! or not by the new watermark at once, and a row of a key that still has windows to fire fires
//! those first; if they are many, the row waits for some turns (`operator/waiting.rs`). So every
//! key sees what it would see if everything fired at once.
//!
//! Not in slices: what one late row within the allowed lateness fires again, which is every window
//! of its time that has fired, at most lateness over slide of them; and the look-ups of its key in
//! tumbling windows that are due. Both are charged to the budget, so nothing else comes after them
//! in that turn.
//!
//! A record is late if all windows it belongs to have been cleaned up: the watermark has reached
//! the window's last millisecond plus the allowed lateness. Late records are counted and go to the
//! side output for late records, if there is one.
//!
//! The result's event time is the last millisecond of its window.
//!
//! Invariant: what a key's windows give depends on its own rows and on the watermarks between them,
//! not on budgets or on other keys.

pub(in crate::operator) mod agenda;
pub mod aggregate;
pub mod co_contents;
pub mod contents;
pub mod function;
pub mod general;
mod held;
mod panes;
mod partials;
pub mod sliding;
mod states;
pub mod stored;
pub mod tumbling;

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use crate::data::row::Row;
use crate::graph::{Facts, SideOutputFact, SideOutputFacts};
use crate::operator::side_output::OutputTag;
use crate::operator::watermark::has_event_time;
use crate::operator::{OperatorContext, Output};
use crate::time::slices::Slices;
use crate::time::strategy::duration_ms;
use crate::time::window::{TimeDomain, Tumbling, Window, WindowAssigner, show};

pub use aggregate::{Aggregate, Reduce, WindowAggregate};
pub use co_contents::{CoEvicted, CoGroupFunction, CoGrouped, Pairs};
pub use contents::{Aggregated, Listed, WindowContents};
pub use function::{
    EmitResult, Folded, ProcessWindowContext, ProcessWindowFunction, WindowContext, WindowFunction,
};
pub use general::GeneralWindows;
pub(crate) use held::window_timers;
pub use sliding::SlidingWindows;
pub use tumbling::TumblingWindows;

/// Where records `T` go that come too late: nowhere by default.
pub trait LateOutput<T>: Copy + Default + Send + 'static {
    /// Takes a record; it has been counted.
    fn put(&self, row: Row<T>, ctx: &OperatorContext<'_>);

    /// The side outputs that it writes.
    fn facts(&self) -> Vec<SideOutputFact>;
}

impl<T: 'static> LateOutput<T> for Option<OutputTag<T>> {
    fn put(&self, row: Row<T>, ctx: &OperatorContext<'_>) {
        if let Some(tag) = self {
            ctx.side_output_row(*tag, row);
        }
    }

    fn facts(&self) -> Vec<SideOutputFact> {
        self.iter().map(OutputTag::fact).collect()
    }
}

/// How long windows wait for late records, and where those go (`L`) that are too late.
pub struct Lateness<T, L = Option<OutputTag<T>>> {
    allowed_ms: i64,
    output: L,
    record: PhantomData<fn(T)>,
}

impl<T, L: Default> Default for Lateness<T, L> {
    fn default() -> Self {
        Self { allowed_ms: 0, output: L::default(), record: PhantomData }
    }
}

impl<T, L: Copy> Clone for Lateness<T, L> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, L: Copy> Copy for Lateness<T, L> {}

impl<T, L> fmt::Debug for Lateness<T, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.allowed_ms)
    }
}

impl<T: 'static> Lateness<T> {
    /// Records that come too late go there. Default: they are dropped, and counted.
    pub fn to(mut self, tag: OutputTag<T>) -> Self {
        self.output = Some(tag);
        self
    }
}

impl<T: 'static, L: LateOutput<T>> Lateness<T, L> {
    /// Windows stay for this long after they were complete, and fire again for every record that
    /// comes. Default 0.
    pub fn allow(mut self, lateness: Duration) -> Self {
        self.allowed_ms = duration_ms(lateness);
        self
    }

    /// Where records that come too late go.
    pub fn output_mut(&mut self) -> &mut L {
        &mut self.output
    }

    /// In milliseconds.
    pub fn allowed_ms(&self) -> i64 {
        self.allowed_ms
    }

    /// Counts a record that comes too late, and puts it where it belongs.
    #[cold]
    pub(crate) fn put_aside(&self, row: Row<T>, ctx: &OperatorContext<'_>) {
        ctx.env().count_late();
        self.output.put(row, ctx);
    }

    /// What the plan must know about windows `detail` that wait like this, and whose function may
    /// write `side_outputs`.
    pub(crate) fn facts(
        &self,
        domain: TimeDomain,
        detail: String,
        side_outputs: SideOutputFacts,
    ) -> Facts {
        let allowed = match self.allowed_ms {
            0 => String::new(),
            ms => format!(", allowed lateness {}", show(ms)),
        };
        let side_outputs = match side_outputs {
            SideOutputFacts::Any => SideOutputFacts::Any,
            SideOutputFacts::Only(mut tags) => {
                tags.extend(self.output.facts());
                SideOutputFacts::Only(tags)
            }
        };
        Facts {
            detail: detail + &allowed,
            is_keyed: true,
            is_stateful: true,
            needs_watermarks: (domain == TimeDomain::Event).then_some("event-time windows"),
            side_outputs,
            ..Facts::default()
        }
    }
}

/// The windows of a sliced operator: which, and by which clock.
#[derive(Debug, Clone)]
pub struct SlicedBy {
    slices: Slices,
    domain: TimeDomain,
    detail: String,
    problems: Vec<String>,
}

impl SlicedBy {
    /// The windows of a tumbling, sliding or cumulative assigner. If it has
    /// [`problems`](WindowAssigner::problems), the plan will refuse the operator; until then any
    /// windows will do.
    pub fn new<A: WindowAssigner<()> + Copy + Into<Slices>>(assigner: A) -> Self {
        let problems = assigner.problems();
        let slices = match problems.as_slice() {
            [] => assigner.into(),
            _ => Tumbling::new(Duration::from_secs(1)).into(),
        };
        Self { slices, domain: assigner.domain(), detail: assigner.describe(), problems }
    }

    fn facts<T: 'static>(&self, lateness: &Lateness<T>, side_outputs: SideOutputFacts) -> Facts {
        let facts = lateness.facts(self.domain, self.detail.clone(), side_outputs);
        Facts { problems: self.problems.clone(), ..facts }
    }

    /// Whether no two of its windows overlap.
    pub fn is_tumbling(&self) -> bool {
        self.slices.is_tumbling()
    }
}

/// The clock that windows go by.
#[derive(Debug, Clone, Copy)]
struct Clock {
    domain: TimeDomain,
    /// The latest processing time (ms) seen: windows do not follow a clock that is set back.
    now_ms: i64,
}

/// When a row counts, and how far the clock has come: windows up to there are due.
#[derive(Debug, Clone, Copy)]
pub(in crate::operator) struct Reading {
    time_ms: i64,
    horizon_ms: i64,
}

impl Clock {
    fn new(domain: TimeDomain) -> Self {
        Self { domain, now_ms: i64::MIN + 1 }
    }

    /// Reads the clock for a row; `None` if the row has no usable event time, which stops the job.
    #[inline]
    fn read<T>(&mut self, row: &Row<T>, ctx: &OperatorContext<'_>) -> Option<Reading> {
        match self.domain {
            TimeDomain::Event => has_event_time(row, ctx)
                .then(|| Reading { time_ms: row.event_time_ms, horizon_ms: ctx.watermark_ms() }),
            TimeDomain::Processing => {
                let horizon_ms = self.turn(ctx);
                Some(Reading { time_ms: self.now_ms, horizon_ms })
            }
        }
    }

    /// Advances processing time to that of the turn, as [`Clock::advance`].
    fn turn(&mut self, ctx: &OperatorContext<'_>) -> i64 {
        self.advance(ctx.processing_time_ms())
    }

    /// Advances processing time; answers the last millisecond in which no row will be any more.
    fn advance(&mut self, now_ms: i64) -> i64 {
        self.now_ms = self.now_ms.max(now_ms);
        self.past_ms()
    }

    /// The last millisecond in which no row will be any more.
    fn past_ms(&self) -> i64 {
        self.now_ms - 1
    }
}

/// Hands a window's result to its function, as of the window's end.
fn emit_result<K, V, F: WindowFunction<K, V>>(
    function: &mut F,
    of: (&K, u64),
    window: Window,
    value: V,
    ctx: &OperatorContext<'_>,
    out: &mut impl Output<F::Out>,
) {
    let (key, hash64) = of;
    let outer = ctx.env().enter_time(window.max_timestamp(), hash64);
    function.process(key, value, &WindowContext::new(window, *ctx), out);
    ctx.env().leave(outer);
}
