//! What a rolling aggregation should give.

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
    /// Processing time rises to this.
    Clock(i64),
}

/// How long a key is remembered after its last record.
#[derive(Debug, Clone, Copy)]
pub enum Life {
    /// For ever.
    Endless,
    /// For so long of event time: from the time of the record, or from the watermark if that was
    /// further, until the watermark.
    Event(i64),
    /// For so long of processing time.
    Processing(i64),
}

/// A record that has come, and what both clocks were.
struct Seen {
    key: u32,
    id: u32,
    stamp: i64,
    clock: i64,
}

/// For every record its key, its event time, and the records of its key since that was last
/// forgotten, in the order of arrival.
pub fn run(life: Life, script: &[Step]) -> Vec<(u32, i64, Vec<u32>)> {
    let mut seen: Vec<Seen> = Vec::new();
    let mut results = Vec::new();
    let (mut watermark, mut now) = (i64::MIN, 0);
    for step in script {
        match *step {
            Step::Watermark(new) => watermark = new,
            Step::Clock(new) => now = new,
            Step::Record { key, time, id } => {
                let (stamp, clock) = match life {
                    Life::Processing(_) => (now, now),
                    Life::Event(_) | Life::Endless => (time.max(watermark), watermark),
                };
                seen.push(Seen { key, id, stamp, clock });
                results.push((key, time, since_forgotten(life, key, &seen)));
            }
        }
    }
    results
}

/// Goes through all records of the key anew.
fn since_forgotten(life: Life, key: u32, seen: &[Seen]) -> Vec<u32> {
    let mut ids = Vec::new();
    let mut last_stamp = i64::MIN;
    for record in seen.iter().filter(|record| record.key == key) {
        let is_forgotten = match life {
            Life::Endless => false,
            Life::Event(ttl) | Life::Processing(ttl) => {
                !ids.is_empty() && last_stamp.saturating_add(ttl) <= record.clock
            }
        };
        if is_forgotten {
            ids.clear();
            last_stamp = i64::MIN;
        }
        last_stamp = last_stamp.max(record.stamp);
        ids.push(record.id);
    }
    ids
}
