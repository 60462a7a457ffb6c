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
//! A key's due timers fire before its next row is looked at, so firing in slices cannot be seen.
//!
//! Invariant: for every timer of a window and every cleanup time there is a timer of the key, and
//! for no other time.
//! Not here: the cheap cases (`tumbling.rs`, `sliding.rs`).

use std::time::Duration;

use crate::data::ahead::Ahead;
use crate::data::either::Either;
use crate::data::key::Key;
use crate::data::key_group::{HashRange, KeyGroupCount};
use crate::data::row::Row;
use crate::data::slot::Slot;
use crate::error::Error;
use crate::graph::Facts;
use crate::operator::join::{LateJoin, LateSides};
use crate::operator::watermark::has_event_time;
use crate::operator::window::contents::WindowContents;
use crate::operator::window::function::WindowContext;
use crate::operator::window::held::{Held, KeyWindows, TIMERS, WINDOWS};
use crate::operator::window::stored::{self, KeyWriter};
use crate::operator::window::{Clock, Lateness, Reading};
use crate::operator::{Operator, OperatorContext, Output, Progress};
use crate::state::snapshot::{SnapshotReader, SnapshotWriter};
use crate::state::table::KeyTable;
use crate::time::timer::{Registrant, TimerQueue};
use crate::time::trigger::{TimerChange, Trigger, TriggerContext};
use crate::time::window::{TimeDomain, Window, WindowAssigner};

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
    keys: KeyTable<K, KeyWindows<C::Kept, G::State>>,
    event_timers: TimerQueue,
    processing_timers: TimerQueue,
    /// Windows of the row or timer being processed; empty in between.
    windows: Vec<Window>,
    /// What a trigger wants done to its timers; empty in between.
    changes: Vec<TimerChange>,
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
            keys: KeyTable::new(HashRange::ALL),
            event_timers: TimerQueue::default(),
            processing_timers: TimerQueue::default(),
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

    /// Whether some window of the key waits for this time.
    fn is_awaited(&self, slot: Slot, domain: TimeDomain, time_ms: i64) -> bool {
        self.keys.value(slot).windows.iter().any(|held| {
            held.timers.contains(&(domain, time_ms))
                || domain == self.clock.domain && self.cleanup_ms(held.window) == Some(time_ms)
        })
    }

    /// Deletes the timers of a window that is no longer held.
    fn forget_timers(&mut self, slot: Slot, gone: &Held<C::Kept, G::State>) {
        let cleanup = self.cleanup_ms(gone.window).map(|time_ms| (self.clock.domain, time_ms));
        for (domain, time_ms) in gone.timers.iter().copied().chain(cleanup) {
            if !self.is_awaited(slot, domain, time_ms) {
                self.timers(domain).delete(slot, time_ms);
            }
        }
    }

    /// Asks the trigger about window `index` of the key, and does what it says.
    fn ask(
        &mut self,
        (slot, index): (Slot, usize),
        by: &Cause<'_, C::In>,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<C::Out>,
    ) {
        let (hash64, key, of_key) = self.keys.entry_mut(slot);
        let held = &mut of_key.windows[index];
        let window = held.window;
        let mut trigger_ctx = TriggerContext::new(
            &mut held.trigger,
            ctx.watermark_ms(),
            ctx.processing_time_ms(),
            &mut self.changes,
        );
        let result = match *by {
            Cause::Element(value, time_ms) => {
                self.trigger.on_element(value, time_ms, &window, &mut trigger_ctx)
            }
            Cause::Timer(TimeDomain::Event, time_ms) => {
                self.trigger.on_event_time(time_ms, &window, &mut trigger_ctx)
            }
            Cause::Timer(TimeDomain::Processing, time_ms) => {
                self.trigger.on_processing_time(time_ms, &window, &mut trigger_ctx)
            }
        };
        let mut is_emptied = result.is_purge();
        if result.is_fire()
            && let Some(kept) = &mut held.contents
        {
            let time_ms =
                if window == Window::GLOBAL { by.time_ms() } else { window.max_timestamp() };
            let outer = ctx.env().enter_time(time_ms, hash64);
            self.contents.fire(key, kept, &WindowContext::new(window, *ctx), out);
            ctx.env().leave(outer);
            is_emptied |= self.contents.is_empty(kept);
        }
        if is_emptied {
            held.contents = None;
        }
        self.change_timers(slot, index, by.registrant());
    }

    /// Carries out what the trigger of window `index` wanted done to its timers.
    fn change_timers(&mut self, slot: Slot, index: usize, by: impl Fn(TimeDomain) -> Registrant) {
        let mut changes = std::mem::take(&mut self.changes);
        for TimerChange { domain, time_ms, is_registration } in changes.drain(..) {
            let (hash64, _, of_key) = self.keys.entry_mut(slot);
            let timers = &mut of_key.windows[index].timers;
            let known = timers.iter().position(|timer| *timer == (domain, time_ms));
            match known {
                // No time is left for it: see `Operator::on_input_end`.
                None if is_registration
                    && domain == TimeDomain::Processing
                    && self.processing_timers.horizon_ms() == i64::MAX => {}
                None if is_registration => {
                    timers.push((domain, time_ms));
                    self.timers(domain).register(slot, hash64, time_ms, by(domain));
                }
                Some(known) if !is_registration => {
                    timers.swap_remove(known);
                    if !self.is_awaited(slot, domain, time_ms) {
                        self.timers(domain).delete(slot, time_ms);
                    }
                }
                _ => {}
            }
        }
        self.changes = changes;
    }

    /// A timer of the key is due: the windows that wait for it get it, by their order.
    fn on_timer(
        &mut self,
        slot: Slot,
        domain: TimeDomain,
        time_ms: i64,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<C::Out>,
    ) {
        let mut windows = std::mem::take(&mut self.windows);
        windows.extend(self.keys.value(slot).windows.iter().map(|held| held.window));
        for window in windows.drain(..) {
            let Ok(index) = self.keys.value(slot).find(window) else { continue };
            let timers = &mut self.keys.value_mut(slot).windows[index].timers;
            if let Some(known) = timers.iter().position(|timer| *timer == (domain, time_ms)) {
                timers.swap_remove(known);
                self.ask((slot, index), &Cause::Timer(domain, time_ms), ctx, out);
            }
            if domain == self.clock.domain && self.cleanup_ms(window) == Some(time_ms) {
                let gone = self.keys.value_mut(slot).windows.remove(index);
                self.forget_timers(slot, &gone);
            } else {
                self.drop_empty(slot, index);
            }
        }
        self.windows = windows;
    }

    /// Fires the timers of one key that are due.
    fn catch_up(&mut self, slot: Slot, ctx: &OperatorContext<'_>, out: &mut impl Output<C::Out>) {
        for domain in [TimeDomain::Event, TimeDomain::Processing] {
            while let Some(time_ms) = self.timers(domain).pop_of(slot) {
                self.on_timer(slot, domain, time_ms, ctx, out);
            }
        }
    }

    /// Forgets the key if it holds no windows.
    fn settle(&mut self, slot: Slot) {
        let Some(of_key) = self.keys.get_slot(slot) else { return };
        if of_key.windows.is_empty() {
            let hash64 = self.keys.hash64(slot);
            let is_quiet = self.event_timers.settle(slot, hash64);
            if self.processing_timers.settle(slot, hash64) && is_quiet {
                self.keys.remove_slot(slot);
            }
        }
    }

    /// Fires timers that are due as far as the budget goes.
    fn fire(
        &mut self,
        domain: TimeDomain,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<C::Out>,
    ) -> Progress {
        while self.timers(domain).has_due() {
            if !ctx.env().spend() {
                return Progress::Pending;
            }
            if let Some((slot, time_ms)) = self.timers(domain).pop() {
                self.on_timer(slot, domain, time_ms, ctx, out);
                self.settle(slot);
            }
            while let Some(slot) = self.timers(domain).take_emptied() {
                self.settle(slot);
            }
        }
        Progress::Done
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

    /// Joins `window` with those of the key that it touches; answers the whole.
    fn merge(&mut self, slot: Slot, window: Window, ctx: &OperatorContext<'_>) -> Window {
        let windows = &mut self.keys.value_mut(slot).windows;
        let touching = |held: &&Held<C::Kept, G::State>| held.window.touches(&window);
        let whole = windows.iter().filter(touching).fold(window, |w, held| w.cover(&held.window));
        let is_known = windows.iter().any(|held| held.window == whole);
        let count = windows.iter().filter(touching).count();
        if count == usize::from(is_known) {
            return whole;
        }
        let merged: Vec<_> = windows.extract_if(.., |held| held.window.touches(&window)).collect();
        let mut into = Held::new(whole);
        let mut kept_timers = Vec::new();
        let mut states = Vec::with_capacity(merged.len());
        for gone in merged {
            self.forget_timers(slot, &gone);
            match (&mut into.contents, gone.contents) {
                (Some(kept), Some(other)) => self.contents.merge(kept, other),
                (none, other) => *none = none.take().or(other),
            }
            if gone.window == whole {
                into.trigger = gone.trigger;
                kept_timers = gone.timers;
            } else {
                states.push(gone.trigger);
            }
        }
        let index = self.hold(slot, whole);
        for (domain, time_ms) in kept_timers {
            self.changes.push(TimerChange { domain, time_ms, is_registration: true });
        }
        let mut trigger_ctx = TriggerContext::new(
            &mut into.trigger,
            ctx.watermark_ms(),
            ctx.processing_time_ms(),
            &mut self.changes,
        );
        self.trigger.on_merge(&whole, states, &mut trigger_ctx);
        self.keys.value_mut(slot).windows[index] = into;
        self.change_timers(slot, index, |_| Registrant::Record);
        whole
    }
}

/// Why a trigger is asked.
#[derive(Debug)]
enum Cause<'a, T> {
    /// A record, and its event time (ms).
    Element(&'a T, i64),
    /// A timer, and its time (ms).
    Timer(TimeDomain, i64),
}

impl<T> Cause<'_, T> {
    fn time_ms(&self) -> i64 {
        match *self {
            Cause::Element(_, time_ms) | Cause::Timer(_, time_ms) => time_ms,
        }
    }

    /// As whom timers are registered: see [`Registrant`].
    fn registrant(&self) -> impl Fn(TimeDomain) -> Registrant + use<T> {
        let firing = match *self {
            Cause::Element(..) => None,
            Cause::Timer(domain, _) => Some(domain),
        };
        move |domain| if firing == Some(domain) { Registrant::Timer } else { Registrant::Record }
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
        facts.problems = self.assigner.problems();
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
        self.keys = KeyTable::new(ctx.env().task.hashes());
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
        let Some(Reading { time_ms, horizon_ms }) = self.clock.read(&row, ctx) else { return };
        if self.trigger.needs_watermarks() && !has_event_time(&row, ctx) {
            return;
        }
        let key = (self.key_of)(&row.value);
        let slot = self.keys.find_or_insert_with(row.hash64, key, KeyWindows::default);
        self.catch_up(slot, ctx, out);
        let mut windows = std::mem::take(&mut self.windows);
        self.assigner.assign(&row.value, time_ms, &mut windows);
        if self.assigner.is_merging() {
            for window in &mut windows {
                *window = self.merge(slot, *window, ctx);
            }
        }
        let has_any = !windows.is_empty();
        windows.retain(|window| !self.is_late(*window, horizon_ms));
        let event_time_ms = row.event_time_ms;
        if let Some(last) = windows.pop() {
            for window in windows.drain(..) {
                self.add(slot, window, (row.value.clone(), event_time_ms), ctx, out);
            }
            self.add(slot, last, (row.value, event_time_ms), ctx, out);
        } else if has_any || time_ms.saturating_add(self.lateness.allowed_ms()) <= horizon_ms {
            self.lateness.put_aside(row, ctx);
        }
        windows.clear();
        self.windows = windows;
        self.settle(slot);
    }

    fn on_watermark(
        &mut self,
        watermark_ms: i64,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<C::Out>,
    ) -> Progress {
        if self.event_timers.horizon_ms() < watermark_ms {
            self.event_timers.begin(watermark_ms);
        }
        self.fire(TimeDomain::Event, ctx, out)
    }

    fn next_time_ms(&self) -> Option<i64> {
        self.processing_timers.next_time_ms().map(|time_ms| time_ms.saturating_add(1))
    }

    fn on_time(&mut self, ctx: &OperatorContext<'_>, out: &mut impl Output<C::Out>) -> Progress {
        let past_ms = self.clock.turn(ctx);
        if self.processing_timers.horizon_ms() < past_ms {
            self.processing_timers.begin(past_ms);
        }
        self.fire(TimeDomain::Processing, ctx, out)
    }

    fn on_input_end(
        &mut self,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<C::Out>,
    ) -> Progress {
        if self.processing_timers.horizon_ms() < i64::MAX {
            self.processing_timers.begin(i64::MAX);
        }
        self.fire(TimeDomain::Processing, ctx, out)
    }

    fn snapshot(&self, writer: &mut SnapshotWriter<'_>) {
        for slot in self.keys.slots() {
            let (hash64, key) = (self.keys.hash64(slot), self.keys.key(slot));
            let mut writer = KeyWriter::new(writer, self.groups, hash64, key);
            for held in &self.keys.value(slot).windows {
                held.save(&mut writer);
                if let Some(kept) = &held.contents {
                    self.contents.save(kept, held.window, &mut writer);
                }
            }
            let event = self.event_timers.timers_of(slot);
            let processing = self.processing_timers.timers_of(slot);
            let event = event.map(|(time_ms, is_late)| (TimeDomain::Event, time_ms, is_late));
            let processing =
                processing.map(|(time_ms, is_late)| (TimeDomain::Processing, time_ms, is_late));
            for timer in event.chain(processing) {
                super::held::save_timer(timer, &mut writer);
            }
        }
    }

    fn restore(
        &mut self,
        reader: &SnapshotReader<'_>,
        ctx: &OperatorContext<'_>,
    ) -> Result<(), Error> {
        self.event_timers.restore_horizon(ctx.watermark_ms());
        for entry in stored::read::<K, G::State>(reader, WINDOWS, ctx)? {
            let held = Held::load(entry.namespace, entry.map_key, entry.value)
                .ok_or_else(|| stored::damaged(WINDOWS, ctx, &"no window in the key"))?;
            let slot = self.keys.find_or_insert_with(entry.hash64, entry.key, KeyWindows::default);
            self.keys.value_mut(slot).windows.push(held);
        }
        for entry in self.contents.load(reader, ctx)? {
            let held = self.keys.find(entry.hash64, &entry.key).and_then(|slot| {
                let window = stored::window_of(entry.namespace)?;
                let index = self.keys.value(slot).find(window).ok()?;
                Some(&mut self.keys.value_mut(slot).windows[index])
            });
            let held =
                held.ok_or_else(|| stored::damaged(WINDOWS, ctx, &"contents without a window"))?;
            let kept = held.contents.get_or_insert_with(|| self.contents.create());
            self.contents.put_back(kept, entry.value);
        }
        for entry in stored::read::<K, u8>(reader, TIMERS, ctx)? {
            let timer = super::held::load_timer(entry.map_key, entry.value);
            let slot = self.keys.find(entry.hash64, &entry.key);
            let ((domain, time_ms, is_late), slot) = timer
                .zip(slot)
                .ok_or_else(|| stored::damaged(TIMERS, ctx, &"a timer without a window"))?;
            self.timers(domain).restore(slot, entry.hash64, time_ms, is_late);
        }
        Ok(())
    }
}

impl<K, S, W, G, C> Clone for GeneralWindows<K, S, W, G, C>
where
    K: Key,
    S: Clone,
    W: Clone,
    G: Trigger<C::In>,
    C: WindowContents<K>,
{
    fn clone(&self) -> Self {
        Self {
            key_of: self.key_of.clone(),
            assigner: self.assigner.clone(),
            trigger: self.trigger.clone(),
            contents: self.contents.clone(),
            lateness: self.lateness,
            clock: self.clock,
            groups: self.groups,
            keys: self.keys.clone(),
            event_timers: self.event_timers.clone(),
            processing_timers: self.processing_timers.clone(),
            windows: Vec::new(),
            changes: Vec::new(),
        }
    }
}
