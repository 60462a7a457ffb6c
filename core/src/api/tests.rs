//! Jobs written with the builder, run in the simulator.

use std::time::Duration;

use millstream_storage::io::FileDone;

use crate::api::windowed::AggregatingWindows;
use crate::api::{AnyStream, Job, JobArgs, JobCommand, RunArgs, SharedStream, SimulateArgs};
use crate::connector::{GeneratorSource, StdoutSink};
use crate::data::row::Row;
use crate::error::Error;
use crate::graph::{ExplainFormat, Facts};
use crate::operator::co::CoMap;
use crate::operator::join::{JoinContext, ProcessJoinFunction, TimeBound};
use crate::operator::process::{
    FiredTimer, KeyedBroadcastContext, KeyedBroadcastProcessFunction, KeyedCoProcessFunction,
    KeyedContext, KeyedProcessFunction, OpenContext,
};
use crate::operator::side_output::OutputTag;
use crate::operator::sink::Nothing;
use crate::operator::window::Reduce;
use crate::operator::{Operator, OperatorContext, Output};
use crate::sim::world::{SimConfig, run};
use crate::state::spec::StateSpec;
use crate::state::value::ValueState;
use crate::time::evictor::KeepCount;
use crate::time::strategy::Monotonic;
use crate::time::trigger::{
    ContinuousProcessingTime, Count, EventTime, ProcessingTimeout, Purging,
};
use crate::time::window::{Cumulative, Global, Session, Sliding, Tumbling, Window};

/// Prints `task:record` for every record.
#[derive(Clone, Default)]
struct Print<T>(std::marker::PhantomData<fn(T)>);

impl<T: std::fmt::Display + Clone + 'static> Operator for Print<T> {
    type In = T;
    type Out = Nothing;

    fn on_row(&mut self, row: Row<T>, ctx: &OperatorContext<'_>, _: &mut impl Output<Nothing>) {
        ctx.print(format!("{}:{}\n", ctx.env().task.task_index, row.value).into_bytes());
    }

    fn on_file_done(&mut self, _: FileDone, _: &OperatorContext<'_>, _: &mut impl Output<Nothing>) {
    }
}

fn print<T>() -> Print<T> {
    Print(std::marker::PhantomData)
}

/// What the job prints on `shard_count` shards, sorted by record: `(task, record)`.
fn output(job: &Job, shard_count: u32) -> Vec<(u32, String)> {
    let plan = job.plan(shard_count, 128).expect("no mistakes");
    let report = run(&plan.program, &SimConfig::new(7));
    report.outcome.expect("runs to its end");
    let text = String::from_utf8(report.stdout).expect("printed above");
    let mut lines: Vec<(u32, String)> = text
        .lines()
        .map(|line| line.split_once(':').expect("printed above"))
        .map(|(task, record)| (task.parse().expect("a number"), record.to_string()))
        .collect();
    lines.sort_by(|a, b| (a.1.len(), &a.1, a.0).cmp(&(b.1.len(), &b.1, b.0)));
    lines
}

/// Checks what comes out on any number of shards, wherever it comes out.
fn check(write: impl Fn(&Job), expected: &str) {
    for shard_count in [1, 2, 3] {
        let job = Job::new("test");
        write(&job);
        let records: Vec<String> =
            output(&job, shard_count).into_iter().map(|(_, record)| record).collect();
        assert_eq!(records.join(" "), expected, "on {shard_count} shards");
    }
}

/// The numbers below `count`.
fn numbers(job: &Job, count: u64) -> SharedStream<'_, u64> {
    job.source("numbers", GeneratorSource::new(count, |n| n)).shared()
}

#[test]
fn stateless_operators() {
    check(
        |job| {
            let source = job.source("numbers", GeneratorSource::new(10, |n| n));
            source
                .filter(|n| n % 2 == 1)
                .map(|n| n * 10)
                .flat_map(|n| [n, n + 1])
                .inspect(|n| assert!(n % 10 < 2))
                .sink("print", print());
        },
        "10 11 30 31 50 51 70 71 90 91",
    );
}

#[test]
fn a_shared_stream_has_several_consumers() {
    check(
        |job| {
            let numbers = numbers(job, 6);
            numbers.filter(|n| n % 2 == 0).sink("even", print());
            numbers.filter(|n| n % 2 == 1).map(|n| n * 100).sink("odd", print());
        },
        "0 2 4 100 300 500",
    );
}

#[test]
fn united_streams() {
    check(
        |job| {
            let low = numbers(job, 3).map(|n| n);
            let high = job.source("high", GeneratorSource::new(3, |n| n + 10));
            low.union(high).union(numbers_named(job, "more", 2)).sink("print", print());
        },
        "0 0 1 1 2 10 11 12",
    );
}

fn numbers_named<'j>(job: &'j Job, name: &str, count: u64) -> SharedStream<'j, u64> {
    job.source(name, GeneratorSource::new(count, |n| n)).shared()
}

#[test]
fn connected_streams() {
    check(
        |job| {
            let words = job.source("words", GeneratorSource::new(2, |n| format!("w{n}")));
            let lengths = numbers(job, 3);
            lengths.connect(words).map(|n| format!("n{n}"), |word| word).sink("print", print());
        },
        "n0 n1 n2 w0 w1",
    );
    check(
        |job| {
            let words = job.source("words", GeneratorSource::new(1, |n| format!("w{n}")));
            words
                .connect(numbers(job, 2))
                .flat_map(|word| vec![word], |n| vec![format!("n{n}"); n as usize + 1])
                .sink("print", print());
        },
        "n0 n1 n1 w0",
    );
}

#[test]
fn records_read_in_place() {
    check(
        |job| {
            numbers(job, 4).map_view(|n| n.to_native() + 10).sink("print", print());
        },
        "10 11 12 13",
    );
    check(
        |job| {
            let words = job.source("words", GeneratorSource::new(12, |n| format!("word {n}")));
            words.rebalance().filter_view(|w| w.ends_with('1')).sink("print", print());
        },
        "word 1 word 11",
    );
    check(
        |job| {
            let keyed = numbers(job, 6).key_by(|n| n % 2).filter_view(|n| n.to_native() > 3);
            keyed.name("large").reduce(|a, b| a + b).sink("print", print());
        },
        "4 5",
    );
    check(
        |job| {
            let keyed = numbers(job, 3).key_by(|n| *n);
            let tens = keyed.map_view(|n| n.to_native() * 10, |tens| tens / 10);
            tens.reduce(|a, b| a + b).sink("print", print());
        },
        "0 10 20",
    );
}

#[test]
fn a_panic_in_a_view_names_its_operator_and_its_record() {
    let job = Job::new("test");
    let peek = |n: &rkyv::Archived<u64>| {
        assert!(n.to_native() != 4, "it is four");
        n.to_native()
    };
    let viewed = job.source("numbers", GeneratorSource::new(6, |n| n)).rebalance().map_view(peek);
    viewed.name("peek").map(|n| n).name("next").sink("none", print());
    for shard_count in [1, 2] {
        let report = job.simulate(shard_count, &SimConfig::new(3)).expect("no mistakes");
        let error = report.outcome.expect_err("it panics").to_string();
        let expected = "operator peek panicked at source numbers, split 0, position 4: it is four";
        assert!(error.starts_with(expected), "{error}");
    }
}

const ODD: OutputTag<u64> = OutputTag::new("odd");

/// Puts odd numbers aside.
#[derive(Clone)]
struct Split;

impl Operator for Split {
    type In = u64;
    type Out = u64;

    fn on_row(&mut self, row: Row<u64>, ctx: &OperatorContext<'_>, out: &mut impl Output<u64>) {
        if row.value % 2 == 1 {
            ctx.side_output_row(ODD, row);
        } else {
            out.emit(row);
        }
    }
}

#[test]
fn side_outputs() {
    check(
        |job| {
            let even =
                job.source("numbers", GeneratorSource::new(6, |n| n)).operator("split", Split);
            let odd = even.side_output(ODD);
            odd.map(|n| n * 10).sink("odd", print());
            odd.map(|n| n * 100).sink("odd again", print());
            even.sink("even", print());
        },
        "0 2 4 10 30 50 100 300 500",
    );
}

/// Puts what it takes aside in another type, and hands it on.
#[derive(Clone)]
struct Note<T>(OutputTag<T>, fn(u64) -> T);

impl<T: 'static> Operator for Note<T> {
    type In = u64;
    type Out = u64;

    fn on_row(&mut self, row: Row<u64>, ctx: &OperatorContext<'_>, out: &mut impl Output<u64>) {
        ctx.side_output_row(self.0, row.with((self.1)(row.value)));
        out.emit(row);
    }
}

/// They run in one task, behind a view.
#[test]
fn fused_operators_put_rows_into_side_outputs_of_one_name() {
    const NUMBERS: OutputTag<u64> = OutputTag::new("aside");
    const WORDS: OutputTag<String> = OutputTag::new("aside");
    check(
        |job| {
            let viewed = numbers(job, 2).map_view(|n| n.to_native() + 10);
            let first = viewed.operator("first", Note(NUMBERS, |n| n * 10));
            first.side_output(NUMBERS).sink("tens", print());
            let second = first.operator("second", Note(WORDS, |n| format!("word {n}")));
            second.side_output(WORDS).sink("words", print());
            second.sink("print", print());
        },
        "10 11 100 110 word 10 word 11",
    );
}

/// The plan cannot see what an operator's code writes.
#[test]
fn a_side_output_read_with_another_type_stops_the_job() {
    const WORDS: OutputTag<String> = OutputTag::new("odd");
    let job = Job::new("test");
    let even = job.source("numbers", GeneratorSource::new(6, |n| n)).operator("split", Split);
    even.side_output(WORDS).sink("words", print());
    even.discard();
    let plan = job.plan(1, 128).expect("nothing that the plan can see");
    let error = run(&plan.program, &SimConfig::new(7)).outcome.expect_err("types differ").chain();
    let expected = "side output \"odd\" of split is written with records u64 and read with records \
                    alloc::string::String: use one tag for both ends";
    assert!(error.contains(expected), "{error}");
}

#[test]
fn a_discarded_stream_keeps_its_side_outputs() {
    check(
        |job| {
            let even =
                job.source("numbers", GeneratorSource::new(6, |n| n)).operator("split", Split);
            even.side_output(ODD).sink("odd", print());
            even.discard();
        },
        "1 3 5",
    );
}

/// Registers an event-time timer for every record.
#[derive(Clone)]
struct Wait;

impl KeyedProcessFunction<u64, u64> for Wait {
    type Out = u64;

    fn process(&mut self, n: u64, ctx: &mut KeyedContext<'_, u64>, _: &mut impl Output<u64>) {
        ctx.register_event_timer(n as i64);
    }

    fn on_timer(
        &mut self,
        timer: FiredTimer,
        _: &mut KeyedContext<'_, u64>,
        out: &mut impl Output<u64>,
    ) {
        out.collect(timer.time_ms as u64);
    }
}

#[test]
fn an_event_time_timer_that_would_never_fire_stops_the_job() {
    let job = Job::new("test");
    let numbers = job.source("numbers", GeneratorSource::new(3, |n| n));
    numbers.key_by(|n| *n).process("wait", Wait).sink("print", print());
    let plan = job.plan(1, 128).expect("nothing that the plan can see");
    let error = run(&plan.program, &SimConfig::new(7)).outcome.expect_err("it waits").chain();
    let expected = "wait: an event-time timer waits for watermarks, and rows reach it without any \
                    from source \"numbers\": call .watermark(..) in between";
    assert!(error.contains(expected), "{error}");
    check(
        |job| {
            let numbers = job.source("numbers", GeneratorSource::new(3, |n| n));
            let timed = numbers.watermark(Monotonic::new(), |n| *n as i64);
            timed.key_by(|n| *n).process("wait", Wait).sink("print", print());
        },
        "0 1 2",
    );
}

/// Counts records per key; with a second input, says which record came from which.
#[derive(Clone, Default)]
struct Tell {
    seen: ValueState<u64>,
}

impl KeyedProcessFunction<u64, u64> for Tell {
    type Out = String;

    fn open(&mut self, ctx: &mut OpenContext<'_>) {
        self.seen = ctx.value("seen", StateSpec::kept_until_cleared());
    }

    fn process(&mut self, _: u64, ctx: &mut KeyedContext<'_, u64>, out: &mut impl Output<String>) {
        let count = self.seen.take(ctx).unwrap_or(0) + 1;
        self.seen.set(ctx, count);
        if count == 10 {
            out.collect(format!("{}:{count}", ctx.key()));
        }
    }
}

impl KeyedCoProcessFunction<u64, u64, String> for Tell {
    type Out = String;

    fn process_left(
        &mut self,
        value: u64,
        ctx: &mut KeyedContext<'_, u64>,
        out: &mut impl Output<String>,
    ) {
        out.collect(format!("{}<{value}", ctx.key()));
    }

    fn process_right(
        &mut self,
        value: String,
        ctx: &mut KeyedContext<'_, u64>,
        out: &mut impl Output<String>,
    ) {
        out.collect(format!("{}>{value}", ctx.key()));
    }
}

impl KeyedBroadcastProcessFunction<u64, u64, String> for Tell {
    type Out = String;

    fn process(
        &mut self,
        value: u64,
        ctx: &mut KeyedContext<'_, u64>,
        out: &mut impl Output<String>,
    ) {
        out.collect(format!("{}<{value}", ctx.key()));
    }

    fn process_broadcast(
        &mut self,
        value: String,
        ctx: &mut KeyedBroadcastContext<'_>,
        out: &mut impl Output<String>,
    ) {
        if ctx.task_index() == 0 {
            out.collect(value);
        }
    }
}

#[test]
fn process_functions_with_state_per_key() {
    check(
        |job| {
            let keyed = numbers(job, 30).key_by(|n| n % 3);
            keyed.process("count", Tell::default()).sink("print", print());
        },
        "0:10 1:10 2:10",
    );
}

#[test]
fn process_functions_with_two_inputs() {
    check(
        |job| {
            let words = job.source("words", GeneratorSource::new(2, |n| n.to_string()));
            let words = words.key_by(|word| word.len() as u64);
            let keyed = numbers(job, 4).key_by(|n| n % 2);
            keyed.connect(words).process("both", Tell::default()).sink("print", print());
        },
        "0<0 0<2 1<1 1<3 1>0 1>1",
    );
    check(
        |job| {
            let rules = job.source("rules", GeneratorSource::new(2, |n| format!("rule {n}")));
            let keyed = numbers(job, 4).key_by(|n| n % 2);
            let all = keyed.connect_broadcast(rules).process("all", Tell::default());
            all.sink("print", print());
        },
        "0<0 0<2 1<1 1<3 rule 0 rule 1",
    );
}

/// The tasks that printed each record of a job on three shards.
fn tasks(write: impl Fn(&Job)) -> Vec<(u32, String)> {
    let job = Job::new("test");
    write(&job);
    output(&job, 3)
}

#[test]
fn all_records_of_a_key_meet() {
    let tasks = tasks(|job| {
        let keyed = numbers(job, 300).key_by(|n| n % 10);
        keyed.operator("key", Key(10)).sink("print", print());
    });
    assert_eq!(tasks.len(), 300);
    let mut pairs: Vec<_> = tasks;
    pairs.dedup();
    assert_eq!(pairs.len(), 10, "every key is seen by one task: {pairs:?}");
    assert!(pairs.iter().any(|(task, _)| *task != pairs[0].0), "and not all by the same");
}

/// Gives `n % modulus`.
#[derive(Clone)]
struct Key(u64);

impl Operator for Key {
    type In = u64;
    type Out = u64;

    fn facts(&self) -> Facts {
        Facts { is_keyed: true, ..Facts::stateless() }
    }

    fn on_row(&mut self, row: Row<u64>, _: &OperatorContext<'_>, out: &mut impl Output<u64>) {
        let modulus = self.0;
        out.emit(row.map(|n| n % modulus));
    }
}

#[test]
fn rolling_aggregations() {
    check(
        |job| {
            let keyed = numbers(job, 6).map(|n| n + 1).key_by(|n| n % 2);
            // Each task sees the records of a key in any order, the last result is the whole.
            keyed.reduce(|a, b| a + b).filter(|n| [9, 12].contains(n)).sink("print", print());
        },
        "9 12",
    );
}

#[test]
fn a_keyed_stream_is_a_stream() {
    check(
        |job| {
            let keyed = || numbers_named(job, "numbers", 6).key_by(|n| n % 2);
            keyed().map(|n| n * 10).sink("print", print());
        },
        "0 10 20 30 40 50",
    );
    check(
        |job| {
            let even = numbers(job, 6).filter(|n| n % 2 == 0).key_by(|n| *n);
            even.union(numbers_named(job, "more", 2)).sink("print", print());
        },
        "0 0 1 2 4",
    );
}

#[test]
fn a_shared_keyed_stream_needs_one_exchange() {
    let job = Job::new("test");
    let shared = numbers(&job, 300).key_by(|n| n % 10).shared();
    shared.stream().operator("all", Key(10)).sink("print all", print());
    shared.stream().operator("narrow", Key(10)).parallelism(2).sink("print narrow", print());
    let both = CoMap::new(|n: u64| n, |n: u64| n);
    shared.stream().connect(shared.stream()).operator("both", both).discard();
    let plan = job.plan(3, 128).expect("no mistakes");
    let partitioners: Vec<String> =
        plan.graph.edges.iter().map(|edge| edge.partitioner.to_string()).collect();
    assert_eq!(partitioners, ["forward", "hash", "forward", "hash", "forward", "forward"]);
    let mut pairs = output(&job, 3);
    assert_eq!(pairs.len(), 600);
    pairs.dedup();
    assert!(pairs.len() <= 20, "every key is seen by one task of each operator: {pairs:?}");
}

#[test]
fn explaining_a_job_that_cannot_run_says_so_with_its_exit_code() {
    let run = RunArgs { shards: Some(1), ..RunArgs::default() };
    let command = Some(JobCommand::Explain { format: ExplainFormat::Dot });
    let args = JobArgs { run, command };
    let job = Job::new("test");
    assert!(matches!(job.execute(&args), Err(Error::Plan { .. })), "it has no source");
    numbers(&job, 1).discard();
    assert!(matches!(job.execute(&args), Ok(None)));
}

#[test]
fn cheap_verbs() {
    // Records of a key come in any order; the last result is the whole.
    check(
        |job| {
            let sums = numbers(job, 6).key_by(|n| n % 2).sum(|n| n * 10 + 1);
            sums.filter(|sum| sum % 10 == 3).sink("print", print());
        },
        "63 93",
    );
    check(
        |job| {
            let keyed = numbers(job, 6).shuffle().key_by(|_| ()).shared();
            let best = keyed.stream().max().filter(|n| *n == 5);
            let least = keyed.stream().min().filter(|n| *n == 0);
            let farthest = keyed.stream().max_by(|n| n.abs_diff(2)).filter(|n| *n == 5).map(|_| 15);
            let nearest = keyed.stream().min_by(|n| n.abs_diff(2)).filter(|n| *n == 2);
            let all = best.union(least).union(farthest).union(nearest);
            all.key_by(|n| *n).sum(|_| 1).filter(|count| *count == 1).sink("print", print());
        },
        "1 1 1 1",
    );
    check(
        |job| {
            let windows = timed(job, "numbers", 20).window_all(Tumbling::new(TEN_MS));
            windows.sum(|n| *n).sink("print", print());
        },
        "45 145",
    );
}

const TEN_MS: Duration = Duration::from_millis(10);

#[test]
fn windows_of_a_number_of_records() {
    check(
        |job| {
            let keyed = timed(job, "numbers", 10).key_by(|n| n % 2);
            keyed.count_window(2).reduce(|_, _| 2).sink("print", print());
        },
        "2 2 2 2",
    );
    check(
        |job| {
            let ones = timed(job, "numbers", 7).map(|_| 1_u64).key_by(|_| 0_u64);
            ones.count_window_sliding(3, 2).reduce(|a, b| a + b).sink("print", print());
        },
        "2 3 3",
    );
    check(
        |job| {
            let ones = timed(job, "numbers", 11).map(|_| 1_u64);
            ones.count_window_all(5).reduce(|a, b| a + b).sink("print", print());
        },
        "5 5",
    );
}

/// Numbers 0 to 9 in two windows of five, by each way to say what windows are.
#[test]
fn verbs_of_windows() {
    let five_ms = Duration::from_millis(5);
    macro_rules! verbs {
        ($windows:ident => $cut:expr) => {
            check(
                |job| {
                    let keyed = timed(job, "numbers", 10).key_by(one_key).shared();
                    let $windows = |width| keyed.stream().window(Tumbling::new(width));
                    // 0 7 3 10 6, 2 9 5 1 8
                    let mixed = |n: &u64| n * 7 % 11;
                    $cut.sum(|n| *n).name("sum").sink("sums", print());
                    let plus = |hundreds: u64| move |n: u64| n + 100 * hundreds;
                    $cut.min().name("min").map(plus(1)).sink("least", print());
                    $cut.max().name("max").map(plus(2)).sink("greatest", print());
                    $cut.min_by(mixed).name("min_by").map(plus(3)).sink("least-mixed", print());
                    $cut.max_by(mixed).name("max_by").map(plus(4)).sink("greatest-mixed", print());
                },
                "10 35 100 105 204 209 300 308 403 406",
            );
        };
    }
    verbs!(windows => windows(five_ms));
    verbs!(windows => windows(five_ms).trigger(EventTime));
    verbs!(windows => windows(five_ms).evictor(KeepCount::of(9)));
}

#[test]
fn lateness_may_be_said_before_and_after_the_trigger() {
    let late = OutputTag::new("late");
    check(
        |job| {
            let keyed = one_late(job, "numbers").key_by(one_key);
            let windows = keyed.window(Tumbling::new(TEN_MS)).trigger(EventTime);
            let sums = windows.allowed_lateness(TEN_MS).late_output(late).reduce(|a, b| a + b);
            sums.side_output(late).sink("late", print());
            sums.sink("print", print());
        },
        "0 4999",
    );
    check(
        |job| {
            let keyed = one_late(job, "numbers").key_by(one_key);
            let windows = keyed.window(Tumbling::new(TEN_MS)).evictor(KeepCount::of(1));
            let windows = windows.trigger(EventTime).allowed_lateness(Duration::from_mins(1));
            windows.reduce(|a, b| a + b).sink("print", print());
        },
        "0 4999",
    );
}

#[test]
fn mistakes_of_triggers_and_evictors_are_found_together() {
    let job = Job::new("test");
    let keyed = || numbers(&job, 1).key_by(one_key);
    keyed().window(Global).process(|_: &u64, _: &Window, _: &[u64]| 0).discard();
    keyed().count_window(0).reduce(|a, _| a).discard();
    keyed().count_window_sliding(0, 1).reduce(|a, _| a).discard();
    let every = ContinuousProcessingTime::of(Duration::ZERO);
    keyed().window(Global).trigger(every).reduce(|a, _| a).discard();
    let timeout = ProcessingTimeout::of(Count::of(1), Duration::ZERO);
    keyed().window(Global).trigger(timeout).reduce(|a, _| a).discard();
    let Err(Error::Plan { problems }) = job.plan(1, 8) else { panic!("there are mistakes") };
    let of_windows: Vec<&str> =
        problems.iter().filter_map(|problem| problem.split_once(": ")).map(|p| p.1).collect();
    assert_eq!(
        of_windows[of_windows.len() - 5..],
        [
            "its window has no end: say when it fires with .trigger(..)",
            "its trigger cannot fire at every 0th record: use 1 or more",
            "its evictor keeps no record: let it keep 1 or more",
            "the interval of its trigger must be at least 1 ms",
            "the timeout of its trigger must be at least 1 ms",
        ]
    );
}

#[test]
fn global_windows_are_kept_for_ever_unless_they_time_out() {
    let warnings = |write: &dyn Fn(&Job)| {
        let job = Job::new("test");
        write(&job);
        job.plan(1, 8).expect("no mistakes").warnings
    };
    let kept = warnings(&|job| {
        numbers(job, 1).key_by(one_key).count_window(3).reduce(|a, _| a).name("w").discard();
    });
    assert_eq!(
        kept,
        ["window \"w\" keeps state \"windows\" for ever, so it grows with every new key: use \
          windows that end, or a trigger that empties them some time after the last record, such as \
          ProcessingTimeout"]
    );
    let timing_out = warnings(&|job| {
        let windows = numbers(job, 1).key_by(one_key).window(Global);
        let count = Purging::of(Count::of(3));
        let windows = windows.trigger(ProcessingTimeout::of(count, Duration::from_secs(5)));
        windows.reduce(|a, _| a).name("w").discard();
    });
    assert!(timing_out.is_empty(), "{timing_out:?}");
}

/// Number `n` at `n` ms, by its remainder.
fn timed<'j>(job: &'j Job, name: &str, count: u64) -> impl AnyStream<'j, Out = u64> {
    let source = job.source(name, GeneratorSource::new(count, |n| n));
    source.watermark(Monotonic::new(), |n| *n as i64)
}

#[test]
fn windows_with_a_trigger_or_an_evictor() {
    check(
        |job| {
            let keyed = timed(job, "numbers", 20).key_by(|n| n % 2);
            let windows = keyed.window(Tumbling::new(Duration::from_millis(10)));
            let label = |key: &u64, window: &Window, records: &[u64]| {
                format!("{key}:{}:{}", window.start_ms, records.len())
            };
            windows.evictor(KeepCount::of(3)).process(label).sink("print", print());
        },
        "0:0:3 1:0:3 0:10:3 1:10:3",
    );
    check(
        |job| {
            let keyed = timed(job, "numbers", 20).key_by(|n| n % 2);
            let fours = keyed.window(Global).trigger(Purging::of(Count::of(4)));
            fours.reduce(u64::max).map(|_| 4).sink("print", print());
        },
        "4 4 4 4",
    );
    check(
        |job| {
            let keyed = timed(job, "numbers", 20).filter(|n| n % 10 < 3).key_by(|_| 0_u64);
            let sessions = keyed.window(Session::new(Duration::from_millis(3)));
            sessions.reduce(|a, b| a + b).sink("print", print());
        },
        "3 33",
    );
}

#[test]
fn joins() {
    let tens = |n: &u64| n / 10;
    check(
        |job| {
            let left = timed(job, "left", 4).key_by(tens);
            let right = timed(job, "right", 4).key_by(tens);
            let near = left.connect(right).interval_join(
                TimeBound::before(Duration::from_millis(1)),
                TimeBound::SAME_TIME,
                |a, b| format!("{a}{b}"),
            );
            near.sink("print", print());
        },
        "00 10 11 21 22 32 33",
    );
    check(
        |job| {
            let left = timed(job, "left", 4).key_by(tens);
            let right = timed(job, "right", 4).filter(|n| n % 2 == 1).key_by(tens);
            let windows = Tumbling::new(Duration::from_millis(2));
            let pairs = left.connect(right).window_join(windows, |a, b| format!("{a}{b}"));
            pairs.sink("print", print());
        },
        "01 11 23 33",
    );
    check(
        |job| {
            let left = timed(job, "left", 4).key_by(tens);
            let right = timed(job, "right", 4).filter(|n| *n == 1).key_by(tens);
            let latest = left.connect(right).temporal_left_join(|a, b: Option<&u64>| {
                format!("{a}{}", b.map_or("-".to_string(), u64::to_string))
            });
            latest.sink("print", print());
        },
        "0- 11 21 31",
    );
    check(
        |job| {
            let left = timed(job, "left", 4).key_by(tens);
            let right = timed(job, "right", 2).key_by(tens);
            let counts = |_: &u64, window: &Window, left: &[u64], right: &[u64]| {
                vec![format!("{}:{}{}", window.start_ms, left.len(), right.len())]
            };
            let windows = Tumbling::new(Duration::from_millis(2));
            left.connect(right).co_group(windows, counts).sink("print", print());
        },
        "0:22 2:20",
    );
}

/// Number 0 at its time, and number 4999 at time 0 too: long behind the watermark.
fn one_late<'j>(job: &'j Job, name: &str) -> impl AnyStream<'j, Out = u64> {
    let source = job.source(name, GeneratorSource::new(5000, |n| n));
    source.watermark(Monotonic::new(), |n| (*n % 4999) as i64).filter(|n| *n % 4999 == 0)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape of a key closure")]
fn one_key(_: &u64) -> u64 {
    0
}

const LATE: OutputTag<u64> = OutputTag::new("late");

#[test]
fn late_records_of_joins() {
    let ten = Duration::from_millis(10);
    let pair = |a: &u64, b: &u64| format!("{a}-{b}");
    check(
        |job| {
            let (left, right) = (one_late(job, "left"), timed(job, "right", 1));
            let joined = left.key_by(one_key).connect(right.key_by(one_key));
            let joined = joined.window_join(Tumbling::new(ten), pair).left_late_output(LATE);
            joined.side_output(LATE).sink("late", print());
            joined.sink("print", print());
        },
        "0-0 4999",
    );
    check(
        |job| {
            let (left, right) = (timed(job, "left", 1), one_late(job, "right"));
            let joined = left.key_by(one_key).connect(right.key_by(one_key));
            let count = |_: &u64, _: &Window, left: &[u64], right: &[u64]| {
                [format!("{}/{}", left.len(), right.len())]
            };
            let joined = joined.co_group(Tumbling::new(ten), count).right_late_output(LATE);
            joined.side_output(LATE).sink("late", print());
            joined.sink("print", print());
        },
        "1/1 4999",
    );
    check(
        |job| {
            let (left, right) = (one_late(job, "left"), timed(job, "right", 1));
            let joined = left.key_by(one_key).connect(right.key_by(one_key));
            let joined = joined.interval_join(TimeBound::SAME_TIME, TimeBound::after(ten), pair);
            let joined = joined.left_late_output(LATE);
            joined.side_output(LATE).sink("late", print());
            joined.sink("print", print());
        },
        "0-0 4999",
    );
    check(
        |job| {
            let (left, right) = (one_late(job, "left"), timed(job, "right", 1));
            let joined = left.key_by(one_key).connect(right.key_by(one_key));
            let joined = joined.temporal_join(|a, b| format!("{a}-{b}"));
            let joined = joined.version_ttl(ten).left_late_output(LATE);
            joined.side_output(LATE).sink("late", print());
            joined.sink("print", print());
        },
        "0-0 4999",
    );
}

#[test]
fn joins_of_windows_with_lateness_a_trigger_or_an_evictor() {
    let ten = Duration::from_millis(10);
    let pair = |a: &u64, b: &u64| format!("{a}-{b}");
    check(
        |job| {
            let (left, right) = (one_late(job, "left"), timed(job, "right", 1));
            let joined = left.key_by(one_key).connect(right.key_by(one_key));
            let joined = joined.window_join(Tumbling::new(ten), pair);
            joined.allowed_lateness(Duration::from_mins(1)).sink("print", print());
        },
        "0-0 0-0 4999-0",
    );
    check(
        |job| {
            let (left, right) = (timed(job, "left", 1), timed(job, "right", 1));
            let joined = left.key_by(one_key).connect(right.key_by(one_key));
            let joined = joined.window_join(Tumbling::new(ten), pair);
            joined.trigger(Purging::of(Count::of(2))).sink("print", print());
        },
        "0-0",
    );
    check(
        |job| {
            let (left, right) = (timed(job, "left", 5), timed(job, "right", 4));
            let joined = left.key_by(one_key).connect(right.key_by(one_key));
            let count = |_: &u64, _: &Window, left: &[u64], right: &[u64]| {
                [format!("{}", left.len() + right.len())]
            };
            let joined = joined.co_group(Tumbling::new(ten), count).evictor(KeepCount::of(3));
            joined.sink("print", print());
        },
        "3",
    );
}

#[test]
fn interval_joins_with_exclusive_bounds() {
    let (before, at) = (TimeBound::before(Duration::from_millis(1)), TimeBound::SAME_TIME);
    let pair = |a: &u64, b: &u64| format!("{a}{b}");
    check(
        |job| {
            let left = timed(job, "left", 4).key_by(one_key);
            let right = timed(job, "right", 4).key_by(one_key);
            let joined = left.connect(right).interval_join(before, at, pair);
            joined.lower_bound_exclusive().sink("print", print());
        },
        "00 11 22 33",
    );
    check(
        |job| {
            let left = timed(job, "left", 4).key_by(one_key);
            let right = timed(job, "right", 4).key_by(one_key);
            let joined = left.connect(right).interval_join(before, at, pair);
            joined.upper_bound_exclusive().sink("print", print());
        },
        "10 21 32",
    );
}

/// Says how far a pair is apart, and puts pairs that are not aside.
#[derive(Clone)]
struct Apart;

impl ProcessJoinFunction<u64, u64> for Apart {
    type Out = String;

    fn process(
        &mut self,
        left: &u64,
        right: &u64,
        ctx: &JoinContext<'_>,
        out: &mut impl Output<String>,
    ) {
        match ctx.left_event_time_ms() - ctx.right_event_time_ms() {
            0 => ctx.operator().side_output(ODD, left * 100),
            ms => out.collect(format!("{left}{right}+{ms}")),
        }
    }
}

#[test]
fn an_interval_join_with_a_function() {
    let (before, at) = (TimeBound::before(Duration::from_millis(1)), TimeBound::SAME_TIME);
    check(
        |job| {
            let left = timed(job, "left", 3).key_by(one_key);
            let right = timed(job, "right", 3).key_by(one_key);
            let joined = left.connect(right).interval_join_process(before, at, "apart", Apart);
            joined.side_output(ODD).sink("odd", print());
            joined.sink("print", print());
        },
        "0 100 200 10+1 21+1",
    );
}

#[test]
fn an_interval_without_bounds_is_as_long_as_event_time() {
    let (before, after) = (TimeBound::before(Duration::MAX), TimeBound::after(Duration::MAX));
    check(
        |job| {
            let left = timed(job, "left", 2).key_by(one_key);
            let right = timed(job, "right", 2).key_by(one_key);
            let pair = |a: &u64, b: &u64| format!("{a}{b}");
            left.connect(right).interval_join(before, after, pair).sink("print", print());
        },
        "00 01 10 11",
    );
}

#[test]
fn bounds_of_an_interval_that_are_swapped() {
    let job = Job::new("test");
    let left = timed(&job, "left", 4).key_by(|n| *n);
    let right = timed(&job, "right", 4).key_by(|n| *n);
    let five = Duration::from_millis(5);
    let (lower, upper) = (TimeBound::after(five), TimeBound::before(five));
    left.connect(right).interval_join(lower, upper, |a, _| *a).discard();
    let Err(Error::Plan { problems }) = job.plan(1, 8) else { panic!("there is a mistake") };
    assert_eq!(
        problems,
        ["interval_join \"interval_join\": from 5ms to -5ms is no interval: swap the bounds"]
    );
}

type Parity = fn(&u64) -> u64;
type Sum = fn(u64, u64) -> u64;
type Label = fn(&u64, &Window, u64) -> String;

/// Sums of the odd and of the even numbers below 30, number `n` at `n` ms.
fn check_windows<W>(windows: W, expected: &str)
where
    W: AggregatingWindows<u64, Parity, Reduce<u64, Sum>, Label> + Copy,
    W::Operator: Operator<Out = String>,
{
    let parity: Parity = |n| n % 2;
    let sum: Sum = |a, b| a + b;
    let label: Label =
        |key, window, sum| format!("{key}:{}..{}:{sum}", window.start_ms, window.end_ms);
    check(
        |job| {
            let numbers = job.source("numbers", GeneratorSource::new(30, |n| n));
            let keyed = numbers.watermark(Monotonic::new(), |n| *n as i64).key_by(parity);
            keyed.window(windows).reduce_with(sum, label).sink("print", print());
        },
        expected,
    );
}

#[test]
fn windows() {
    let ms = Duration::from_millis;
    check_windows(
        Tumbling::new(ms(10)),
        "0:0..10:20 1:0..10:25 0:10..20:70 1:10..20:75 0:20..30:120 1:20..30:125",
    );
    check_windows(
        Sliding::new(ms(20), ms(10)),
        "0:0..20:90 1:0..20:100 0:-10..10:20 0:10..30:190 \
         0:20..40:120 1:-10..10:25 1:10..30:200 1:20..40:125",
    );
    check_windows(
        Cumulative::new(ms(20), ms(10)),
        "0:0..10:20 0:0..20:90 1:0..10:25 1:0..20:100 \
         0:20..30:120 0:20..40:120 1:20..30:125 1:20..40:125",
    );
}

#[test]
fn partitioners() {
    let global = tasks(|job| {
        numbers(job, 9).global().sink("print", print());
    });
    assert!(global.iter().all(|(task, _)| *task == 0), "{global:?}");

    let all = tasks(|job| {
        numbers(job, 2).broadcast().sink("print", print());
    });
    let seen: Vec<_> = all.iter().map(|(task, n)| format!("{task}:{n}")).collect();
    assert_eq!(seen.join(" "), "0:0 1:0 2:0 0:1 1:1 2:1");

    let custom = tasks(|job| {
        numbers(job, 6).partition_by(|n| n + 1).sink("print", print());
    });
    let seen: Vec<_> = custom.iter().map(|(task, n)| format!("{task}:{n}")).collect();
    assert_eq!(seen.join(" "), "1:0 2:1 0:2 1:3 2:4 0:5");

    let one = tasks(|job| {
        let source = job.source("numbers", GeneratorSource::new(9, |n| n)).parallelism(1);
        source.rebalance().sink("print", print());
    });
    for task in 0..3 {
        assert_eq!(one.iter().filter(|(t, _)| *t == task).count(), 3, "{one:?}");
    }
}

#[test]
fn parallelism_is_the_whole_chain_s() {
    let two = tasks(|job| {
        let stream = numbers(job, 99).rebalance().map(|n| n).parallelism(2);
        stream.sink("print", print());
    });
    assert!(two.iter().all(|(task, _)| *task < 2), "{two:?}");
    let one = tasks(|job| {
        numbers(job, 99).rebalance().sink("print", print()).parallelism(1);
    });
    assert!(one.iter().all(|(task, _)| *task == 0), "{one:?}");
}

#[test]
fn a_job_runs_any_number_of_times() {
    let job = Job::new("test");
    numbers(&job, 5).key_by(|n| *n).operator("key", Key(100)).sink("print", print());
    assert_eq!(output(&job, 2), output(&job, 2));
    assert_eq!(output(&job, 3).len(), 5);
}

#[test]
fn names_uids_and_fusion_are_in_the_plan() {
    let job = Job::new("names");
    let source = job.source("numbers", GeneratorSource::new(5, |n| n)).uid("numbers-v1");
    source
        .watermark(Monotonic::new(), |n| *n as i64)
        .map(|n| n + 1)
        .name("add")
        .uid("add-v1")
        .key_by(|n| *n)
        .operator("key", Key(2))
        .filter(|_| true)
        .rebalance()
        .rebalance()
        .sink("print", print())
        .uid("print-v1");
    let text = job.explain(2, 128, ExplainFormat::Text);
    let expected = "\
job names

logical graph
  numbers            source     generated, 5 records; uid numbers-v1
  numbers-watermark  watermark  <- numbers
  add                map        <- numbers-watermark; uid add-v1
  key_by             key_by     <- add
  key                operator   <- key_by (hash)
  filter             filter     <- key
  pass               pass       <- filter (rebalance)
  print              sink       <- pass (rebalance); uid print-v1

physical graph: 2 shards, 128 key groups, 8 tasks, 12 channels
  chain 0: numbers -> numbers-watermark -> add -> key_by, 2 tasks
  chain 1: key -> filter, 2 tasks
    <- chain 0: hash, 4 channels
  chain 2: pass, 2 tasks
    <- chain 1: rebalance, 4 channels
  chain 3: print, 2 tasks
    <- chain 2: rebalance, 4 channels

over a restart from a checkpoint
  print: at least once, because what it has written after a checkpoint is written again
";
    assert_eq!(text, expected, "\n{text}");
    assert!(job.is_bounded());
}

#[test]
fn all_mistakes_are_told_at_once() {
    let job = Job::new("mistakes");
    let _dangling = job.source("a", GeneratorSource::new(5, |n| n)).map(|n| n + 1);
    let b = job.source("a", GeneratorSource::new(5, |n| n)).parallelism(0);
    b.operator("key", Key(2)).sink("print", print());
    let Err(Error::Plan { problems }) = job.plan(2, 1) else { panic!("there are mistakes") };
    assert_eq!(
        problems,
        [
            "2 shards cannot share 1 key groups: every shard owns at least one; use fewer shards \
             or more key groups",
            "nobody reads what map \"map\" gives: end it with .sink(..), or with .discard() if \
             nobody needs it",
            "2 operators are named \"a\": give all but one another name, or a uid with .uid(..)",
            "operator \"key\" keeps state or timers per key, but its input is not keyed: call \
             .key_by(..) before it",
            "parallelism 0 for source \"a\", operator \"key\", sink \"print\": use 1 or more; more \
             than there are shards means all shards",
        ]
    );
}

fn simulated(write: impl Fn(&Job)) -> String {
    let args = SimulateArgs { seeds: 10, first: 5, files: Vec::new(), drain_after: None };
    simulated_as(&args, write)
}

fn simulated_as(args: &SimulateArgs, write: impl Fn(&Job)) -> String {
    let job = Job::new("test");
    write(&job);
    let plan = job.plan(3, 128).expect("no mistakes");
    args.run(&plan).expect("all seeds end well")
}

#[test]
fn an_endless_job_is_simulated_until_it_is_drained() {
    let drain_after = Some(Duration::from_millis(30));
    let args = SimulateArgs { seeds: 4, first: 1, files: Vec::new(), drain_after };
    let summary = simulated_as(&args, |job| {
        let endless = GeneratorSource::new(u64::MAX, |n| n).paced(10_000.0);
        job.source("endless", endless).rebalance().discard();
    });
    assert!(summary.starts_with("4 seeds from 1 on 3 shards"), "{summary}");
}

#[test]
fn a_simulation_compares_results_without_their_order() {
    let sound = simulated(|job| {
        numbers(job, 100).rebalance().sink("print", StdoutSink::text());
    });
    assert!(sound.starts_with("10 seeds from 5 on 3 shards"), "{sound}");
    assert!(sound.ends_with("the results of all seeds are the same\n"), "{sound}");

    let silent = simulated(|job| {
        numbers(job, 100).discard();
    });
    assert!(silent.ends_with("so no results were compared\n"), "{silent}");

    let unsound = simulated(|job| {
        let keyed = numbers(job, 20_000).key_by(|n| n % 2);
        keyed.reduce(|a, b| a.wrapping_mul(31) ^ b).sink("print", StdoutSink::text());
    });
    assert!(unsound.contains("different results"), "{unsound}");
}
