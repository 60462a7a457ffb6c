//! Numbers, counted by key, to a program that may not read: no number of a key is missing, comes
//! twice or too early, whatever happens to the process.

use millstream::prelude::*;

/// How many keys there are.
const KEYS: u64 = 50;

/// Makes lines long, so that some thousands of them fill a connection.
const PADDING: usize = 1_000;

/// `TEST_JOB_COUNT` numbers; lines `key count ....` to `TEST_JOB_LISTEN`.
pub(crate) fn write(job: &Job) {
    let count = std::env::var("TEST_JOB_COUNT").ok().and_then(|text| text.parse().ok());
    let address = std::env::var("TEST_JOB_LISTEN").unwrap_or_default();
    // One task sends them in their order.
    job.source("numbers", GeneratorSource::new(count.unwrap_or(100_000), |n| n))
        .parallelism(1)
        .key_by(|n| n % KEYS)
        .process("in order", InOrder::default())
        .rebalance()
        .sink("peer", SocketSink::text(address));
}

/// How many numbers a key has had.
#[derive(Clone, Default)]
struct InOrder {
    count: ValueState<u64>,
}

impl KeyedProcessFunction<u64, u64> for InOrder {
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
        let before = self.count.update(ctx, |count| std::mem::replace(count, *count + 1));
        assert_eq!(number / KEYS, before, "{number} is not the next of its key");
        out.collect(format!("{} {before} {:.>PADDING$}", number % KEYS, ""));
    }
}
