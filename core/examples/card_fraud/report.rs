//! What is said at the end.

#![allow(clippy::disallowed_methods, reason = "the host is gone when the system is asked")]
#![allow(clippy::print_stdout, reason = "a program for people")]

use std::fs;
use std::path::Path;

use millstream::prelude::*;

use super::live::Measured;
use super::score::{Score, Share};
use super::world::{TheftKind, World};

/// Digits in groups of three.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// How good the alerts were.
pub fn print_score(score: &Score) {
    println!("\nWhat was found");
    for (kind, thefts) in &score.thefts {
        let name = match kind {
            TheftKind::Testing => "stolen cards being tried",
            TheftKind::Spree => "stolen cards being spent",
        };
        line(&format!("recall, {name}"), &share(*thefts, "found"));
    }
    line("recall", &share(score.recall(), "found"));
    for (version, alerts) in &score.alerts {
        line(&format!("precision, rule {version}"), &share(*alerts, "right"));
    }
    line("precision", &share(score.precision(), "right"));
}

/// How fast it was.
pub fn print_speed(world: &World, report: &JobReport, measured: Option<&Measured>) {
    let seconds = report.took.as_secs_f64();
    let rate = (world.payment_count as f64 / seconds) as u64;
    println!("\nHow fast it was");
    line(
        "throughput",
        &format!(
            "{} payments/s: {} in {seconds:.2} s, on {} shards",
            grouped(rate),
            grouped(world.payment_count),
            report.shards.len()
        ),
    );
    if let Some(Measured { rate, verdicts, hiccups }) = measured {
        let rate = grouped(*rate);
        println!("  latency at {rate} payments/s, from when a payment was due to its verdict:");
        line("", &verdicts.to_string());
        println!("  hiccups of the machine, as seen by a loop that only waits for the same times:");
        line("", &hiccups.to_string());
    }
    let turns = report.shards.iter().map(|shard| &shard.turns);
    let (count, long_count) = turns.fold((0, 0), |(count, long_count), turns| {
        (count + turns.busy_turns, long_count + turns.stalls)
    });
    let turns = format!("{}, {} of them longer than intended", grouped(count), grouped(long_count));
    line("turns of the shards", &turns);
    if let Some(mib) = resident_mib_max() {
        line("memory", &format!("{} MiB at most", grouped(mib)));
    }
}

/// Where everything is.
pub fn print_files(folder: &Path) {
    println!("\nWhere it is");
    for (name, what) in [
        ("payments", "the input, CSV"),
        ("rules.jsonl", "the rules, JSON Lines"),
        ("alerts", "cards that somebody should look at, JSON Lines"),
        ("late", "payments that came too late to be judged, JSON Lines"),
        ("dead-letters", "lines that could not be read, and why, JSON Lines"),
    ] {
        println!("  {:<44} {what}", folder.join(name).display());
    }
}

fn line(name: &str, text: &str) {
    println!("  {name:<34} {text}");
}

fn share(share: Share, good: &str) -> String {
    let Share { count, good_count } = share;
    let percent = share.ratio() * 100.0;
    format!("{percent:5.1} %   {} of {} {good}", grouped(good_count), grouped(count))
}

/// The most memory that the process has had, MiB; none where the system does not say.
fn resident_mib_max() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().trim_end_matches(" kB").trim().parse().ok()?;
    Some(kib / 1024)
}
