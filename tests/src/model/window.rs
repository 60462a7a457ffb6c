//! What windows should give.
//!
//! A script of records and watermarks goes in; every firing comes out, as the records that were in
//! the window then, and every late record.

/// One step of a script.
#[derive(Debug, Clone)]
pub enum Step {
    /// A record; `id` is its own.
    Record {
        /// What it is keyed by.
        key: u32,
        /// Its event time.
        time: i64,
        /// Tells it from all others.
        id: u32,
    },
    /// The watermark rises to this.
    Watermark(i64),
}

/// Which windows there are.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// Every `slide`, for `size`, shifted by `offset`. Tumbling if both are the same.
    Sliding {
        /// Length.
        size: i64,
        /// From start to start.
        slide: i64,
        /// All starts are shifted by this.
        offset: i64,
    },
    /// Growing by `step` up to `size`, shifted by `offset`.
    Cumulative {
        /// Length of the longest.
        size: i64,
        /// What they grow by.
        step: i64,
        /// All starts are shifted by this.
        offset: i64,
    },
    /// Until nothing happens for `gap`.
    Session {
        /// That silence.
        gap: i64,
    },
}

/// One firing of one window of one key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Firing {
    /// Whose.
    pub key: u32,
    /// First time in the window.
    pub start: i64,
    /// First time after it.
    pub end: i64,
    /// The records in it: ascending, or in the order in which they came.
    pub ids: Vec<u32>,
}

/// What came of a script.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// In the order in which they happen.
    pub firings: Vec<Firing>,
    /// Records that were too late, in order.
    pub late: Vec<u32>,
}

/// A window of a key that holds something.
struct Held {
    key: u32,
    start: i64,
    end: i64,
    ids: Vec<u32>,
}

/// Runs a script through windows that fire when the watermark reaches their last time, and again
/// for every record that comes no later than `lateness` after that.
pub fn run(kind: Kind, lateness: i64, script: &[Step]) -> Outcome {
    let mut outcome = Outcome::default();
    let mut held: Vec<Held> = Vec::new();
    let mut watermark = i64::MIN;
    for step in script {
        match *step {
            Step::Record { key, time, id } => {
                let windows = add(kind, lateness, watermark, &mut held, key, time, id);
                let is_late = match windows {
                    Added::To(windows) => {
                        outcome.firings.extend(windows.iter().map(|at| held[*at].firing()));
                        false
                    }
                    Added::Nowhere => true,
                    Added::Gap => time.saturating_add(lateness) <= watermark,
                };
                if is_late {
                    outcome.late.push(id);
                }
            }
            Step::Watermark(new) => {
                assert!(watermark <= new, "the script takes a watermark back");
                let mut due: Vec<&Held> =
                    held.iter().filter(|w| watermark < w.end - 1 && w.end - 1 <= new).collect();
                due.sort_by_key(|window| (window.end, window.start, window.key));
                outcome.firings.extend(due.into_iter().map(Held::firing));
                watermark = new;
                held.retain(|window| watermark < (window.end - 1).saturating_add(lateness));
            }
        }
    }
    outcome
}

impl Held {
    fn firing(&self) -> Firing {
        let mut ids = self.ids.clone();
        ids.sort_unstable();
        Firing { key: self.key, start: self.start, end: self.end, ids }
    }
}

enum Added {
    /// To windows that can still change; those at these places were complete and fire again.
    To(Vec<usize>),
    /// All its windows are gone.
    Nowhere,
    /// It has no windows.
    Gap,
}

fn add(
    kind: Kind,
    lateness: i64,
    watermark: i64,
    held: &mut Vec<Held>,
    key: u32,
    time: i64,
    id: u32,
) -> Added {
    let windows = windows_of(kind, time);
    if windows.is_empty() {
        return Added::Gap;
    }
    if let Kind::Session { .. } = kind {
        return add_to_session(lateness, watermark, held, key, windows[0], id);
    }
    let mut fired = Vec::new();
    let mut is_anywhere = false;
    for (start, end) in windows {
        if end - 1 + lateness <= watermark {
            continue;
        }
        is_anywhere = true;
        let known = held.iter().position(|w| (w.key, w.start, w.end) == (key, start, end));
        let at = known.unwrap_or_else(|| {
            held.push(Held { key, start, end, ids: Vec::new() });
            held.len() - 1
        });
        held[at].ids.push(id);
        if end - 1 <= watermark {
            fired.push(at);
        }
    }
    if is_anywhere { Added::To(fired) } else { Added::Nowhere }
}

fn add_to_session(
    lateness: i64,
    watermark: i64,
    held: &mut Vec<Held>,
    key: u32,
    window: (i64, i64),
    id: u32,
) -> Added {
    let (start, end) = window;
    let mut merged = Held { key, start, end, ids: vec![id] };
    // What touches the new window may not touch each other, so one pass is enough.
    held.retain(|other| {
        let touches = other.key == key && other.start <= end && start <= other.end;
        if touches {
            merged.start = merged.start.min(other.start);
            merged.end = merged.end.max(other.end);
            merged.ids.extend(&other.ids);
        }
        !touches
    });
    if merged.end - 1 + lateness <= watermark {
        return Added::Nowhere;
    }
    let fires = merged.end - 1 <= watermark;
    held.push(merged);
    Added::To(if fires { vec![held.len() - 1] } else { Vec::new() })
}

/// The windows that cover `time`, found by trying every start there could be.
pub(super) fn windows_of(kind: Kind, time: i64) -> Vec<(i64, i64)> {
    let is_start = |start: i64, period: i64, offset: i64| (start - offset).rem_euclid(period) == 0;
    match kind {
        Kind::Sliding { size, slide, offset } => (time - size + 1..=time)
            .filter(|start| is_start(*start, slide, offset))
            .map(|start| (start, start + size))
            .collect(),
        Kind::Cumulative { size, step, offset } => {
            let start = (time - size + 1..=time)
                .find(|start| is_start(*start, size, offset))
                .expect("some period covers every time");
            let ends = (1..=size / step).map(|steps| start + steps * step);
            ends.filter(|end| time < *end).map(|end| (start, end)).collect()
        }
        Kind::Session { gap } => vec![(time, time + gap)],
    }
}
