//! A sink in transactions, in a simulation: the machine loses its power again and again, the
//! database that it writes to does not, and every record is there once.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use millstream::connector::two_phase::{TwoPhaseSink, Writer};
use millstream::prelude::*;
use millstream::sim::rng::Rng;

/// One simulated seed in so many is one of these.
const SEEDS_PER_TEST: u64 = 20;

/// How often the power goes at most before a job may end.
const CRASHES_MAX: u64 = 6;

/// A database: what is prepared, by name, and what everybody sees.
#[derive(Default)]
struct Database {
    prepared: BTreeMap<(u32, u64), Vec<u64>>,
    seen: Vec<u64>,
    next: u64,
}

#[derive(Clone)]
struct Rows {
    database: Arc<Mutex<Database>>,
    writer: Option<Writer>,
    open: Vec<u64>,
}

impl Rows {
    fn database(&self) -> MutexGuard<'_, Database> {
        self.database.lock().expect("nobody panics with it")
    }
}

impl TwoPhaseSink for Rows {
    type In = u64;
    type Committable = (u32, u64);

    fn describe(&self) -> String {
        "rows".to_string()
    }

    fn open(&mut self, writer: Writer) -> io::Result<()> {
        self.writer = Some(writer);
        Ok(())
    }

    fn abort_all_but(&mut self, kept: &[(u32, u64)]) -> io::Result<()> {
        let writer = self.writer.clone().expect("it is open");
        let is_left = |id: &(u32, u64)| !writer.answers_for(id.0) || kept.contains(id);
        self.database().prepared.retain(|id, _| is_left(id));
        Ok(())
    }

    fn write(&mut self, rows: Vec<u64>) -> io::Result<()> {
        self.open.extend(rows);
        Ok(())
    }

    fn pre_commit(&mut self) -> io::Result<Option<(u32, u64)>> {
        let rows = std::mem::take(&mut self.open);
        let task_index = self.writer.as_ref().expect("it is open").task_index;
        let mut database = self.database();
        database.next += 1;
        let id = (task_index, database.next);
        database.prepared.insert(id, rows);
        Ok(Some(id))
    }

    fn commit(&mut self, id: &(u32, u64)) -> io::Result<()> {
        let mut database = self.database();
        if let Some(rows) = database.prepared.remove(id) {
            database.seen.extend(rows);
        }
        Ok(())
    }
}

#[test]
fn every_record_is_seen_once_whenever_the_power_goes() {
    let count = std::env::var("MILLSTREAM_SIM_SEEDS").ok().and_then(|text| text.parse().ok());
    let mut crash_count = 0;
    for seed in 0..(count.unwrap_or(1_000) / SEEDS_PER_TEST).max(1) {
        let mut rng = Rng::new(seed).fork(3);
        let count = 500 + rng.below(3_000);
        let database = Arc::new(Mutex::new(Database::default()));
        let mut config = SimConfig {
            checkpoint_interval: Some(Duration::from_micros(500 + rng.below(3_000))),
            ..SimConfig::new(rng.next_u64())
        };
        for round in 0..=CRASHES_MAX {
            let (shards, parallelism) = (1 + rng.below(4) as u32, 1 + rng.below(4) as u32);
            let crash_at = Duration::from_micros(200 + rng.below(20_000));
            config.crash_at = (round < CRASHES_MAX).then_some(crash_at);
            let about = format!("seed {seed}, round {round}, {shards} shards");
            let job = Job::new("simulated");
            let rows = Rows { database: Arc::clone(&database), writer: None, open: Vec::new() };
            job.source("numbers", GeneratorSource::new(count, |n| n).paced(200_000.0))
                .parallelism(parallelism)
                .rebalance()
                .sink("rows", TwoPhase::new(rows));
            let report = job.simulate(shards, &config).expect("the job has no mistakes");
            let mut seen = database.lock().expect("nobody panics with it").seen.clone();
            seen.sort_unstable();
            assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "{about}: a record twice");
            match &report.outcome {
                Ok(()) => {
                    assert!(seen.iter().copied().eq(0..count), "{about}: {} seen", seen.len());
                    break;
                }
                Err(millstream::error::Error::Crashed { .. }) => crash_count += 1,
                Err(error) => panic!("{about}: {}", error.chain()),
            }
            config = config.after(&report, rng.next_u64()).expect("one is whole, if there are any");
        }
    }
    assert!(0 < crash_count, "the power went");
}
