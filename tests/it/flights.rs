//! The flights of a year: the same answers on any number of shards, and the right ones.
//!
//! The example's own modules are compiled into this test; its `main.rs` is not. `check.rs` has
//! answers that were computed by SQL over the same files. Whatever it says of weather, planes and
//! longest delays is computed once more here, by an oracle that reads the files line by line and
//! keeps everything in vectors.

#[path = "../../core/examples/flights/aggregates.rs"]
pub mod aggregates;
#[path = "../../core/examples/flights/check.rs"]
pub mod check;
#[path = "../../core/examples/flights/job.rs"]
pub mod job;
#[path = "../../core/examples/flights/records.rs"]
pub mod records;

mod oracle;

use std::path::Path;
use std::time::Duration;

use millstream::prelude::*;
use millstream::testing::written_lines;

use self::check::{Answer, RESULTS};

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../core/examples/flights/data");

/// The watermark waits this long: no flight of the year is late.
const PATIENCE: Duration = Duration::from_hours(24);

/// The lines of each folder of results.
fn run(out: &Path, shards: u32) -> Vec<Vec<String>> {
    let job = Job::new("flights");
    job::build(&job, Path::new(DATA), out, PATIENCE);
    job.run(&Config { shards: Some(shards), ..Config::default() }).expect("the job ends");
    // A sink that got nothing may not have made its folder.
    RESULTS.iter().map(|name| written_lines(out.join(name)).unwrap_or_default()).collect()
}

#[test]
fn a_year_of_flights_has_the_known_answers_on_any_number_of_shards() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let of_shards = |shards: u32| {
        let out = root.path().join(shards.to_string());
        let lines = run(&out, shards);
        let answers = check::answers(&out).expect("the job wrote them");
        let wrong: Vec<&Answer> = answers.iter().filter(|answer| !answer.is_right()).collect();
        assert!(wrong.is_empty(), "{shards} shards: {wrong:#?}");
        lines
    };
    let [hours, sessions, delays, departures, late] = &of_shards(1)[..] else {
        panic!("results are in five folders")
    };
    assert!(late.is_empty());
    let expected = oracle::Expected::of(Path::new(DATA));
    assert!(*departures == expected.departures, "departures differ from the oracle's");
    assert!(*delays == expected.delays, "longest delays differ from the oracle's");
    for shards in [2, 5] {
        for (name, (found, on_one)) in RESULTS
            .iter()
            .zip(of_shards(shards).iter().zip([hours, sessions, delays, departures, late]))
        {
            assert!(found == on_one, "{name} on {shards} shards are not those on one");
        }
    }
}
