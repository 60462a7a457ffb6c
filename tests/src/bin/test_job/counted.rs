//! Numbers, counted by key, in files: whatever happens to the process, every count of every key is
//! there once.

use std::time::Duration;

use millstream::prelude::*;

/// How many keys there are.
const KEYS: u64 = 500;

/// `TEST_JOB_COUNT` numbers at `TEST_JOB_RATE` a second; lines `key count` in the directory that
/// `TEST_JOB_OUTPUT` names.
pub(crate) fn write(job: &Job) {
    let set = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let directory = std::env::var("TEST_JOB_OUTPUT").unwrap_or_else(|_| "output".to_string());
    let (count, rate) = (set("TEST_JOB_COUNT").unwrap_or(200_000), set("TEST_JOB_RATE"));
    let source = GeneratorSource::new(count, |n| n).paced(rate.unwrap_or(100_000) as f64);
    job.source("numbers", source)
        .key_by(|n| n % KEYS)
        .process("count", Count::default())
        .sink("files", FileSink::text(directory).roll_interval(Duration::from_millis(20)));
}

/// How many numbers a key has had.
#[derive(Clone, Default)]
struct Count {
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
        let count = self.count.update(ctx, |count| {
            *count += 1;
            *count
        });
        out.collect(format!("{} {count}", number % KEYS));
    }
}
