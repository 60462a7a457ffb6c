//! Whole jobs in the simulator, seed after seed, against naive models.
//!
//! A seed draws everything: the input (shuffled, late, bursty), the windows, key groups, shards and
//! parallelism, who runs when, how long the network and the disk take. Every job runs twice: once
//! to its end with barriers under way all the time, and once more from one of the checkpoints of
//! the first run, on another number of shards. Both must give what the model gives, exactly once.
//!
//! `MILLSTREAM_SIM_SEEDS` says how many seeds there are (1,000 by default); they are dealt out to
//! the tests. A failure names its seed, and a seed fails every time.

mod determinism;
mod ending;
mod files;
mod flow;
mod input;
mod joins;
mod ledger;
mod process;
mod sockets;
mod windows;

use std::fmt::Debug;
use std::time::Duration;

use millstream::prelude::*;
use millstream::sim::rng::Rng;
use millstream::state::snapshot::Snapshot;

use self::ledger::Ledger;

/// How many tests share the seeds.
const TEST_COUNT: u64 = 20;

/// With this many seeds a test must have restored something.
const SEEDS_FOR_RESTORES: usize = 20;

/// The part of the seeds that belongs to the test of this number.
pub(crate) fn seeds_of(test: u64) -> impl Iterator<Item = u64> {
    let count = std::env::var("MILLSTREAM_SIM_SEEDS").ok().and_then(|text| text.parse().ok());
    (0..count.unwrap_or(1_000)).filter(move |seed| seed % TEST_COUNT == test)
}

/// How one run is laid out. Nothing of it may change what comes out.
#[derive(Debug)]
struct Layout {
    shards: u32,
    /// Tasks of each source.
    parallelism: u32,
    /// Records that a source hands on at a time.
    batch: u32,
    rate_per_s: Option<f64>,
}

impl Layout {
    fn draw(rng: &mut Rng) -> Self {
        Self {
            shards: 1 + rng.below(5) as u32,
            parallelism: 1 + rng.below(5) as u32,
            batch: 1 + rng.below(8) as u32,
            rate_per_s: rng.chance(2, 3).then(|| 50_000.0 * (1 + rng.below(6)) as f64),
        }
    }

    /// How many tasks a source has.
    fn source_tasks(&self) -> u32 {
        self.parallelism.min(self.shards)
    }
}

/// What a run is given besides its layout.
fn draw_config(rng: &mut Rng) -> SimConfig {
    SimConfig {
        key_group_count: 8 << rng.below(8),
        checkpoint_interval: Some(Duration::from_micros(150 + rng.below(500))),
        ..SimConfig::new(rng.next_u64())
    }
}

/// Runs the job that `write` writes to its end; the rows of its ledger, and the report.
fn run<T: Record>(
    seed: u64,
    layout: &Layout,
    config: &SimConfig,
    write: &impl Fn(&Job, &Layout, Ledger<T>),
) -> (Vec<T>, SimReport) {
    let (job, ledger) = (Job::new("simulated"), Ledger::default());
    write(&job, layout, ledger.clone());
    let report = job.simulate(layout.shards, config).expect("the job has no mistakes");
    if let Err(error) = &report.outcome {
        panic!("seed {seed}, {layout:?}: {}", error.chain());
    }
    (ledger.into_rows(), report)
}

/// Runs the job of every seed to its end, and again from a checkpoint; `draw` draws what it is
/// about, and may prepare the disk. `verify` sees both results, with the layouts of the run and of
/// the one that it was restored from.
fn check<T: Record, J>(
    test: u64,
    draw: impl Fn(&mut Rng, &mut SimConfig) -> J,
    write: impl Fn(&J, &Job, &Layout, Ledger<T>),
    verify: impl Fn(&str, &J, &[&Layout], Vec<T>),
) {
    let (mut seed_count, mut restored_count) = (0, 0);
    for seed in seeds_of(test) {
        seed_count += 1;
        let mut rng = Rng::new(seed).fork(test);
        let (first, mut config) = (Layout::draw(&mut rng), draw_config(&mut rng));
        let drawn = draw(&mut rng, &mut config);
        let write = |job: &Job, layout: &Layout, ledger| write(&drawn, job, layout, ledger);
        let (rows, report) = run(seed, &first, &config, &write);
        verify(&format!("seed {seed}, {first:?}"), &drawn, &[&first], rows);
        let Some(restore) = pick(&report, &mut rng) else { continue };
        restored_count += 1;
        let second = Layout::draw(&mut rng);
        config = SimConfig { restore: Some(restore), seed: rng.next_u64(), ..config };
        let (rows, _) = run(seed, &second, &config, &write);
        let about = format!("seed {seed}, restored, {first:?}, {second:?}");
        verify(&about, &drawn, &[&first, &second], rows);
    }
    assert!(seed_count < SEEDS_FOR_RESTORES || restored_count > 0, "no checkpoint completed");
}

/// The state of one of the checkpoints.
fn pick(report: &SimReport, rng: &mut Rng) -> Option<Snapshot> {
    let count = report.checkpoints.len() as u64;
    let index = (count > 0).then(|| rng.below(count))?;
    let checkpoint = report.checkpoints[index as usize];
    Some(report.checkpoint(checkpoint).expect("what is complete is whole"))
}

/// Compares results without regard to their order.
#[track_caller]
fn assert_same<T: Ord + Debug>(about: &str, mut found: Vec<T>, mut expected: Vec<T>) {
    found.sort_unstable();
    expected.sort_unstable();
    if found == expected {
        return;
    }
    let missing: Vec<_> = expected.iter().filter(|row| found.binary_search(row).is_err()).collect();
    let surplus: Vec<_> = found.iter().filter(|row| expected.binary_search(row).is_err()).collect();
    panic!(
        "{about}: {} results, expected {}\nmissing: {missing:?}\nnot expected: {surplus:?}",
        found.len(),
        expected.len()
    );
}
