//! What the functions of `it/process_functions.rs` should give.

/// One step of a script.
#[derive(Debug, Clone)]
pub enum Step {
    /// A record; `id` is its own.
    Record {
        /// Of the second input.
        is_right: bool,
        /// What it is keyed by.
        key: u32,
        /// Its event time.
        time: i64,
        /// Tells it from all others.
        id: u32,
    },
    /// The watermark rises to this.
    Watermark(i64),
    /// Processing time rises to this.
    Clock(i64),
    /// No record follows.
    End,
}

/// Why there is a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// A record, by its id.
    Record(u32),
    /// A timer in event time.
    EventTimer(i64),
    /// A timer in processing time.
    ProcessingTimer(i64),
}

/// A result: its key, why it is there, and the records that it is about.
pub type Outcome = (u32, Cause, Vec<u32>);

/// A left record that waits for a right one of its key.
struct Open {
    key: u32,
    id: u32,
    due: i64,
}

/// Left records are gathered until a right record of their key takes them all, or until the first
/// of them has waited for `patience` of event time. A right record says what it took, and counts
/// the right records of its key so far once more when `delay` of processing time is over, or at the
/// end.
pub fn settle(patience: i64, delay: i64, script: &[Step]) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    let mut open: Vec<Open> = Vec::new();
    let mut rights: Vec<(u32, u32)> = Vec::new();
    let mut reminders: Vec<(u32, i64)> = Vec::new();
    let mut now = 0;
    for step in script {
        match *step {
            Step::Record { is_right: false, key, time, id } => {
                let due = open.iter().find(|left| left.key == key).map(|left| left.due);
                open.push(Open { key, id, due: due.unwrap_or(time + patience) });
            }
            Step::Record { is_right: true, key, id, .. } => {
                rights.push((key, id));
                if !reminders.contains(&(key, now + delay)) {
                    reminders.push((key, now + delay));
                }
                outcomes.push((key, Cause::Record(id), take(&mut open, |left| left.key == key)));
            }
            Step::Watermark(new) => give_up(&mut open, new, &mut outcomes),
            Step::Clock(new) => {
                now = new;
                remind(&mut reminders, new, &rights, &mut outcomes);
            }
            Step::End => {
                remind(&mut reminders, i64::MAX, &rights, &mut outcomes);
                give_up(&mut open, i64::MAX, &mut outcomes);
            }
        }
    }
    outcomes
}

/// The left records that have waited for too long, by key.
fn give_up(open: &mut Vec<Open>, watermark: i64, outcomes: &mut Vec<Outcome>) {
    while let Some((key, due)) =
        open.iter().find(|left| left.due <= watermark).map(|left| (left.key, left.due))
    {
        outcomes.push((key, Cause::EventTimer(due), take(open, |left| left.key == key)));
    }
}

fn remind(
    reminders: &mut Vec<(u32, i64)>,
    now: i64,
    rights: &[(u32, u32)],
    outcomes: &mut Vec<Outcome>,
) {
    reminders.sort_by_key(|(_, due)| *due);
    for (key, due) in reminders.extract_if(.., |(_, due)| *due <= now) {
        let known = rights.iter().filter(|(of, _)| *of == key).map(|(_, id)| *id);
        outcomes.push((key, Cause::ProcessingTimer(due), known.collect()));
    }
}

fn take(open: &mut Vec<Open>, is_meant: impl Fn(&Open) -> bool) -> Vec<u32> {
    open.extract_if(.., |left| is_meant(left)).map(|left| left.id).collect()
}

/// Left records meet the rules that right records are: the last one whose key has the parity of
/// their own holds; a right record whose id is a multiple of three takes the rule away. What a left
/// record meets is said when it comes, and what holds `patience` of event time later.
pub fn ruled(patience: i64, script: &[Step]) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    let mut rules: Vec<(u32, u32)> = Vec::new();
    let mut timers: Vec<(u32, i64)> = Vec::new();
    let rule = |rules: &[(u32, u32)], key: u32| -> Vec<u32> {
        let of_parity = rules.iter().rev().find(|(of, _)| of % 2 == key % 2);
        of_parity.map(|(_, id)| *id).filter(|id| !id.is_multiple_of(3)).into_iter().collect()
    };
    for step in script {
        match *step {
            Step::Record { is_right: true, key, id, .. } => rules.push((key, id)),
            Step::Record { is_right: false, key, time, id } => {
                outcomes.push((key, Cause::Record(id), rule(&rules, key)));
                if !timers.contains(&(key, time + patience)) {
                    timers.push((key, time + patience));
                }
            }
            Step::Watermark(_) | Step::End => {
                let watermark = if let Step::Watermark(new) = step { *new } else { i64::MAX };
                timers.sort_by_key(|(_, due)| *due);
                for (key, due) in timers.extract_if(.., |(_, due)| *due <= watermark) {
                    outcomes.push((key, Cause::EventTimer(due), rule(&rules, key)));
                }
            }
            Step::Clock(_) => {}
        }
    }
    outcomes
}

/// Every record with the last one of the other input before it, if there was one.
pub fn latest(script: &[Step]) -> Vec<(u32, Option<u32>)> {
    let mut seen: Vec<(bool, u32)> = Vec::new();
    let mut results = Vec::new();
    for step in script {
        if let Step::Record { is_right, id, .. } = *step {
            let other = seen.iter().rev().find(|(of, _)| *of != is_right).map(|(_, id)| *id);
            results.push((id, other));
            seen.push((is_right, id));
        }
    }
    results
}

/// The left records whose key no right record has named, or an even number of them.
pub fn allowed(script: &[Step]) -> Vec<u32> {
    let mut named: Vec<u32> = Vec::new();
    let mut ids = Vec::new();
    for step in script {
        match *step {
            Step::Record { is_right: true, key, .. } => named.push(key),
            Step::Record { is_right: false, key, id, .. } => {
                if named.iter().filter(|of| **of == key).count().is_multiple_of(2) {
                    ids.push(id);
                }
            }
            Step::Watermark(_) | Step::Clock(_) | Step::End => {}
        }
    }
    ids
}
