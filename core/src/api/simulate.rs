//! A user's job in the deterministic simulator, seed after seed.
//!
//! Every seed is another order of everything that has no order: which shard runs when, how long a
//! frame or a file operation takes, who stalls. A seed that fails does so every time, so its number
//! is all that a bug report needs.
//!
//! Two questions are answered. *Does every seed end well?* And, since most jobs should not depend
//! on such orders: *are the results the same?* Lines of standard output and of files that were
//! written are compared without their order.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::api::job::Job;
use crate::api::plan::JobPlan;
use crate::error::{Error, Result};
use crate::sim::world::{self, SimConfig, SimReport};

/// What `simulate` takes from the command line.
#[derive(Debug, Clone, Args)]
pub struct SimulateArgs {
    /// How many seeds.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub seeds: u64,
    /// The first seed; the others follow it.
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    pub first: u64,
    /// A file that is on the simulated disk, under the same path; may be given several times.
    #[arg(long = "file", value_name = "PATH")]
    pub files: Vec<PathBuf>,
    /// Drains the job after this much simulated time (`500ms`, `10s`): for sources without end.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub drain_after: Option<Duration>,
}

/// This many seeds are run twice, to see whether they do the same.
const REPEATED_COUNT: u64 = 3;

impl Job {
    /// Runs the job once in the simulator, on `shard_count` simulated shards.
    ///
    /// ```
    /// use millstream::prelude::*;
    ///
    /// let job = Job::new("squares");
    /// let squares = Collected::new();
    /// let numbers = job.source("numbers", GeneratorSource::new(5, |n| n));
    /// numbers.map(|n| n * n).sink("squares", squares.sink());
    /// let report = job.simulate(2, &SimConfig::new(42)).expect("no mistakes");
    /// report.outcome.expect("it ends well");
    /// assert_eq!(squares.values().len(), 5);
    /// ```
    ///
    /// # Errors
    /// [`Error::Plan`] with all mistakes. How the run itself ended is in the report.
    pub fn simulate(&self, shard_count: u32, config: &SimConfig) -> Result<SimReport> {
        let plan = self.plan(shard_count, config.key_group_count.max(shard_count))?;
        Ok(world::run(&plan.program, config))
    }
}

impl SimulateArgs {
    /// Simulates the plan for every seed; a summary.
    ///
    /// # Errors
    /// What ended the first seed that failed, or [`Error::Unrepeatable`].
    pub(crate) fn run(&self, plan: &JobPlan) -> Result<String> {
        let config = SimConfig {
            files: self.read_files()?,
            drain_at: self.drain_after,
            ..SimConfig::new(self.first)
        };
        let mut results: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        let mut turn_count = 0;
        for seed in (self.first..).take(usize::try_from(self.seeds).unwrap_or(usize::MAX)) {
            let config = SimConfig { seed, ..config.clone() };
            let report = simulate(plan, &config)?;
            if seed - self.first < REPEATED_COUNT {
                repeats(plan, &report, &config)?;
            }
            turn_count += report.turn_count;
            results.entry(digest(&report, &config.files)).or_default().push(seed);
        }
        Ok(self.summary(plan.graph.shard_count, turn_count, &results))
    }

    fn summary(&self, shards: u32, turns: u64, results: &BTreeMap<u64, Vec<u64>>) -> String {
        let mut text = format!(
            "{} seeds from {} on {shards} shards, {turns} turns: all ended well\n",
            self.seeds, self.first
        );
        match results.len() {
            0 | 1 if results.contains_key(&NOTHING_WRITTEN) => text.push_str(
                "nothing was written to standard output or to files, so no results were compared\n",
            ),
            0 | 1 => text.push_str("the results of all seeds are the same\n"),
            count => {
                let _ = writeln!(
                    text,
                    "{count} different results: the job depends on the order in which records of \
                     different shards meet, or on processing time"
                );
                for seeds in results.values().take(10) {
                    let _ = writeln!(text, "  seed {} and {} more", seeds[0], seeds.len() - 1);
                }
            }
        }
        text
    }

    #[expect(clippy::disallowed_methods, reason = "files are copied before anything is simulated")]
    fn read_files(&self) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
        let read = |path: &PathBuf| {
            let bytes = std::fs::read(path).map_err(|source| Error::File {
                operator: "simulate".to_string(),
                action: format!("read {}", path.display()),
                advice: "put the file there, or correct the path",
                source,
            })?;
            Ok((path.clone(), bytes))
        };
        self.files.iter().map(read).collect()
    }
}

/// One seed, which must end well.
fn simulate(plan: &JobPlan, config: &SimConfig) -> Result<SimReport> {
    let report = world::run(&plan.program, config);
    match &report.outcome {
        Ok(()) => Ok(report),
        Err(_) => {
            let seed = config.seed;
            tracing::error!(
                seed,
                "this seed fails; repeat it with simulate --first {seed} --seeds 1"
            );
            Err(report.outcome.expect_err("it failed"))
        }
    }
}

/// Checks that a seed decides everything.
fn repeats(plan: &JobPlan, first: &SimReport, config: &SimConfig) -> Result<()> {
    let second = world::run(&plan.program, config);
    if first.trace_hash64 == second.trace_hash64 && first.stdout == second.stdout {
        return Ok(());
    }
    Err(Error::Unrepeatable { seed: first.seed })
}

/// The [`digest`] of a job that wrote nothing.
const NOTHING_WRITTEN: u64 = 0;

/// A hash of everything that the job wrote, whatever the order of its lines.
fn digest(report: &SimReport, inputs: &BTreeMap<PathBuf, Vec<u8>>) -> u64 {
    let written = report.disk.files().filter(|(path, _)| !inputs.contains_key(*path));
    let texts = written.map(|(_, bytes)| bytes).chain([report.stdout.as_slice()]);
    let mut lines: Vec<&[u8]> = texts.flat_map(|text| text.split(|byte| *byte == b'\n')).collect();
    lines.retain(|line| !line.is_empty());
    if lines.is_empty() {
        return NOTHING_WRITTEN;
    }
    lines.sort_unstable();
    xxhash_rust::xxh3::xxh3_64(&lines.join(&b'\n'))
}
