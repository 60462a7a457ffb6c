//! Whether one blocked channel slows the others down.
//!
//! ```text
//! shard 0: source 0   ═╗   one ring, 256 channels   ╔═► sink 0   takes nothing while it is blocked
//!          source 1   ═╬════════════════════════════╬═► sink 1
//!          …           ║                            ║   …
//!          source 255 ═╝                            ╚═► sink 255
//! ```
//!
//! In every run the rate of channels 1 to 255 is measured twice: while sink 0 takes what comes, and
//! while it is not ready for anything. Then the job is drained by SIGTERM, and must end. The exit
//! code says whether the others keep 95 % of their throughput.
//!
//! `cargo run --release -p millstream-bench --bin blocked_channel [-- --channels 256 --runs 5]`

#![expect(clippy::print_stdout, reason = "a report is for reading")]

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use millstream::data::key_group::KeyGroupCount;
use millstream::exchange::outputs::Outputs;
use millstream::graph::Facts;
use millstream::graph::plan::{
    ChannelId, ChannelPlan, Deal, InputPlan, OutputPlan, Partitioner, TaskPlan,
};
use millstream::operator::Stage;
use millstream::operator::pass::Pass;
use millstream::prelude::*;
use millstream::shard::program::{Program, TaskFactory};
use millstream::task::ChainTask;
use millstream::task::channel_feed::ChannelFeed;
use millstream::task::decode::Single;
use millstream::task::end::NoOutput;
use millstream::task::source_feed::SourceFeed;
use millstream_bench::contest::Spread;
use millstream_bench::{process, stopwatch};

/// Measures what a blocked channel costs the others.
#[derive(Debug, Clone, Copy, Parser)]
struct Options {
    /// Channels from shard 0 to shard 1.
    #[arg(long, default_value_t = 256)]
    channels: usize,
    /// How often.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Milliseconds of each measurement.
    #[arg(long, default_value_t = 1_000)]
    window_ms: u64,
}

/// How long sinks get used to it, before a measurement.
const SETTLE: Duration = Duration::from_millis(300);

/// What the sinks share with the thread that measures.
#[derive(Debug, Default)]
struct Shared {
    is_blocked: AtomicBool,
    /// Records that sink 0 took, and that the others took.
    taken: [AtomicU64; 2],
}

impl Shared {
    fn taken(&self) -> [u64; 2] {
        [0, 1].map(|index| self.taken[index].load(Ordering::Relaxed))
    }
}

/// Counts. The first of them can be blocked.
#[derive(Clone)]
struct Gated {
    shared: Arc<Shared>,
    is_first: bool,
    rows: u64,
}

impl Operator for Gated {
    type In = [u64; 8];
    type Out = Nothing;

    fn facts(&self) -> Facts {
        Facts::stateless()
    }

    fn on_row(
        &mut self,
        _row: Row<[u64; 8]>,
        _ctx: &OperatorContext<'_>,
        _out: &mut impl Output<Nothing>,
    ) {
        self.rows += 1;
    }

    fn on_batch_end(
        &mut self,
        _ctx: &OperatorContext<'_>,
        _out: &mut impl Output<Nothing>,
    ) -> Option<i64> {
        let rows = std::mem::take(&mut self.rows);
        self.shared.taken[usize::from(!self.is_first)].fetch_add(rows, Ordering::Relaxed);
        None
    }

    fn is_ready(&self) -> bool {
        !(self.is_first && self.shared.is_blocked.load(Ordering::Relaxed))
    }
}

/// Records per second of sink 0, and of the others together.
fn rates(shared: &Shared, window: Duration) -> [f64; 2] {
    std::thread::sleep(SETTLE);
    let (before, begin) = (shared.taken(), Instant::now());
    std::thread::sleep(window);
    let (after, seconds) = (shared.taken(), begin.elapsed().as_secs_f64());
    [0, 1].map(|index| (after[index] - before[index]) as f64 / seconds)
}

/// Rates while sink 0 is open and while it is blocked; then drains the job.
fn measure(shared: &Shared, window: Duration) -> [[f64; 2]; 2] {
    let open = rates(shared, window);
    shared.is_blocked.store(true, Ordering::Relaxed);
    let blocked = rates(shared, window);
    shared.is_blocked.store(false, Ordering::Relaxed);
    let pid = std::process::id().to_string();
    let killed = std::process::Command::new("kill").args(["-TERM", &pid]).status();
    assert!(killed.is_ok_and(|status| status.success()), "kill does not run: the job cannot end");
    [open, blocked]
}

/// A job cannot have a source for every channel here, so the tasks are wired by hand: every chain
/// reads source 0.
fn program(channel_count: usize, shared: &Arc<Shared>) -> Program {
    let key_group_count = KeyGroupCount::new(1024).expect("in range");
    let plan = |chain_index: usize, task_index| TaskPlan {
        chain_index: chain_index as u16,
        name: format!("chain {chain_index}"),
        uid: format!("chain {chain_index}"),
        task_index,
        parallelism: 2,
        key_group_count,
        is_keyed: false,
        source_index: (task_index == 0).then_some(0),
        inputs: Vec::new(),
        outputs: Vec::new(),
    };
    let channel = |index: usize, peer_shard| {
        let deal = Some(Deal::KeyGroup);
        vec![ChannelPlan { channel: ChannelId(index as u32), peer_shard, deal }]
    };
    let source = |index: usize| {
        let partitioner = Partitioner::Forward;
        let output = OutputPlan {
            operator: "numbers".to_string(),
            side: None,
            partitioner,
            to_uid: format!("chain {}", channel_count + index),
            to_input: 0,
            channels: channel(index, 1),
        };
        TaskPlan { outputs: vec![output], ..plan(index, 0) }
    };
    let sink = |index: usize| {
        let input = InputPlan { channels: channel(index, 0) };
        TaskPlan { inputs: vec![input], ..plan(channel_count + index, 1) }
    };
    let make_source: TaskFactory = Arc::new(|plan| {
        let numbers = GeneratorSource::new(u64::MAX, |n| [n; 8]);
        let feed = SourceFeed::new(numbers, "numbers", "numbers", 0);
        let end = Outputs::<[u64; 8]>::new(&plan.outputs, 0, plan.task_index, plan.key_group_count);
        Ok(Box::new(ChainTask::new(plan, feed, Pass::default(), end, |_, _| Vec::new())))
    });
    let make_sink = |index: usize| -> TaskFactory {
        let shared = Arc::clone(shared);
        Arc::new(move |plan| {
            let feed = ChannelFeed::new(&plan, Single::<[u64; 8]>::default());
            let shared = Arc::clone(&shared);
            let gated = Stage::new(Gated { shared, is_first: index == 0, rows: 0 }, "sink", "sink");
            Ok(Box::new(ChainTask::new(plan, feed, gated, NoOutput, |_, _| Vec::new())))
        })
    };
    let sources = std::iter::repeat_n(make_source, channel_count);
    Program {
        name: "blocked channel".to_string(),
        plans: vec![
            (0..channel_count).map(source).collect(),
            (0..channel_count).map(sink).collect(),
        ],
        factories: sources.chain((0..channel_count).map(make_sink)).collect(),
        source_names: vec!["numbers".to_string()],
        uids: Vec::new(),
    }
}

fn run(options: Options) -> Result<[[f64; 2]; 2]> {
    let shared = Arc::new(Shared::default());
    let program = program(options.channels, &shared);
    std::thread::scope(|scope| {
        let shared = &shared;
        let window = Duration::from_millis(options.window_ms);
        let rates = scope.spawn(move || measure(shared, window));
        let report = millstream::runtime::node::run(&program, &stopwatch::spinning(), true)?;
        let rates = rates.join().expect("it only measures");
        let frames: u64 = report.shards.iter().map(|shard| shard.frame_bytes).sum();
        println!(
            "  open {:6.2} M/s, blocked {:6.2} M/s, ratio {:.3}; sink 0: {:.0} → {:.0}/s; frame \
             buffers {} MiB, resident {:.0} MiB",
            rates[0][1] / 1e6,
            rates[1][1] / 1e6,
            rates[1][1] / rates[0][1],
            rates[0][0],
            rates[1][0],
            frames >> 20,
            process::resident_mib(),
        );
        Ok(rates)
    })
}

fn main() -> anyhow::Result<ExitCode> {
    let options = Options::parse();
    println!("{} channels, 64-byte records, both shards spinning", options.channels);
    let mut ratios = Vec::new();
    for _ in 0..options.runs {
        let [open, blocked] = run(options)?;
        assert!(blocked[0] == 0.0, "the blocked sink took records");
        ratios.push(blocked[1] / open[1]);
    }
    let ratio = Spread::of(ratios);
    let is_met = 0.95 <= ratio.median;
    let met = if is_met { "met" } else { "NOT MET" };
    println!("the others keep {ratio:.3} of their throughput; gate at least 0.95: {met}");
    Ok(if is_met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
