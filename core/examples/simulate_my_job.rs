//! A job under a simulator: does it give the same result in every order that may happen?
//!
//! The simulator runs the shards of a job in one thread. A seed decides which shard runs when, how
//! long a frame is on its way, who stalls; the same seed does the same again. So a test can try
//! many orders in a second, and a failure has a number.
//!
//! ```text
//! cargo run --release --example simulate_my_job
//! ```

use std::collections::BTreeSet;
use std::time::Duration;

use millstream::prelude::*;

/// Where and when somebody clicked.
#[derive(Debug, Clone, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Click {
    page: u64,
    at_ms: i64,
    count: u64,
}

/// Clicks per page and second. Depends on event time only, so no order can change it.
fn clicks_per_second(job: &Job, result: &Collected<(u64, i64, u64)>) {
    let click = |n: u64| Click { page: n * 7 % 10, at_ms: n as i64 * 3, count: 1 };
    job.source("clicks", GeneratorSource::new(2_000, click))
        .watermark(Monotonic::new(), |click| click.at_ms)
        .key_by(|click| click.page)
        .window(Tumbling::new(Duration::from_secs(1)))
        .reduce_with(
            |a, b| Click { count: a.count + b.count, ..a },
            |page: &u64, window: &Window, clicks: Click| (*page, window.start_ms, clicks.count),
        )
        .name("per second")
        .sink("result", result.sink());
}

/// Which click is number 2,000 on its page. That is a matter of who comes first from any shard.
fn winning_click(job: &Job, result: &Collected<(u64, i64, u64)>) {
    let click = |n: u64| Click { page: n % 5, at_ms: n as i64 * 3, count: 1 };
    job.source("clicks", GeneratorSource::new(20_000, click))
        .key_by(|click| click.page)
        .reduce(|so_far, click| Click { count: so_far.count + 1, ..click })
        .name("count")
        .filter(|click| click.count == 2_000)
        .map(|click| (click.page, click.at_ms, click.count))
        .sink("result", result.sink());
}

/// How many different results `write` has over `seeds`, on three shards.
fn different_results(
    write: impl Fn(&Job, &Collected<(u64, i64, u64)>),
    seeds: std::ops::Range<u64>,
) -> Result<usize> {
    let result = Collected::new();
    let job = Job::new("clicks");
    write(&job, &result);
    let mut results = BTreeSet::new();
    for seed in seeds {
        job.simulate(3, &SimConfig::new(seed))?.outcome?;
        let mut rows: Vec<_> = result.take_rows().into_iter().map(|row| row.value).collect();
        rows.sort_unstable();
        results.insert(rows);
    }
    Ok(results.len())
}

fn main() -> Result<()> {
    let sound = different_results(clicks_per_second, 0..30)?;
    assert_eq!(sound, 1, "windows of event time do not depend on any order");

    let unsound = different_results(winning_click, 0..30)?;
    assert!(1 < unsound, "which click wins depends on which shard is faster, and a seed shows it");
    eprintln!("clicks per second: {sound} result; winning click: {unsound} different results");
    Ok(())
}
