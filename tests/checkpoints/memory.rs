//! A real process with nine times as much state as it may have memory for.

use millstream_tests::child;

/// The least that a shard can have.
const MEMORY_KIB: u64 = 64 << 10;

/// Keys of 8 bytes with values of 3,840: 616 MB.
const KEYS: u64 = 160_000;

#[test]
fn state_of_nine_times_the_memory_takes_no_more_than_that() {
    let place = tempfile::tempdir().expect("a place for files");
    let program = env!("CARGO_BIN_EXE_test_job");
    let args = ["--shards", "1", "--memory-per-shard", "64MiB", "--state-directory"];
    let mut command = child::command(program, "large-state", &args, place.path());
    command.arg(place.path()).env("TEST_JOB_COUNT", KEYS.to_string());
    let output = child::run(command);
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{log}");
    let told = String::from_utf8(output.stdout).expect("numbers");
    let numbers: Vec<u64> =
        told.split_whitespace().map(|it| it.parse().expect("a number")).collect();
    let [idle_kib, peak_kib, code_kib, new_keys] = numbers[..] else { panic!("{told:?}") };
    assert_eq!(new_keys, KEYS, "every value was found again");
    // Pages of the program, which nobody needed before there was state on disk, are no state.
    let limit_kib = idle_kib + code_kib + MEMORY_KIB * 105 / 100;
    assert!(
        peak_kib <= limit_kib,
        "{peak_kib} KiB at most, {idle_kib} idle, {code_kib} code, {limit_kib} allowed"
    );
}
