//! The main job against an oracle, on any number of shards, and in the simulator.
//!
//! The example's own modules are compiled into this test; its `main.rs` is not.

mod oracle;

#[path = "../../../core/examples/card_fraud/announce.rs"]
pub mod announce;
#[path = "../../../core/examples/card_fraud/input.rs"]
pub mod input;
#[path = "../../../core/examples/card_fraud/job.rs"]
pub mod job;
#[path = "../../../core/examples/card_fraud/judge.rs"]
pub mod judge;
#[path = "../../../core/examples/card_fraud/punctual.rs"]
pub mod punctual;
#[path = "../../../core/examples/card_fraud/records.rs"]
pub mod records;
#[path = "../../../core/examples/card_fraud/score.rs"]
pub mod score;
#[path = "../../../core/examples/card_fraud/usual.rs"]
pub mod usual;
#[path = "../../../core/examples/card_fraud/velocity.rs"]
pub mod velocity;
#[path = "../../../core/examples/card_fraud/world.rs"]
pub mod world;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use millstream::prelude::*;
use millstream::testing::written_lines;

use self::announce::Announcer;
use self::input::Written;
use self::oracle::Expected;
use self::score::Score;
use self::world::World;
use crate::simulation::seeds_of;

/// Writes the input, and says what should come of it.
fn prepare(payment_count: u64, folder: &Path) -> (World, Written, Expected) {
    let world = World::new(payment_count);
    let written = input::write(&world, folder).expect("the folder can be written");
    (world, written, Expected::of(folder))
}

fn run(folder: &Path, shards: u32) {
    let job = Job::new("card-fraud");
    job::from_files(&job, folder, Announcer::new(Vec::new()));
    job.run(&Config { shards: Some(shards), ..Config::default() }).expect("the job ends");
}

fn found(folder: &Path) -> Expected {
    let lines = |name: &str| written_lines(folder.join(name)).expect("the job wrote it");
    Expected {
        alerts: lines("alerts"),
        late: lines("late"),
        broken_count: lines("dead-letters").len() as u64,
    }
}

#[test]
fn alerts_are_the_oracles_on_any_number_of_shards() {
    let root = tempfile::tempdir().expect("a temporary folder");
    for shards in [1, 2, 5] {
        let folder = root.path().join(shards.to_string());
        let (_, written, expected) = prepare(40_000, &folder);
        run(&folder, shards);
        let found = found(&folder);
        assert_eq!(found.alerts, expected.alerts, "{shards} shards");
        assert_eq!(found, expected, "{shards} shards");
        assert_eq!(found.late.len() as u64, written.late_count);
        assert_eq!(found.broken_count, written.broken_count);
    }
}

#[test]
fn most_thefts_are_found_and_most_alerts_are_right() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (world, _, _) = prepare(100_000, folder.path());
    run(folder.path(), 2);
    let alerts = score::read_alerts(&folder.path().join("alerts")).expect("the job wrote them");
    let score = Score::of(&world, &alerts);
    assert!(score.precision().ratio() > 0.2 && score.recall().ratio() > 0.8, "{score:?}");
}

#[test]
fn simulation_gives_the_oracles_alerts() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (_, _, expected) = prepare(5_000, folder.path());
    let read = |path: PathBuf| (path.clone(), fs::read(path).expect("it was just written"));
    let files: BTreeMap<PathBuf, Vec<u8>> =
        input::paths(folder.path()).into_iter().map(read).collect();
    for seed in seeds_of(13) {
        let job = Job::new("card-fraud");
        job::from_files(&job, folder.path(), Announcer::new(Vec::new()));
        let config = SimConfig { files: files.clone(), ..SimConfig::new(seed) };
        let report = job.simulate(1 + seed as u32 % 4, &config).expect("no mistakes");
        report.outcome.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let alerts = folder.path().join("alerts");
        let written = report.disk.files().filter(|(path, _)| path.starts_with(&alerts));
        let mut lines: Vec<String> = Vec::new();
        for (_, bytes) in written {
            let text = std::str::from_utf8(bytes).expect("JSON is text");
            lines.extend(text.lines().map(str::to_string));
        }
        lines.sort_unstable();
        assert_eq!(lines, expected.alerts, "seed {seed}");
    }
}
