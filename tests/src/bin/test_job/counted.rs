//! Numbers, counted by key, in files or in a log: whatever happens to the process, every count of
//! every key is there once.
//!
//! With `TEST_JOB_TROUBLE` the job fails at about every so many numbers that the process has seen:
//! now the source panics, now the function, now the function says that it cannot go on.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use millstream::connector::format::TextEncoder;
use millstream::error::Error;
use millstream::prelude::*;

use crate::rows::Rows;

/// How many keys there are.
const KEYS: u64 = 500;

/// `TEST_JOB_COUNT` numbers at `TEST_JOB_RATE` a second; lines `key count` in the directory that
/// `TEST_JOB_OUTPUT` names.
pub(crate) fn write(job: &Job) {
    counts(job).sink("files", files());
}

/// The same lines in transactions, in that directory.
pub(crate) fn write_rows(job: &Job) {
    let rows = Rows { directory: output().into(), writer: None, lines: Vec::new(), next: 0 };
    counts(job).sink("rows", TwoPhase::new(rows));
}

/// The same lines in the log that `TEST_JOB_LOG` names.
pub(crate) fn write_log(job: &Job) {
    let log = LogSink::text(log()).partitions(3).segment_bytes(200_000);
    let key = |line: &String| line.split(' ').next().unwrap_or_default().to_string();
    counts(job).log("log", log.keyed_by(key));
}

/// The lines of that log in files, without end.
pub(crate) fn read_log(job: &Job) {
    job.source("log", LogSource::text(log())).sink("files", files());
}

fn log() -> String {
    std::env::var("TEST_JOB_LOG").unwrap_or_else(|_| "log".to_string())
}

fn output() -> String {
    std::env::var("TEST_JOB_OUTPUT").unwrap_or_else(|_| "output".to_string())
}

fn files() -> FileSink<TextEncoder<String>> {
    FileSink::text(output()).roll_interval(Duration::from_millis(20))
}

fn counts(job: &Job) -> impl AnyStream<'_, Out = String> {
    let set = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let (count, rate) = (set("TEST_JOB_COUNT").unwrap_or(200_000), set("TEST_JOB_RATE"));
    let trouble_every = set("TEST_JOB_TROUBLE").unwrap_or(0);
    let make = move |n| {
        assert!(!Trouble::Source.is_due(trouble_every), "the source has enough");
        n
    };
    let source = GeneratorSource::new(count, make).paced(rate.unwrap_or(100_000) as f64);
    job.source("numbers", source)
        .key_by(|n| n % KEYS)
        .process("count", Count { trouble_every, ..Count::default() })
}

/// Who fails.
#[derive(Clone, Copy)]
enum Trouble {
    Source,
    Function,
    System,
}

impl Trouble {
    /// Whether it is his turn, asked once a number: each has his own third of every three times
    /// `every` numbers, and nobody any if that is 0.
    fn is_due(self, every: u64) -> bool {
        static SEEN: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];
        let seen = SEEN[self as usize].fetch_add(1, Ordering::Relaxed);
        0 < every && seen % (3 * every) == self as u64 * every + every / 2
    }
}

/// How many numbers a key has had.
#[derive(Clone, Default)]
struct Count {
    trouble_every: u64,
    count: ValueState<u64>,
}

impl KeyedProcessFunction<u64, u64> for Count {
    type Out = String;

    fn open(&mut self, ctx: &mut OpenContext<'_>) {
        self.count = ctx.value("count", StateSpec::kept_until_cleared());
    }

    fn process(
        &mut self,
        number: u64,
        ctx: &mut KeyedContext<'_, u64>,
        out: &mut impl Output<String>,
    ) {
        assert!(!Trouble::Function.is_due(self.trouble_every), "{number} is too much");
        if Trouble::System.is_due(self.trouble_every) {
            ctx.fail(Error::System {
                action: "reach the moon".to_string(),
                advice: None,
                source: io::ErrorKind::ConnectionReset.into(),
            });
            return;
        }
        let count = self.count.update(ctx, |count| {
            *count += 1;
            *count
        });
        out.collect(format!("{} {count}", number % KEYS));
    }
}
