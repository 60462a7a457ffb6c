//! State of many keys, far more than there is memory for. The job says how much memory its process
//! has needed: when the first record came, and at most.

#![expect(clippy::print_stdout, reason = "what it has needed is read by a test")]

use millstream::prelude::*;

/// A value: 3,840 bytes, beside a key of 8.
type Value = [[u64; 24]; 20];

/// `TEST_JOB_COUNT` keys, each of which has a value, and an eighth as many changes of keys at
/// random.
pub(crate) fn write(job: &Job) {
    let keys = std::env::var("TEST_JOB_COUNT").ok().and_then(|text| text.parse().ok());
    let keys: u64 = keys.unwrap_or(100_000);
    let key_of = move |n: u64| if n < keys { n } else { mix(n) % keys };
    job.source("numbers", GeneratorSource::new(keys + keys / 8, key_of))
        .key_by(|key| mix(*key))
        .process("touch", Touch::default())
        .sink("told", Told::default());
}

/// Changes the value of its key, and says how often that was.
#[derive(Clone, Default)]
struct Touch {
    value: ValueState<Value>,
}

impl KeyedProcessFunction<u64, u64> for Touch {
    type Out = u64;

    fn open(&mut self, ctx: &mut OpenContext<'_>) {
        self.value = ctx.value("value", StateSpec::kept_until_cleared());
    }

    fn process(&mut self, key: u64, ctx: &mut KeyedContext<'_, u64>, out: &mut impl Output<u64>) {
        let count = self.value.update(ctx, |value| {
            let [count, own] = value[0].first_chunk_mut().expect("a row has some");
            assert!(*count == 0 || *own == key, "it is the value of another key");
            *own = key;
            *count += 1;
            *count
        });
        out.collect(count);
    }
}

/// Adds up, and prints at the end: KiB when idle and at most, KiB of code that has come since, and
/// how many keys were new.
#[derive(Clone, Default)]
struct Told {
    idle_kib: u64,
    idle_code_kib: u64,
    new_keys: u64,
}

impl Operator for Told {
    type In = u64;
    type Out = Nothing;

    fn facts(&self) -> millstream::graph::Facts {
        millstream::graph::Facts::stateless()
    }

    fn on_row(&mut self, row: Row<u64>, _: &OperatorContext<'_>, _: &mut impl Output<Nothing>) {
        if self.idle_kib == 0 {
            self.idle_kib = kib_of("VmHWM:");
            self.idle_code_kib = kib_of("RssFile:");
        }
        self.new_keys += u64::from(row.value == 1);
    }

    fn on_end(&mut self, _: &OperatorContext<'_>, _: &mut impl Output<Nothing>) -> Progress {
        let code_kib = kib_of("RssFile:").saturating_sub(self.idle_code_kib);
        println!("{} {} {code_kib} {}", self.idle_kib, kib_of("VmHWM:"), self.new_keys);
        Progress::Done
    }
}

/// What the system says of the process.
fn kib_of(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok()).unwrap_or_default()
}

/// Spreads numbers over all 64 bits (the finalizer of splitmix64).
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
