//! A job under a simulator: does it give the same result in every order that may happen?
//!
//! The simulator runs the shards of a job in one thread. A seed decides which shard runs when, how
//! long a frame is on its way, who stalls; the same seed does the same again. So a test can try
//! many orders in a second, and a failure has a number.
//!
//! ```text
//! cargo test --example simulate_my_job                                     from a test: see below
//! cargo run --release --example simulate_my_job -- simulate --seeds 100    from the command line
//! cargo run --release --example simulate_my_job                            for real
//! ```

use std::process::ExitCode;
use std::time::Duration;

use millstream::prelude::*;

/// Where and when somebody clicked.
#[derive(Debug, Clone, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Click {
    page: u64,
    at_ms: i64,
    count: u64,
}

/// How often a page was clicked in a second.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
struct PageSecond {
    page: u64,
    start_ms: i64,
    count: u64,
}

/// Clicks per page and second. Depends on event time only, so no order can change it.
fn clicks_per_second(job: &Job, result: impl Sink<In = PageSecond>) {
    let click = |n: u64| Click { page: n * 7 % 10, at_ms: n as i64 * 3, count: 1 };
    job.source("clicks", GeneratorSource::new(2_000, click))
        .watermark(Monotonic::new(), |click| click.at_ms)
        .key_by(|click| click.page)
        .window(Tumbling::new(Duration::from_secs(1)))
        .reduce_with(
            |a, b| Click { count: a.count + b.count, ..a },
            |page: &u64, window: &Window, clicks: Click| PageSecond {
                page: *page,
                start_ms: window.start_ms,
                count: clicks.count,
            },
        )
        .name("per second")
        .sink("result", result);
}

fn main() -> ExitCode {
    let job = Job::new("clicks");
    clicks_per_second(&job, StdoutSink::json_lines());
    job.main()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Which click is number 2,000 on its page. That is a matter of who comes first from any shard.
    fn winning_click(job: &Job, result: impl Sink<In = PageSecond>) {
        let click = |n: u64| Click { page: n % 5, at_ms: n as i64 * 3, count: 1 };
        job.source("clicks", GeneratorSource::new(20_000, click))
            .key_by(|click| click.page)
            .reduce(|so_far, click| Click { count: so_far.count + 1, ..click })
            .name("count")
            .filter(|click| click.count == 2_000)
            .map(|Click { page, at_ms, count }| PageSecond { page, start_ms: at_ms, count })
            .sink("result", result);
    }

    /// The different results of a job over 30 seeds, on three shards.
    fn results_of(write: impl Fn(&Job, CollectSink<PageSecond>)) -> BTreeSet<Vec<PageSecond>> {
        let result = Collected::new();
        let job = Job::new("clicks");
        write(&job, result.sink());
        let mut results = BTreeSet::new();
        for seed in 0..30 {
            let report = job.simulate(3, &SimConfig::new(seed)).expect("no mistakes");
            report.outcome.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            let mut values = result.take_values();
            values.sort_unstable();
            results.insert(values);
        }
        results
    }

    #[test]
    fn clicks_per_second_are_the_same_in_every_order() {
        let results = results_of(clicks_per_second);
        assert_eq!(results.len(), 1);
        let clicks: u64 = results.iter().flatten().map(|second| second.count).sum();
        assert_eq!(clicks, 2_000, "every click once");
    }

    #[test]
    fn a_seed_shows_that_the_winning_click_depends_on_who_is_faster() {
        assert!(1 < results_of(winning_click).len());
    }
}
