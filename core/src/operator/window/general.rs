//! Windows of any kind: any assigner, trigger, evictor and function; sessions that merge.
//!
//! ```text
//! row ─► windows ─► too late? ─► contents += row ─► trigger.on_element ─► fire, purge
//!        (merge)                                          │ timers
//! watermark, clock ─► timers of keys, by time ─► trigger.on_.._time ─► fire, purge
//!                                             └► cleanup: the window is gone
//! ```
//!
//! The rules are those of Flink's `WindowOperator`: a window is late once the watermark has reached
//! its last millisecond plus the allowed lateness, and is cleaned up then; a row is late if all its
//! windows are; merging joins contents and trigger states and forgets the merged windows' timers;
//! a purge empties a window and leaves its trigger's state.
//!
//! A key's due timers fire before its next row is looked at; if they are too many, the row waits
//! (`operator/waiting.rs`). What one clock made due fires before the other makes more due. So
//! firing in slices cannot be seen.
//!
//! When memory is short, keys that were not used lately leave it with all their windows
//! (`general/leaving.rs`). Rows of such a key are parked; the clocks do not rise before they have
//! been taken.
//!
//! Invariant: for every timer of a window and every cleanup time there is a timer of the key, and
//! for no other time.
//! Not here: how a row is taken (`general/taking.rs`), timers and their firing
//! (`general/firing.rs`), sessions that merge (`general/merging.rs`), snapshots
//! (`general/saving.rs`); the cheap cases (`tumbling.rs`, `sliding.rs`).

mod firing;
mod leaving;
mod merging;
mod saving;
mod taking;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use crate::data::ahead::Ahead;
use crate::data::either::Either;
use crate::data::element::CheckpointId;
use crate::data::key::Key;
use crate::data::key_group::{HashRange, KeyGroupCount};
use crate::data::row::{NO_EVENT_TIME, Row};
use crate::data::slot::Slot;
use crate::error::Error;
use crate::graph::Facts;
use crate::operator::join::{LateJoin, LateSides};
use crate::operator::spilling;
use crate::operator::waiting::{Parked, WaitingRows};
use crate::operator::watermark::has_event_time;
use crate::operator::window::contents::WindowContents;
use crate::operator::window::held::{Held, WINDOWS};
use crate::operator::window::states::{self, WindowStates};
use crate::operator::window::{Clock, Lateness};
use crate::operator::{Operator, OperatorContext, Output, Progress};
use crate::state::durable::Save;
use crate::state::residents::Residents;
use crate::state::snapshot::{SnapshotReader, SnapshotWriter};
use crate::time::timer::{Moment, Registrant, TimerQueue};
use crate::time::trigger::{TimerChange, Trigger};
use crate::time::window::{TimeDomain, Window, WindowAssigner};
use firing::Cause;
use leaving::KeysOf;

/// Windows `W` of every key, fired by trigger `G`, with contents `C`.
pub struct GeneralWindows<K, S, W, G, C>
where
    C: WindowContents<K>,
    G: Trigger<C::In>,
{
    key_of: S,
    assigner: W,
    trigger: G,
    contents: C,
    lateness: Lateness<C::In, C::Late>,
    clock: Clock,
    groups: KeyGroupCount,
    keys: KeysOf<K, C, G>,
    /// Their horizon is the watermark, as far as rows and triggers are concerned.
    event_timers: TimerQueue,
    processing_timers: TimerQueue,
    /// How far both had come at the last cut.
    moments: [Moment; 2],
    /// What the function has declared, if it has.
    states: Option<WindowStates<K>>,
    /// Rows, and rises of the clocks (`None`), that have to wait for what was due before them.
    waiting: VecDeque<(Option<Row<C::In>>, Arrival)>,
    /// They came when the clocks had come to where they are.
    parked: Parked<(Option<Row<C::In>>, Arrival)>,
    /// Windows of the row or timer being processed; empty in between.
    windows: Vec<Window>,
    /// What a trigger wants done to its timers; empty in between.
    changes: Vec<TimerChange>,
}

/// How far the clocks had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::operator) struct Arrival {
    watermark_ms: i64,
    processing_time_ms: i64,
}

impl Arrival {
    fn now(ctx: &OperatorContext<'_>) -> Self {
        let (watermark_ms, processing_time_ms) = (ctx.watermark_ms(), ctx.processing_time_ms());
        Self { watermark_ms, processing_time_ms }
    }
}

impl<K, S, W, G, C> GeneralWindows<K, S, W, G, C>
where
    K: Key,
    S: FnMut(&C::In) -> K + 'static,
    W: WindowAssigner<C::In>,
    G: Trigger<C::In>,
    C: WindowContents<K>,
{
    /// Windows of the rows of each key (`key_of(record)`, hashed to the row's hash).
    pub fn new(
        assigner: W,
        trigger: G,
        key_of: S,
        contents: C,
        lateness: Lateness<C::In, C::Late>,
    ) -> Self {
        Self {
            key_of,
            clock: Clock::new(assigner.domain()),
            assigner,
            trigger,
            contents,
            lateness,
            groups: KeyGroupCount::new(1).expect("in range"),
            keys: Residents::new(HashRange::ALL),
            event_timers: TimerQueue::default(),
            processing_timers: TimerQueue::default(),
            moments: [TimerQueue::default().moment(); 2],
            states: None,
            waiting: VecDeque::new(),
            parked: Parked::default(),
            windows: Vec::new(),
            changes: Vec::new(),
        }
    }

    /// The same windows with another trigger.
    pub fn with_trigger<H: Trigger<C::In>>(self, trigger: H) -> GeneralWindows<K, S, W, H, C> {
        GeneralWindows::new(self.assigner, trigger, self.key_of, self.contents, self.lateness)
    }

    /// The same windows with other contents of the same records.
    pub fn with_contents<D>(self, change: impl FnOnce(C) -> D) -> GeneralWindows<K, S, W, G, D>
    where
        D: WindowContents<K, In = C::In, Late = C::Late>,
    {
        let contents = change(self.contents);
        GeneralWindows::new(self.assigner, self.trigger, self.key_of, contents, self.lateness)
    }

    /// The same windows, that wait for late records.
    pub fn allowing_lateness(self, lateness: Duration) -> Self {
        Self { lateness: self.lateness.allow(lateness), ..self }
    }

    fn timers(&mut self, domain: TimeDomain) -> &mut TimerQueue {
        match domain {
            TimeDomain::Event => &mut self.event_timers,
            TimeDomain::Processing => &mut self.processing_timers,
        }
    }

    /// The time at which `window` is cleaned up, if ever.
    fn cleanup_ms(&self, window: Window) -> Option<i64> {
        match self.clock.domain {
            TimeDomain::Event => window.cleanup_ms(self.lateness.allowed_ms()),
            TimeDomain::Processing => window.cleanup_ms(0),
        }
    }

    fn is_late(&self, window: Window, horizon_ms: i64) -> bool {
        self.cleanup_ms(window).is_some_and(|cleanup_ms| cleanup_ms <= horizon_ms)
    }

    /// Adds the row to one window, which is there from now on, and asks the trigger.
    fn add(
        &mut self,
        slot: Slot,
        window: Window,
        (value, event_time_ms): (C::In, i64),
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<C::Out>,
    ) {
        let index = self.hold(slot, window);
        let held = &mut self.keys.value_mut(slot).windows[index];
        let kept = held.contents.get_or_insert_with(|| self.contents.create());
        self.contents.add(kept, value.clone(), event_time_ms);
        self.ask((slot, index), &Cause::Element(&value, event_time_ms), ctx, out);
        self.drop_empty(slot, index);
    }

    /// The global window is never cleaned up, so it goes as soon as there is nothing in it.
    fn drop_empty(&mut self, slot: Slot, index: usize) {
        let windows = &mut self.keys.value_mut(slot).windows;
        if windows[index].window == Window::GLOBAL && windows[index].is_empty() {
            windows.remove(index);
        }
    }

    /// The index of `window` among those of the key, which it joins if it is new.
    fn hold(&mut self, slot: Slot, window: Window) -> usize {
        let cleanup_ms = self.cleanup_ms(window);
        let (hash64, _, of_key) = self.keys.entry_mut(slot);
        match of_key.find(window) {
            Ok(index) => index,
            Err(index) => {
                of_key.windows.insert(index, Held::new(window));
                if let Some(cleanup_ms) = cleanup_ms {
                    let domain = self.clock.domain;
                    self.timers(domain).register(slot, hash64, cleanup_ms, Registrant::Record);
                }
                index
            }
        }
    }
}

impl<K, S, W, G, C, A, B> LateJoin for GeneralWindows<K, S, W, G, C>
where
    K: Key,
    S: FnMut(&Either<A, B>) -> K + 'static,
    W: WindowAssigner<Either<A, B>>,
    G: Trigger<Either<A, B>>,
    C: WindowContents<K, In = Either<A, B>, Late = LateSides<A, B>>,
    A: 'static,
    B: 'static,
{
    type Left = A;
    type Right = B;

    fn late_mut(&mut self) -> &mut LateSides<A, B> {
        self.lateness.output_mut()
    }
}

impl<K, S, W, G, C> Operator for GeneralWindows<K, S, W, G, C>
where
    K: Key,
    S: FnMut(&C::In) -> K + 'static,
    W: WindowAssigner<C::In>,
    G: Trigger<C::In>,
    C: WindowContents<K>,
{
    type In = C::In;
    type Out = C::Out;

    const ENTERS_ROWS: bool = false;

    fn facts(&self) -> Facts {
        let detail = format!(
            "{}, fires {}{}",
            self.assigner.describe(),
            self.trigger.describe(),
            self.contents.describe()
        );
        let mut facts =
            self.lateness.facts(self.clock.domain, detail, self.contents.side_outputs());
        let mut contents = self.contents.clone();
        let declared = states::facts(|ctx| contents.open(ctx));
        facts.needs_watermarks = facts.needs_watermarks.or(declared.needs_watermarks);
        facts.unbounded_states = declared.unbounded_states;
        facts.problems = self.assigner.problems();
        facts.problems.extend(declared.problems);
        facts.problems.extend(self.trigger.problems());
        facts.problems.extend(self.contents.problems());
        if self.assigner.is_endless() {
            if !self.trigger.fires_without_end() {
                let problem = "its window has no end: say when it fires with .trigger(..)";
                facts.problems.push(problem.to_string());
            }
            if !self.trigger.leaves_nothing() {
                facts.unbounded_states.push(WINDOWS.0.to_string());
                facts.forgets_by = Some(
                    "use windows that end, or a trigger that empties them some time after the last \
                     record, such as ProcessingTimeout",
                );
            }
        }
        if self.trigger.needs_watermarks() {
            facts.needs_watermarks.get_or_insert("an event-time trigger");
        }
        if self.assigner.is_merging() && !self.trigger.can_merge() {
            facts.problems.push("its trigger cannot be used with windows that merge".to_string());
        }
        facts
    }

    fn open(&mut self, ctx: &OperatorContext<'_>) -> Result<(), Error> {
        self.groups = ctx.env().task.key_group_count;
        self.keys = spilling::open(ctx);
        self.states = WindowStates::open(|open| self.contents.open(open), ctx)?;
        Ok(())
    }

    fn prefetch(&mut self, ahead: Ahead<'_>) {
        self.keys.prefetch(ahead);
    }

    fn on_row(
        &mut self,
        row: Row<C::In>,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<C::Out>,
    ) {
        let needs_time = self.clock.domain == TimeDomain::Event || self.trigger.needs_watermarks();
        if !needs_time || has_event_time(&row, ctx) {
            self.take_or_wait((Some(row), Arrival::now(ctx)), ctx, out);
        }
    }

    fn on_batch_end(
        &mut self,
        ctx: &OperatorContext<'_>,
        _out: &mut impl Output<C::Out>,
    ) -> Option<i64> {
        self.sweep();
        self.recharge(ctx);
        None
    }

    fn on_watermark(
        &mut self,
        _watermark_ms: i64,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<C::Out>,
    ) -> Progress {
        match self.rise(ctx, out) {
            Progress::Done => self.fire(TimeDomain::Event, ctx, out),
            Progress::Pending => Progress::Pending,
        }
    }

    fn next_time_ms(&self) -> Option<i64> {
        let timers = &self.processing_timers;
        let first = self.waiting.front();
        let waits_for_parked = first.is_some_and(|(_, arrival)| self.waits_for_parked(*arrival));
        let can_go_on = !waits_for_parked && self.has_room();
        if timers.has_due() || self.parked.wants_call(self.waiting.len(), can_go_on) {
            return Some(NO_EVENT_TIME);
        }
        // What was registered too late for this horizon waits for the next.
        let next_ms = timers.horizon_ms().saturating_add(1);
        let timer_ms = timers.next_time_ms().map(|ms| ms.max(next_ms).saturating_add(1));
        let sweep_ms = self.states.as_ref().and_then(WindowStates::next_time_ms);
        timer_ms.into_iter().chain(sweep_ms).min()
    }

    fn on_time(&mut self, ctx: &OperatorContext<'_>, out: &mut impl Output<C::Out>) -> Progress {
        match self.rise(ctx, out) {
            Progress::Done => {
                self.sweep();
                self.fire_all(ctx, out)
            }
            Progress::Pending => Progress::Pending,
        }
    }

    fn on_input_end(
        &mut self,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<C::Out>,
    ) -> Progress {
        if self.rise(ctx, out) == Progress::Pending || !self.parked.is_empty() {
            return Progress::Pending;
        }
        if self.processing_timers.horizon_ms() < i64::MAX {
            self.processing_timers.begin(i64::MAX);
        }
        self.fire_all(ctx, out)
    }

    fn is_ready(&self) -> bool {
        self.waiting.is_empty() && !self.parked.is_full() && self.has_room()
    }

    fn on_state_read(
        &mut self,
        hash64: u64,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<C::Out>,
    ) {
        self.parked.on_read(hash64);
        // What is left for want of budget is taken when processing time calls.
        let _ = self.take_parked(ctx, out);
    }

    fn evict(&mut self, steps: u32, ctx: &OperatorContext<'_>) -> bool {
        self.let_go(steps, ctx)
    }

    fn has_waiting_rows(&self) -> bool {
        !self.waiting.is_empty() || !self.parked.is_empty()
    }

    fn gather(&mut self, ctx: &OperatorContext<'_>) -> Progress {
        if self.has_waiting_rows() { Progress::Pending } else { self.call_back(ctx) }
    }

    fn on_cut(&mut self, checkpoint: CheckpointId, ctx: &OperatorContext<'_>) {
        self.moments = self.now();
        spilling::cut(&mut self.keys, checkpoint, ctx);
        self.states.iter_mut().for_each(|states| states.on_cut(checkpoint, ctx));
    }

    fn save(&mut self, save: Save, ctx: &OperatorContext<'_>) -> Progress {
        if !self.keys.is_saving() {
            self.moments = self.now();
        }
        let (keys, leaving) = self.split();
        let of_keys = spilling::save(keys, save, &leaving, ctx);
        let states = self.states.as_mut();
        let of_states = states.map_or(Progress::Done, |states| states.save(save, ctx));
        if of_keys == Progress::Done { of_states } else { of_keys }
    }

    fn is_settled(&self, checkpoint: CheckpointId) -> bool {
        let states = self.states.as_ref();
        self.keys.is_saved(checkpoint) && states.is_none_or(|states| states.is_saved(checkpoint))
    }

    fn snapshot(&self, writer: &mut SnapshotWriter<'_>) {
        assert!(!self.has_waiting_rows(), "an operator that is not ready is not cut");
        self.save_all(writer);
    }

    fn restore(
        &mut self,
        reader: &SnapshotReader<'_>,
        ctx: &OperatorContext<'_>,
    ) -> Result<(), Error> {
        self.load(reader, ctx)
    }
}

/// A clone has seen nothing.
impl<K, S, W, G, C> Clone for GeneralWindows<K, S, W, G, C>
where
    K: Key,
    S: FnMut(&C::In) -> K + Clone + 'static,
    W: WindowAssigner<C::In>,
    G: Trigger<C::In>,
    C: WindowContents<K>,
{
    fn clone(&self) -> Self {
        let (assigner, trigger) = (self.assigner.clone(), self.trigger.clone());
        let (key_of, contents) = (self.key_of.clone(), self.contents.clone());
        Self::new(assigner, trigger, key_of, contents, self.lateness)
    }
}
