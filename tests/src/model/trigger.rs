//! What windows with any trigger and any evictor should give.
//!
//! A script of records, watermarks and times goes in; every firing comes out, as the records that
//! the window's function sees, and every late record. Nothing here is shared, queued or done in
//! slices: when a clock rises, the earliest alarm that it has reached goes off, again and again.

use crate::model::window::{Firing, Kind, Outcome, windows_of};

/// One step of a script.
#[derive(Debug, Clone)]
pub enum Step {
    /// A record; `id` is its own.
    Record {
        /// What it is keyed by.
        key: u32,
        /// Its event time.
        time: i64,
        /// Tells it from all others, and is what its measure comes from.
        id: u32,
    },
    /// The watermark rises to this.
    Watermark(i64),
    /// It is this processing time.
    Clock(i64),
    /// The input ends: what waits for processing time happens, then event time ends.
    End,
}

/// A clock that windows or triggers go by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum By {
    /// Record times and watermarks.
    Event,
    /// The time at which a record is seen.
    Clock,
}

/// Windows, and what is done with them.
#[derive(Debug, Clone)]
pub struct Job {
    /// Which; `None` for the one that has no end.
    pub windows: Option<Kind>,
    /// The clock that they go by.
    pub by: By,
    /// How long they wait for late records.
    pub lateness: i64,
    /// When they fire.
    pub fires: Fires,
    /// What their function gets to see.
    pub keeps: Keeps,
}

/// When windows fire.
#[derive(Debug, Clone)]
pub enum Fires {
    /// When the watermark reaches their last time, and at every record after that.
    AtWatermark,
    /// When the clock is past their last time.
    AtClock,
    /// At every so many records.
    Count(u64),
    /// At multiples of this in event time, and as [`Fires::AtWatermark`].
    EveryEvent(i64),
    /// At the next multiple of this after a record by the clock, and as [`Fires::AtClock`].
    EveryClock(i64),
    /// Never.
    Never,
    /// When the measure has moved by more than this since the last firing.
    Moved(i64),
    /// As another, which empties the window.
    Purging(Box<Fires>),
    /// As another; and so long after a record, which empties the window.
    Timeout {
        /// That other.
        inner: Box<Fires>,
        /// So long.
        after: i64,
        /// After the last record, not the first since the last firing.
        is_restarted: bool,
    },
}

/// What is left of a window's records when it fires.
#[derive(Debug, Clone, Copy)]
pub enum Keeps {
    /// Everything.
    All,
    /// The last so many.
    Last(usize),
    /// Those less than this before the latest.
    Recent(i64),
    /// Those whose measure is less than this from that of the last.
    Near(i64),
    /// As [`Keeps::Last`], after the function.
    LastAfter(usize),
    /// As [`Keeps::Recent`], after the function.
    RecentAfter(i64),
    /// As [`Keeps::Near`], after the function.
    NearAfter(i64),
}

/// What is measured of a record.
pub fn measure(id: u32) -> i64 {
    i64::from(id) * 7 % 11
}

/// One window of one key.
#[derive(Debug, Clone, Default)]
struct Held {
    key: u32,
    start: i64,
    end: i64,
    rows: Vec<(u32, i64)>,
    alarms: Vec<(By, i64)>,
    count: u64,
    next: Option<i64>,
    moved_from: Option<i64>,
    timeout: Option<i64>,
}

/// What a trigger wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Verdict {
    fires: bool,
    purges: bool,
}

const NOTHING: Verdict = Verdict { fires: false, purges: false };
const FIRE: Verdict = Verdict { fires: true, purges: false };
const FIRE_AND_PURGE: Verdict = Verdict { fires: true, purges: true };

/// How far the clocks have come.
#[derive(Debug, Clone, Copy)]
struct Now {
    watermark: i64,
    clock: i64,
    /// What the clock reaches will not be reached again: no alarm is set any more.
    is_over: bool,
}

struct Run<'a> {
    job: &'a Job,
    now: Now,
    /// By key, start and end.
    held: Vec<Held>,
    outcome: Outcome,
}

/// Runs a script, with the clock at 0 in the beginning.
pub fn run(job: &Job, script: &[Step]) -> Outcome {
    let now = Now { watermark: i64::MIN, clock: 0, is_over: false };
    let mut run = Run { job, now, held: Vec::new(), outcome: Outcome::default() };
    for step in script {
        match *step {
            Step::Record { key, time, id } => run.record(key, time, id),
            Step::Watermark(watermark) => run.watermark(watermark),
            Step::Clock(clock) if run.now.clock < clock => {
                run.now.clock = clock;
                run.rise(By::Clock, clock - 1);
            }
            Step::Clock(_) => {}
            Step::End => {
                run.now.is_over = true;
                run.rise(By::Clock, i64::MAX);
                run.watermark(i64::MAX);
            }
        }
    }
    run.outcome
}

impl Run<'_> {
    fn watermark(&mut self, watermark: i64) {
        if self.now.watermark < watermark {
            self.now.watermark = watermark;
            self.rise(By::Event, watermark);
        }
    }

    /// When a window is forgotten: by the clock of the windows.
    fn gone_at(&self, held: &Held) -> Option<i64> {
        let lateness = if self.job.by == By::Event { self.job.lateness } else { 0 };
        self.job.windows.map(|_| held.last() + lateness)
    }

    /// What one of the clocks has reached happens.
    fn rise(&mut self, by: By, to: i64) {
        loop {
            let alarms = self.held.iter().flat_map(|held| {
                let gone = self.gone_at(held).filter(|_| by == self.job.by);
                let alarms = held.alarms.iter().filter(|alarm| alarm.0 == by);
                alarms.map(|alarm| alarm.1).chain(gone)
            });
            let Some(at) = alarms.min().filter(|at| *at <= to) else { return };
            let mut index = 0;
            while index < self.held.len() {
                let alarms = &mut self.held[index].alarms;
                if let Some(found) = alarms.iter().position(|alarm| *alarm == (by, at)) {
                    alarms.remove(found);
                    let verdict = self.job.fires.on_alarm(&mut self.held[index], by, at, self.now);
                    self.act(index, verdict);
                }
                if by == self.job.by && self.gone_at(&self.held[index]) == Some(at) {
                    self.held.remove(index);
                } else {
                    index += 1;
                }
            }
        }
    }

    fn act(&mut self, index: usize, verdict: Verdict) {
        let held = &mut self.held[index];
        if verdict.fires && !held.rows.is_empty() {
            self.job.keeps.before(&mut held.rows);
            let ids = held.rows.iter().map(|(id, _)| *id).collect();
            let Held { key, start, end, .. } = *held;
            self.outcome.firings.push(Firing { key, start, end, ids });
            self.job.keeps.after(&mut held.rows);
        }
        if verdict.purges {
            held.rows.clear();
        }
    }

    fn record(&mut self, key: u32, time: i64, id: u32) {
        let (at, horizon) = match self.job.by {
            By::Event => (time, self.now.watermark),
            By::Clock => (self.now.clock, self.now.clock - 1),
        };
        let mut windows = match self.job.windows {
            Some(kind) => windows_of(kind, at),
            None => vec![(i64::MIN, i64::MAX)],
        };
        let is_gap = windows.is_empty();
        if let Some(Kind::Session { .. }) = self.job.windows {
            windows = vec![self.merge(key, windows[0])];
        }
        let mut is_anywhere = false;
        for (start, end) in windows {
            let new = Held::new(key, start, end);
            if self.gone_at(&new).is_some_and(|gone| gone <= horizon) {
                continue;
            }
            is_anywhere = true;
            let place = self.held.binary_search_by_key(&new.place(), Held::place);
            let index = place.unwrap_or_else(|index| {
                self.held.insert(index, new);
                index
            });
            self.held[index].rows.push((id, time));
            let verdict = self.job.fires.on_record(&mut self.held[index], (id, time), self.now);
            self.act(index, verdict);
        }
        if !is_anywhere && (!is_gap || at + self.job.lateness <= horizon) {
            self.outcome.late.push(id);
        }
    }

    /// The window that `window` becomes a part of.
    fn merge(&mut self, key: u32, (start, end): (i64, i64)) -> (i64, i64) {
        let touches = |held: &Held| held.key == key && held.start <= end && start <= held.end;
        let parts: Vec<Held> = self.held.iter().filter(|held| touches(held)).cloned().collect();
        let start = parts.iter().map(|held| held.start).min().unwrap_or(start).min(start);
        let end = parts.iter().map(|held| held.end).max().unwrap_or(end).max(end);
        let mut whole = Held::new(key, start, end);
        match &parts[..] {
            [] => return (start, end),
            [part] if part.place() == whole.place() => return (start, end),
            _ => {}
        }
        self.held.retain(|held| !parts.iter().any(|part| part.place() == held.place()));
        let rows = parts.iter().flat_map(|part| part.rows.clone()).collect();
        let mut others = parts;
        if let Some(index) = others.iter().position(|part| part.place() == whole.place()) {
            whole = others.remove(index);
        }
        whole.rows = rows;
        self.job.fires.on_merge(&mut whole, &others, self.now);
        let index = self.held.partition_point(|held| held.place() < whole.place());
        self.held.insert(index, whole);
        (start, end)
    }
}

impl Held {
    fn new(key: u32, start: i64, end: i64) -> Self {
        Self { key, start, end, ..Self::default() }
    }

    fn place(&self) -> (u32, i64, i64) {
        (self.key, self.start, self.end)
    }

    /// The last time in it.
    fn last(&self) -> i64 {
        if self.end == i64::MAX { i64::MAX } else { self.end - 1 }
    }

    fn set(&mut self, by: By, at: i64, now: Now) {
        let is_possible = by == By::Event || !now.is_over;
        if is_possible && !self.alarms.contains(&(by, at)) {
            self.alarms.push((by, at));
        }
    }

    fn unset(&mut self, by: By, at: i64) {
        self.alarms.retain(|alarm| *alarm != (by, at));
    }
}

impl Fires {
    fn on_record(&self, held: &mut Held, row: (u32, i64), now: Now) -> Verdict {
        let last = held.last();
        match self {
            Self::AtWatermark | Self::EveryEvent(_) if last <= now.watermark => return FIRE,
            Self::AtWatermark => held.set(By::Event, last, now),
            Self::AtClock => held.set(By::Clock, last, now),
            Self::Count(count) => {
                held.count += 1;
                if *count <= held.count {
                    held.count = 0;
                    return FIRE;
                }
            }
            Self::EveryEvent(every) => {
                held.set(By::Event, last, now);
                if held.next.is_none() {
                    next_event(held, row.1 - row.1.rem_euclid(*every) + every, now);
                }
            }
            Self::EveryClock(every) => {
                if held.next.is_none() {
                    let next = now.clock - now.clock.rem_euclid(*every) + every;
                    held.next = Some(next);
                    held.set(By::Clock, next, now);
                    if now.clock <= last {
                        held.set(By::Clock, last, now);
                    }
                }
            }
            Self::Never => {}
            Self::Moved(by) => {
                let measured = measure(row.0);
                let from = *held.moved_from.get_or_insert(measured);
                if *by < (measured - from).abs() {
                    held.moved_from = Some(measured);
                    return FIRE;
                }
            }
            Self::Purging(inner) => return purging(inner.on_record(held, row, now)),
            Self::Timeout { inner, after, is_restarted } => {
                let verdict = inner.on_record(held, row, now);
                if !verdict.fires && (*is_restarted || held.timeout.is_none()) {
                    if let Some(before) = held.timeout.replace(now.clock + after)
                        && before != now.clock + after
                    {
                        held.unset(By::Clock, before);
                    }
                    held.set(By::Clock, now.clock + after, now);
                }
                return end_timeout(held, verdict);
            }
        }
        NOTHING
    }

    fn on_alarm(&self, held: &mut Held, by: By, at: i64, now: Now) -> Verdict {
        let is_last = at == held.last();
        let is_next = held.next == Some(at);
        match self {
            Self::AtWatermark if by == By::Event && is_last => FIRE,
            Self::AtClock if by == By::Clock && is_last => FIRE,
            Self::EveryEvent(every) if by == By::Event => {
                if !is_last && is_next {
                    next_event(held, at + every, now);
                }
                if is_last || is_next { FIRE } else { NOTHING }
            }
            Self::EveryClock(_) if by == By::Clock => {
                if !is_last && is_next {
                    held.next = None;
                }
                if is_last || is_next { FIRE } else { NOTHING }
            }
            Self::Purging(inner) => purging(inner.on_alarm(held, by, at, now)),
            Self::Timeout { .. } if by == By::Clock && held.timeout == Some(at) => {
                held.timeout = None;
                (held.count, held.next, held.moved_from) = (0, None, None);
                FIRE_AND_PURGE
            }
            Self::Timeout { inner, .. } => {
                let verdict = inner.on_alarm(held, by, at, now);
                end_timeout(held, verdict)
            }
            _ => NOTHING,
        }
    }

    /// `others` became part of `whole`; their alarms are gone.
    fn on_merge(&self, whole: &mut Held, others: &[Held], now: Now) {
        let nexts = others.iter().chain([&*whole]).filter_map(|held| held.next);
        let next = nexts.min();
        let last = whole.last();
        match self {
            Self::AtWatermark | Self::EveryEvent(_) => {
                if let (Self::EveryEvent(_), Some(next)) = (self, next) {
                    whole.next = Some(next);
                    whole.set(By::Event, next, now);
                }
                if now.watermark < last {
                    whole.set(By::Event, last, now);
                }
            }
            Self::AtClock => whole.set(By::Clock, last, now),
            Self::Count(_) => whole.count += others.iter().map(|held| held.count).sum::<u64>(),
            Self::EveryClock(_) => {
                if let Some(next) = next {
                    whole.next = Some(next);
                    whole.set(By::Clock, next, now);
                }
                if now.clock <= last {
                    whole.set(By::Clock, last, now);
                }
            }
            Self::Never => {}
            Self::Moved(_) => panic!("such windows do not merge"),
            Self::Purging(inner) => inner.on_merge(whole, others, now),
            Self::Timeout { inner, .. } => {
                let timeouts = others.iter().chain([&*whole]).filter_map(|held| held.timeout);
                if let Some(timeout) = timeouts.min() {
                    whole.timeout = Some(timeout);
                    whole.set(By::Clock, timeout, now);
                }
                inner.on_merge(whole, others, now);
            }
        }
    }
}

/// The next firing in event time is at `next`, or at the window's end. When event time ends, a
/// window without an end fires once more.
fn next_event(held: &mut Held, next: i64, now: Now) {
    let is_end = held.end == i64::MAX && now.watermark == i64::MAX;
    let next = if is_end { i64::MAX } else { next.min(held.last()) };
    held.next = Some(next);
    held.set(By::Event, next, now);
}

fn purging(verdict: Verdict) -> Verdict {
    Verdict { purges: verdict.fires || verdict.purges, ..verdict }
}

/// A window that fires has no timeout any more.
fn end_timeout(held: &mut Held, verdict: Verdict) -> Verdict {
    if verdict.fires
        && let Some(timeout) = held.timeout.take()
    {
        held.unset(By::Clock, timeout);
    }
    verdict
}

impl Keeps {
    fn before(self, rows: &mut Vec<(u32, i64)>) {
        if matches!(self, Self::Last(_) | Self::Recent(_) | Self::Near(_)) {
            self.evict(rows);
        }
    }

    fn after(self, rows: &mut Vec<(u32, i64)>) {
        if matches!(self, Self::LastAfter(_) | Self::RecentAfter(_) | Self::NearAfter(_)) {
            self.evict(rows);
        }
    }

    fn evict(self, rows: &mut Vec<(u32, i64)>) {
        match self {
            Self::All => {}
            Self::Last(count) | Self::LastAfter(count) => {
                *rows = rows.iter().rev().take(count).rev().copied().collect();
            }
            Self::Recent(ms) | Self::RecentAfter(ms) => {
                let latest = rows.iter().map(|(_, time)| *time).max().unwrap_or(0);
                rows.retain(|(_, time)| latest - time < ms);
            }
            Self::Near(by) | Self::NearAfter(by) => {
                let last = rows.last().map_or(0, |(id, _)| measure(*id));
                rows.retain(|(id, _)| (measure(*id) - last).abs() < by);
            }
        }
    }
}
