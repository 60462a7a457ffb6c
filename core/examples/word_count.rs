//! Counts words: a first job.
//!
//! ```text
//! cargo run --release --example word_count
//! cargo run --release --example word_count -- explain
//! cargo run --release --example word_count -- simulate --seeds 20
//! ```

use std::process::ExitCode;

use millstream::prelude::*;

const TEXT: [&str; 4] = [
    "To be, or not to be, that is the question:",
    "Whether 'tis nobler in the mind to suffer",
    "The slings and arrows of outrageous fortune,",
    "Or to take arms against a sea of troubles",
];

/// How often a word has been seen.
#[derive(Debug, Clone, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct WordCount {
    word: String,
    count: u64,
}

fn words(line: &str) -> Vec<WordCount> {
    let words = line.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty());
    words.map(|word| WordCount { word: word.to_lowercase(), count: 1 }).collect()
}

fn main() -> ExitCode {
    let job = Job::new("word-count");
    job.source("text", VecSource::from_vec(TEXT.to_vec()))
        .flat_map(words)
        // All records of a word meet in one task, on the shard that owns the word.
        .key_by(|word| word.word.clone())
        // Every record gives the count so far.
        .reduce(|so_far, word| WordCount { count: so_far.count + word.count, ..word })
        .name("count")
        .map(|WordCount { word, count }| format!("{word} {count}"))
        .sink("counts", StdoutSink::text());
    job.main()
}
