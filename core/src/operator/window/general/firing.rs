//! The timers of windows, and what a trigger makes of them.

use crate::data::key::Key;
use crate::data::slot::Slot;
use crate::limits::INPUT_BUDGET_RECORDS;
use crate::operator::waiting::WaitingRows;
use crate::operator::window::Clock;
use crate::operator::window::contents::WindowContents;
use crate::operator::window::function::WindowContext;
use crate::operator::window::general::{Arrival, GeneralWindows};
use crate::operator::window::held::Held;
use crate::operator::window::states::{Turn, WindowStates};
use crate::operator::{OperatorContext, Output, Progress};
use crate::state::spec::StateTime;
use crate::time::timer::{Registrant, TimerQueue};
use crate::time::trigger::{TimerChange, Trigger, TriggerContext};
use crate::time::window::{TimeDomain, Window, WindowAssigner};

/// A timer looks at all windows of its key; so many looks cost about what a record does.
const LOOKS_PER_UNIT: usize = 16;

/// Why a trigger is asked.
#[derive(Debug)]
pub(super) enum Cause<'a, T> {
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

    /// The time at which the function sees its states. The horizon of `event_timers` is the
    /// watermark.
    fn now(&self, event_timers: &TimerQueue, clock: Clock) -> StateTime {
        let (watermark_ms, processing_ms) = (event_timers.horizon_ms(), clock.now_ms);
        match *self {
            Cause::Element(_, time_ms) => {
                StateTime::of_record(time_ms, watermark_ms, processing_ms)
            }
            Cause::Timer(TimeDomain::Event, time_ms) => {
                StateTime::of_event_timer(time_ms, processing_ms)
            }
            Cause::Timer(TimeDomain::Processing, _) => {
                StateTime::between_records(watermark_ms, processing_ms)
            }
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

impl<K, S, W, G, C> GeneralWindows<K, S, W, G, C>
where
    K: Key,
    S: FnMut(&C::In) -> K + 'static,
    W: WindowAssigner<C::In>,
    G: Trigger<C::In>,
    C: WindowContents<K>,
{
    /// Takes what waits, and then the clocks are as far as the task's.
    pub(super) fn rise(
        &mut self,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<C::Out>,
    ) -> Progress {
        if self.take_parked(ctx, out) == Progress::Pending {
            return Progress::Pending;
        }
        let now = Arrival::now(ctx);
        let is_first = self.waiting.is_empty();
        if is_first && self.rise_to(now, ctx, out) == Progress::Done {
            return Progress::Done;
        }
        match self.waiting.back_mut() {
            Some((None, last)) if last.watermark_ms == now.watermark_ms => *last = now,
            Some((_, last)) if *last == now => {}
            _ => self.waiting.push_back((None, now)),
        }
        if is_first { Progress::Pending } else { self.take_waiting(ctx, out) }
    }

    /// Whether parked rows are to be taken before the clocks rise: they came before that.
    pub(super) fn waits_for_parked(&self, arrival: Arrival) -> bool {
        let has_risen = arrival.watermark_ms <= self.event_timers.horizon_ms()
            && arrival.processing_time_ms <= self.clock.now_ms;
        !self.parked.is_empty() && !has_risen
    }

    /// Makes due what the clocks have reached. A key's timers of two clocks fire in the order in
    /// which they came due: what the clock made due fires before a watermark makes more due, and
    /// after what the watermark before it did (`catch_up`, `fire_all`).
    pub(super) fn rise_to(
        &mut self,
        arrival: Arrival,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<C::Out>,
    ) -> Progress {
        if self.waits_for_parked(arrival) {
            return Progress::Pending;
        }
        if self.event_timers.horizon_ms() < arrival.watermark_ms {
            if self.processing_timers.has_due()
                && !self.event_timers.is_empty()
                && self.fire_all(ctx, out) == Progress::Pending
            {
                return Progress::Pending;
            }
            self.event_timers.begin(arrival.watermark_ms);
        }
        let past_ms = self.clock.advance(arrival.processing_time_ms);
        if self.processing_timers.horizon_ms() < past_ms {
            self.processing_timers.begin(past_ms);
        }
        Progress::Done
    }

    /// Whether some window of the key waits for this time.
    fn is_awaited(&self, slot: Slot, domain: TimeDomain, time_ms: i64) -> bool {
        self.keys.value(slot).windows.iter().any(|held| {
            held.timers.contains(&(domain, time_ms))
                || domain == self.clock.domain && self.cleanup_ms(held.window) == Some(time_ms)
        })
    }

    /// Deletes the timers of a window that is no longer held.
    pub(super) fn forget_timers(&mut self, slot: Slot, gone: &Held<C::Kept, G::State>) {
        let cleanup = self.cleanup_ms(gone.window).map(|time_ms| (self.clock.domain, time_ms));
        for (domain, time_ms) in gone.timers.iter().copied().chain(cleanup) {
            if !self.is_awaited(slot, domain, time_ms) {
                self.timers(domain).delete(slot, time_ms);
            }
        }
    }

    /// Asks the trigger about window `index` of the key, and does what it says.
    pub(super) fn ask(
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
            self.event_timers.horizon_ms(),
            self.clock.now_ms,
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
            let now = by.now(&self.event_timers, self.clock);
            let turn = Turn { key, hash64, now, merges: self.assigner.is_merging() };
            let window_ctx = WindowContext::new(window, *ctx);
            WindowStates::run(&mut self.states, &turn, window_ctx, |ctx| {
                self.contents.fire(key, kept, ctx, out);
            });
            ctx.env().leave(outer);
            is_emptied |= self.contents.is_empty(kept);
        }
        if is_emptied {
            held.contents = None;
        }
        self.change_timers(slot, index, by.registrant());
    }

    /// Carries out what the trigger of window `index` wanted done to its timers.
    pub(super) fn change_timers(
        &mut self,
        slot: Slot,
        index: usize,
        by: impl Fn(TimeDomain) -> Registrant,
    ) {
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
        ctx.env().spend_more((windows.len() / LOOKS_PER_UNIT) as u32);
        for window in windows.drain(..) {
            let Ok(index) = self.keys.value(slot).find(window) else { continue };
            let timers = &mut self.keys.value_mut(slot).windows[index].timers;
            if let Some(known) = timers.iter().position(|timer| *timer == (domain, time_ms)) {
                timers.swap_remove(known);
                self.ask((slot, index), &Cause::Timer(domain, time_ms), ctx, out);
            }
            if domain == self.clock.domain && self.cleanup_ms(window) == Some(time_ms) {
                self.clear(slot, window, &Cause::Timer(domain, time_ms), ctx);
                let gone = self.keys.value_mut(slot).windows.remove(index);
                self.forget_timers(slot, &gone);
            } else {
                self.drop_empty(slot, index);
            }
        }
        self.windows = windows;
    }

    /// The function hears that a window of the key is gone, and its states go with it.
    fn clear(
        &mut self,
        slot: Slot,
        window: Window,
        by: &Cause<'_, C::In>,
        ctx: &OperatorContext<'_>,
    ) {
        let (hash64, key) = (self.keys.hash64(slot), self.keys.key(slot));
        let now = by.now(&self.event_timers, self.clock);
        let turn = Turn { key, hash64, now, merges: self.assigner.is_merging() };
        let outer = ctx.env().enter_time(window.max_timestamp(), hash64);
        WindowStates::run(&mut self.states, &turn, WindowContext::new(window, *ctx), |ctx| {
            self.contents.clear(key, ctx);
        });
        ctx.env().leave(outer);
        WindowStates::forget(&mut self.states, &turn, window);
    }

    /// Gives some memory of expired states back.
    pub(super) fn sweep(&mut self) {
        if let Some(states) = &mut self.states {
            states.sweep(&self.event_timers, self.clock.now_ms);
        }
    }

    /// Fires the timers of one key that are due; `Pending` if there are more of them than are fired
    /// in one go.
    pub(super) fn catch_up(
        &mut self,
        slot: Slot,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<C::Out>,
    ) -> Progress {
        let mut left = INPUT_BUDGET_RECORDS;
        for domain in [TimeDomain::Event, TimeDomain::Processing] {
            while let Some(time_ms) = self.timers(domain).pop_of(slot, i64::MAX) {
                self.on_timer(slot, domain, time_ms, ctx, out);
                ctx.env().spend_more(1);
                left -= 1;
                if left == 0 {
                    return Progress::Pending;
                }
            }
        }
        Progress::Done
    }

    /// Forgets the key if it holds no windows, and gives its slot up if they are away and there
    /// are no timers.
    pub(super) fn settle(&mut self, slot: Slot) {
        let Some(of_key) = self.keys.get_slot(slot) else { return };
        if of_key.windows.is_empty() {
            let hash64 = self.keys.hash64(slot);
            let is_quiet = self.event_timers.settle(slot, hash64);
            if self.processing_timers.settle(slot, hash64) && is_quiet {
                self.keys.give_up(slot);
                return;
            }
        }
        if !self.keys.is_cold(slot) {
            self.note_change(slot);
        }
    }

    /// Fires what is due by both clocks, as far as the budget goes.
    pub(super) fn fire_all(
        &mut self,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<C::Out>,
    ) -> Progress {
        match self.fire(TimeDomain::Event, ctx, out) {
            Progress::Done => self.fire(TimeDomain::Processing, ctx, out),
            Progress::Pending => Progress::Pending,
        }
    }

    /// Fires timers that are due as far as the budget goes.
    pub(super) fn fire(
        &mut self,
        domain: TimeDomain,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<C::Out>,
    ) -> Progress {
        while self.timers(domain).has_due() {
            if !ctx.env().spend() {
                return Progress::Pending;
            }
            if self.has_evicted() && !self.admit_due(domain, ctx) {
                return Progress::Pending;
            }
            if let Some(slot) = self.timers(domain).next_due() {
                self.keep(slot);
            }
            if let Some((slot, time_ms)) = self.timers(domain).pop() {
                self.keys.note_use(slot);
                self.on_timer(slot, domain, time_ms, ctx, out);
                self.settle(slot);
                self.make_room(ctx);
            }
            while let Some(slot) = self.timers(domain).take_emptied() {
                self.settle(slot);
            }
        }
        Progress::Done
    }
}
