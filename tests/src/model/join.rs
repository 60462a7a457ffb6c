//! What joins should give.

/// Which input a record came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// The first.
    Left,
    /// The second.
    Right,
}

/// One step of a script.
#[derive(Debug, Clone)]
pub enum Step {
    /// A record; `id` is its own.
    Record {
        /// Its input.
        from: From,
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

/// What came of a script.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Left, right (0 for none) and event time of each result, ascending.
    pub pairs: Vec<(u32, u32, i64)>,
    /// Late records, in order.
    pub late: Vec<u32>,
}

/// A record that was not late.
#[derive(Debug, Clone, Copy)]
struct Seen {
    from: From,
    key: u32,
    time: i64,
    id: u32,
}

/// All pairs of records that were not late, with `lower <= right - left <= upper` in time.
pub fn interval(lower: i64, upper: i64, script: &[Step]) -> Outcome {
    let mut outcome = Outcome::default();
    let (mut seen, mut watermark) = (Vec::new(), i64::MIN);
    for step in script {
        match *step {
            Step::Watermark(new) => watermark = new,
            Step::Record { id, time, .. } if time <= watermark => outcome.late.push(id),
            Step::Record { from, key, time, id } => seen.push(Seen { from, key, time, id }),
        }
    }
    for left in seen.iter().filter(|record| record.from == From::Left) {
        for right in seen.iter().filter(|record| record.from == From::Right) {
            let apart = right.time - left.time;
            if left.key == right.key && lower <= apart && apart <= upper {
                outcome.pairs.push((left.id, right.id, left.time.max(right.time)));
            }
        }
    }
    outcome.pairs.sort_unstable();
    outcome
}

/// Every left record that was not late, once the watermark is there, with the version of its key
/// with the largest time not after its own; of several, the last that came.
pub fn temporal(script: &[Step]) -> Outcome {
    temporal_with_ttl(i64::MAX, script)
}

/// The same; a version ends `ttl` after its time.
pub fn temporal_with_ttl(ttl: i64, script: &[Step]) -> Outcome {
    let mut outcome = Outcome::default();
    let (mut waiting, mut versions) = (Vec::<Seen>::new(), Vec::<Seen>::new());
    let mut watermark = i64::MIN;
    for step in script {
        match *step {
            Step::Watermark(new) => {
                watermark = new;
                for left in waiting.iter().filter(|left| left.time <= new) {
                    let known =
                        versions.iter().filter(|v| v.key == left.key && v.time <= left.time);
                    let newest = known.max_by_key(|v| v.time);
                    let newest = newest.filter(|v| left.time < v.time.saturating_add(ttl));
                    let version = newest.map_or(0, |v| v.id);
                    outcome.pairs.push((left.id, version, left.time));
                }
                waiting.retain(|left| new < left.time);
            }
            Step::Record { from: From::Left, id, time, .. } if time <= watermark => {
                outcome.late.push(id);
            }
            Step::Record { from: From::Left, key, time, id } => {
                waiting.push(Seen { from: From::Left, key, time, id });
            }
            Step::Record { from: From::Right, key, time, id } => {
                let is_replaced =
                    versions.iter().any(|v| v.key == key && v.time <= watermark && time < v.time);
                if is_replaced || time.saturating_add(ttl) <= watermark {
                    outcome.late.push(id);
                } else {
                    versions.push(Seen { from: From::Right, key, time, id });
                }
            }
        }
    }
    outcome.pairs.sort_unstable();
    outcome
}
