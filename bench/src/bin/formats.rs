//! How fast files are read: bytes in memory through the whole file source (reads, decompression,
//! lines, parsing) beside what one would write by hand with the crates `csv` and `serde_json`.
//!
//! The disk is a slice: an answer costs the copy of its bytes and nothing else. Both ways parse the
//! same bytes into the same records in turns, and must come to the same sum.
//!
//! `cargo run --release -p millstream-bench --bin formats [-- --records 1000000]`

#![expect(clippy::print_stdout, reason = "a report is for reading")]

use std::io::{BufRead, Read, Write};
use std::time::Instant;

use anyhow::{Context, ensure};
use clap::Parser;
use millstream::connector::FileSource;
use millstream::connector::format::Format;
use millstream::connector::generator::card::{CardGenerator, Distribution};
use millstream::connector::generator::nexmark::{NexmarkGenerator, RATE_DEFAULT};
use millstream::connector::generator::{Bid, CardTransaction, Nexmark};
use millstream::data::key_group::KeyGroupCount;
use millstream::operator::env::TaskPlace;
use millstream::operator::source::{Source, SourceOutput, SourceReader, SourceStatus};
use millstream::operator::{OperatorContext, SplitEvent, TaskEnv};
use millstream_bench::contest::Spread;
use millstream_bench::process::waited;
use millstream_storage::io::{FileAnswer, FileDone, FileEntry, FileOp};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Measures the file source.
#[derive(Debug, Parser)]
struct Options {
    /// Records of each file.
    #[arg(long, default_value_t = 500_000)]
    records: u64,
    /// How often each way runs.
    #[arg(long, default_value_t = 7)]
    runs: usize,
    /// Core to run on.
    #[arg(long, default_value_t = 0)]
    core: usize,
}

/// A record that adds something to the sum of a run.
trait Summed {
    fn part(&self) -> u64;
}

impl Summed for CardTransaction {
    fn part(&self) -> u64 {
        self.content_hash()
    }
}

impl Summed for Bid {
    fn part(&self) -> u64 {
        self.price ^ (self.channel.len() + self.url.len() + self.extra.len()) as u64
    }
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    core_affinity::set_for_current(core_affinity::CoreId { id: options.core });

    let generator = CardGenerator::new(100_000, Distribution::Zipf, 0);
    let cards: Vec<_> = (0..options.records).map(|n| generator.record(n)).collect();
    println!("card transactions: five numbers");
    contests(&options, &cards)?;

    let generator = NexmarkGenerator::new(RATE_DEFAULT);
    let bid = |n| match generator.record(n) {
        Nexmark::Bid(bid) => Some(bid),
        Nexmark::Person(_) | Nexmark::Auction(_) => None,
    };
    let bids: Vec<_> = (0..).filter_map(bid).take(options.records as usize).collect();
    println!("bids: four numbers, three texts");
    contests(&options, &bids)
}

/// Every format and compression, for one kind of record.
fn contests<T>(options: &Options, records: &[T]) -> anyhow::Result<()>
where
    T: Summed + Serialize + DeserializeOwned + 'static,
{
    let csv = to_csv(records, csv::QuoteStyle::Necessary)?;
    let quoted = to_csv(records, csv::QuoteStyle::NonNumeric)?;
    let mut json = Vec::new();
    for record in records {
        serde_json::to_writer(&mut json, record)?;
        json.push(b'\n');
    }
    let by_csv = FileSource::csv::<T>;
    let by_json = FileSource::json_lines::<T>;
    contest(options, "CSV", &csv, by_csv("a.csv"), &csv, |bytes| by_hand_csv::<T>(bytes))?;
    contest(options, "CSV, quoted", &quoted, by_csv("a.csv"), &quoted, |bytes| {
        by_hand_csv::<T>(bytes)
    })?;
    contest(options, "JSON Lines", &json, by_json("a.jsonl"), &json, |bytes| {
        by_hand_json::<T>(bytes)
    })?;

    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&csv)?;
    let gzip = gzip.finish()?;
    contest(options, "CSV, gzip", &csv, by_csv("a.csv.gz"), &gzip, |bytes| {
        by_hand_csv::<T>(flate2::read::MultiGzDecoder::new(bytes))
    })?;
    let zstd = zstd::bulk::compress(&csv, 3)?;
    contest(options, "CSV, zstd", &csv, by_csv("a.csv.zst"), &zstd, |bytes| {
        by_hand_csv::<T>(zstd::stream::read::Decoder::new(bytes)?)
    })
}

fn to_csv<T: Serialize>(records: &[T], style: csv::QuoteStyle) -> anyhow::Result<Vec<u8>> {
    let mut writer = csv::WriterBuilder::new().quote_style(style).from_writer(Vec::new());
    records.iter().try_for_each(|record| writer.serialize(record))?;
    writer.into_inner().context("writing to memory")
}

fn by_hand_csv<T: Summed + DeserializeOwned>(file: impl Read) -> anyhow::Result<(u64, u64)> {
    let mut run = (0, 0_u64);
    for record in csv::Reader::from_reader(file).deserialize::<T>() {
        run = (run.0 + 1, run.1.wrapping_add(record?.part()));
    }
    Ok(run)
}

fn by_hand_json<T: Summed + DeserializeOwned>(mut file: &[u8]) -> anyhow::Result<(u64, u64)> {
    let (mut run, mut line) = ((0, 0_u64), Vec::new());
    while file.read_until(b'\n', &mut line)? > 0 {
        let record: T = serde_json::from_slice(&line)?;
        run = (run.0 + 1, run.1.wrapping_add(record.part()));
        line.clear();
    }
    Ok(run)
}

/// Reads `file` by `source` and by hand, in turns. `content` is what it holds, decompressed.
fn contest<F: Format<Record: Summed>>(
    options: &Options,
    title: &str,
    content: &[u8],
    source: FileSource<F>,
    file: &[u8],
    by_hand: impl Fn(&[u8]) -> anyhow::Result<(u64, u64)>,
) -> anyhow::Result<()> {
    let source = source.unsplittable();
    let (mut ours, mut theirs, mut rows) = (Vec::new(), Vec::new(), 0);
    for _ in 0..options.runs {
        let run = timed(&mut ours, || read(&source, file))?;
        let reference = timed(&mut theirs, || by_hand(file))?;
        ensure!(run == reference, "{title}: {run:?} records and sum, by hand {reference:?}");
        rows = run.0;
    }
    let megabytes = content.len() as f64 / 1e6;
    let speed = |times: &[f64]| Spread::of(times.iter().map(|time| megabytes / time));
    let ratio = Spread::of(ours.iter().zip(&theirs).map(|(ours, theirs)| theirs / ours));
    let ns = Spread::of(ours.iter().map(|time| time * 1e9 / rows as f64));
    println!("  {title:12} {:.0} MB/s, {ns:.0} ns/record", speed(&ours));
    println!("  {:12} {:.0} MB/s; we are {ratio:.2} times as fast", "by hand", speed(&theirs));
    Ok(())
}

/// Appends how many seconds `work` takes, without those in which others had the core.
fn timed<R>(times: &mut Vec<f64>, work: impl FnOnce() -> R) -> R {
    let (began, waited_before) = (Instant::now(), waited());
    let result = work();
    let others = waited().saturating_sub(waited_before);
    times.push(began.elapsed().saturating_sub(others).as_secs_f64());
    result
}

/// Adds up what a reader hands on.
struct Sum(u64, u64);

impl<T: Summed> SourceOutput<T> for Sum {
    #[inline]
    fn emit(&mut self, _split: u32, _position: u64, _event_time_ms: i64, value: T) {
        self.0 += 1;
        self.1 = self.1.wrapping_add(value.part());
    }

    fn on_split(&mut self, _event: SplitEvent) {}
}

/// Reads `file` as the only file there is.
fn read<F: Format<Record: Summed>>(
    source: &FileSource<F>,
    file: &[u8],
) -> anyhow::Result<(u64, u64)> {
    let key_group_count = KeyGroupCount::new(128).context("within the limits")?;
    let place = TaskPlace { chain_index: 0, task_index: 0, parallelism: 1, key_group_count };
    let env = TaskEnv::new(place);
    let ctx = OperatorContext::new(&env, "files", 0, i64::MIN);
    let mut reader = source.open(&ctx)?;
    let mut sum = Sum(0, 0);
    loop {
        env.set_budget(256);
        let status = reader.poll(&ctx, &mut sum);
        if let Some(error) = env.take_failure() {
            return Err(error.into());
        }
        if status == SourceStatus::Ended {
            return Ok((sum.0, sum.1));
        }
        let ops = std::mem::take(&mut env.requests.borrow_mut().files);
        for op in ops {
            reader.on_file_done(answer(op, file), &ctx);
        }
    }
}

fn answer(op: FileOp, file: &[u8]) -> FileDone {
    let id = op.id();
    let answer = match op {
        FileOp::List { pattern, .. } => FileAnswer::Listed {
            files: vec![FileEntry {
                path: pattern.into(),
                size_bytes: file.len() as u64,
                modified: std::time::SystemTime::UNIX_EPOCH,
            }],
        },
        FileOp::Open { .. } => FileAnswer::Opened { size_bytes: file.len() as u64 },
        FileOp::Read { offset, len, .. } => {
            let rest = &file[offset as usize..];
            FileAnswer::Read { bytes: rest[..len.min(rest.len())].to_vec() }
        }
        _ => FileAnswer::Closed,
    };
    FileDone { op: id, result: Ok(answer) }
}
