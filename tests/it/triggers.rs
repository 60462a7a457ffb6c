//! Triggers, evictors and windows of every kind against their model: shuffled, late and bursty
//! records of several keys, both clocks, tiny budgets, restarts anywhere.

use std::time::Duration;

use millstream::operator::window::{GeneralWindows, Lateness, Listed};
use millstream::prelude::*;
use millstream::testing::OperatorHarness;
use millstream::time::evictor::{Evictor, KeepCount, KeepNear, KeepRecent, Rows};
use millstream::time::trigger::{
    AtEnd, ContinuousEventTime, ContinuousProcessingTime, Count, Delta, EventTime, Never,
    ProcessingTime, ProcessingTimeout, Purging, Trigger,
};
use millstream::time::window::{Cumulative, Global, Session, Sliding, TimeDomain, WindowAssigner};
use millstream_tests::model::trigger::{By, Fires, Job, Keeps, Step, measure, run};
use millstream_tests::model::window::{Firing, Kind, Outcome};
use proptest::prelude::*;

/// A record: its key and its number.
type Record = (u32, u32);

const LATE: OutputTag<Record> = OutputTag::new("late");

fn ms(count: i64) -> Duration {
    Duration::from_millis(count.unsigned_abs())
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape of a key selector")]
fn key_of(record: &Record) -> u32 {
    record.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape of a measure")]
fn measured(record: &Record) -> f64 {
    measure(record.1) as f64
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape of a window function")]
fn seen(key: &u32, window: &Window, records: &[Record]) -> Firing {
    let ids = records.iter().map(|(_, id)| *id).collect();
    Firing { key: *key, start: window.start_ms, end: window.end_ms, ids }
}

/// The engine's windows, whichever the model's job has.
#[derive(Debug, Clone, Copy)]
struct Windows {
    kind: Option<Kind>,
    by: By,
}

/// Asks the assigner of the kind.
macro_rules! assigner {
    ($windows:ident, $assigner:ident => $call:expr) => {{
        let domain = match $windows.by {
            By::Event => TimeDomain::Event,
            By::Clock => TimeDomain::Processing,
        };
        match $windows.kind {
            Some(Kind::Sliding { size, slide, offset }) => {
                let (size_ms, slide_ms, offset_ms) = (size, slide, offset);
                let $assigner = Sliding { size_ms, slide_ms, offset_ms, domain };
                $call
            }
            Some(Kind::Cumulative { size, step, offset }) => {
                let (size_max_ms, step_ms, offset_ms) = (size, step, offset);
                let $assigner = Cumulative { size_max_ms, step_ms, offset_ms, domain };
                $call
            }
            Some(Kind::Session { gap }) => {
                let $assigner = Session { gap_ms: gap, domain };
                $call
            }
            None => {
                let $assigner = Global;
                $call
            }
        }
    }};
}

impl WindowAssigner<Record> for Windows {
    fn assign(&self, value: &Record, time_ms: i64, windows: &mut Vec<Window>) {
        assigner!(self, assigner => assigner.assign(value, time_ms, windows));
    }

    fn domain(&self) -> TimeDomain {
        assigner!(self, assigner => WindowAssigner::<Record>::domain(&assigner))
    }

    fn is_merging(&self) -> bool {
        assigner!(self, assigner => WindowAssigner::<Record>::is_merging(&assigner))
    }

    fn is_endless(&self) -> bool {
        assigner!(self, assigner => WindowAssigner::<Record>::is_endless(&assigner))
    }

    fn describe(&self) -> String {
        assigner!(self, assigner => WindowAssigner::<Record>::describe(&assigner))
    }
}

/// The engine's evictor, whichever the model's job has.
#[derive(Debug, Clone, Copy)]
struct Evicts(Keeps);

impl Evicts {
    fn each(self, rows: &mut Rows<Record>, evict: impl Fn(&dyn Evict, &mut Rows<Record>)) {
        match self.0 {
            Keeps::All => {}
            Keeps::Last(count) => evict(&KeepCount::of(count), rows),
            Keeps::LastAfter(count) => evict(&KeepCount::of(count).after(), rows),
            Keeps::Recent(by) => evict(&KeepRecent::of(ms(by)), rows),
            Keeps::RecentAfter(by) => evict(&KeepRecent::of(ms(by)).after(), rows),
            Keeps::Near(by) => evict(&KeepNear::of(by as f64, measured), rows),
            Keeps::NearAfter(by) => evict(&KeepNear::of(by as f64, measured).after(), rows),
        }
    }
}

/// An [`Evictor`] behind a reference.
trait Evict {
    fn before(&self, rows: &mut Rows<Record>, window: &Window);
    fn after(&self, rows: &mut Rows<Record>, window: &Window);
}

impl<E: Evictor<Record>> Evict for E {
    fn before(&self, rows: &mut Rows<Record>, window: &Window) {
        self.evict_before(rows, window);
    }

    fn after(&self, rows: &mut Rows<Record>, window: &Window) {
        self.evict_after(rows, window);
    }
}

impl Evictor<Record> for Evicts {
    fn evict_before(&self, rows: &mut Rows<Record>, window: &Window) {
        self.each(rows, |evictor, rows| evictor.before(rows, window));
    }

    fn evict_after(&self, rows: &mut Rows<Record>, window: &Window) {
        self.each(rows, |evictor, rows| evictor.after(rows, window));
    }

    fn describe(&self) -> String {
        format!("{:?}", self.0)
    }
}

/// What the engine is told besides the script.
#[derive(Debug, Clone)]
enum Move {
    Step(Step),
    /// Go on with what is due, with this budget.
    Resume(u32),
    /// Snapshot and restore, if that is possible now.
    Restart,
}

/// Runs the moves through the engine, `units` of work a call.
fn drive<G>(job: &Job, trigger: &G, moves: &[Move], units: u32) -> Outcome
where
    G: Trigger<Record>,
{
    let make = |now_ms| {
        let windows = Windows { kind: job.windows, by: job.by };
        let lateness = Lateness::default().allow(ms(job.lateness)).to(LATE);
        let contents = Listed::new(Evicts(job.keeps), seen);
        let operator = GeneralWindows::new(windows, trigger.clone(), key_of, contents, lateness);
        let mut harness = OperatorHarness::new(operator).keyed_by(key_of).reading(LATE);
        harness.set_budget(units);
        harness.starting_at(now_ms)
    };
    let (mut now_ms, mut outcome) = (0, Outcome::default());
    let mut harness = make(now_ms);
    for step in moves {
        match step {
            Move::Step(Step::Record { key, time, id }) => harness.push((*key, *id), *time),
            Move::Step(Step::Watermark(watermark_ms)) => harness.watermark(*watermark_ms),
            Move::Step(Step::Clock(clock_ms)) => {
                now_ms = now_ms.max(*clock_ms);
                harness.processing_time(*clock_ms);
            }
            Move::Step(Step::End) => {
                harness.set_budget(u32::MAX);
                harness.end();
            }
            Move::Resume(units) => {
                harness.set_budget(*units);
                harness.resume();
            }
            Move::Restart if harness.is_ready() => {
                let snapshot = harness.snapshot();
                let mut restored = make(now_ms);
                restored.restore(&snapshot).expect("what was written can be read");
                // A task does what its clocks have made due before it takes a row.
                restored.resume();
                restored.processing_time(now_ms);
                outcome.firings.extend(harness.take_output());
                outcome.late.extend(harness.take_side_output(LATE).iter().map(|(_, id)| *id));
                harness = restored;
            }
            Move::Restart => {}
        }
        harness.set_budget(units);
    }
    outcome.firings.extend(harness.take_output());
    outcome.late.extend(harness.take_side_output(LATE).iter().map(|(_, id)| *id));
    outcome
}

/// Compares what comes of each key, in order, with the model, whatever the budget.
fn check<G: Trigger<Record>>(job: &Job, trigger: &G, moves: &[Move]) {
    let mut moves = moves.to_vec();
    moves.push(Move::Step(Step::End));
    let script: Vec<Step> = moves
        .iter()
        .filter_map(|step| match step {
            Move::Step(step) => Some(step.clone()),
            Move::Resume(_) | Move::Restart => None,
        })
        .collect();
    let mut expected = run(job, &script);
    for units in [u32::MAX, 0, 1, 3] {
        let mut found = drive(job, trigger, &moves, units);
        for outcome in [&mut expected, &mut found] {
            outcome.firings.sort_by_key(|firing| firing.key);
            outcome.late.sort_unstable();
        }
        assert_eq!(found, expected, "with {units} units a call");
    }
}

/// The trigger that the model's job names, and everything compared under it.
fn check_all(job: &Job, moves: &[Move]) {
    let domain = match job.by {
        By::Event => TimeDomain::Event,
        By::Clock => TimeDomain::Processing,
    };
    match &job.fires {
        Fires::AtWatermark if job.by == By::Event => check(job, &AtEnd(domain), moves),
        Fires::AtWatermark => check(job, &EventTime, moves),
        Fires::AtClock if job.by == By::Clock => check(job, &AtEnd(domain), moves),
        Fires::AtClock => check(job, &ProcessingTime, moves),
        Fires::Count(count) => check(job, &Count::of(*count), moves),
        Fires::EveryEvent(every) => check(job, &ContinuousEventTime::of(ms(*every)), moves),
        Fires::EveryClock(every) => check(job, &ContinuousProcessingTime::of(ms(*every)), moves),
        Fires::Never => check(job, &Never, moves),
        Fires::Moved(by) => check(job, &Delta::of(*by as f64, measured), moves),
        Fires::Purging(inner) => match &**inner {
            Fires::AtWatermark => check(job, &Purging::of(EventTime), moves),
            Fires::Count(count) => check(job, &Purging::of(Count::of(*count)), moves),
            Fires::EveryEvent(every) => {
                check(job, &Purging::of(ContinuousEventTime::of(ms(*every))), moves);
            }
            Fires::EveryClock(every) => {
                check(job, &Purging::of(ContinuousProcessingTime::of(ms(*every))), moves);
            }
            other => panic!("no purging {other:?} is generated"),
        },
        Fires::Timeout { inner, after, is_restarted } => {
            let (after, is_restarted) = (ms(*after), *is_restarted);
            match &**inner {
                Fires::AtWatermark => check_timeout(job, EventTime, after, is_restarted, moves),
                Fires::AtClock => check_timeout(job, ProcessingTime, after, is_restarted, moves),
                Fires::Count(count) => {
                    check_timeout(job, Count::of(*count), after, is_restarted, moves);
                }
                other => panic!("no timeout around {other:?} is generated"),
            }
        }
    }
}

fn check_timeout<G>(job: &Job, inner: G, after: Duration, is_restarted: bool, moves: &[Move])
where
    G: Trigger<Record>,
    ProcessingTimeout<G>: Trigger<Record>,
{
    let trigger = ProcessingTimeout::of(inner, after);
    let trigger = if is_restarted { trigger.since_last_record() } else { trigger };
    check(job, &trigger, moves);
}

/// Bursts of records around a time that moves on, stragglers behind it and idle gaps; both clocks,
/// small budgets and restarts in between.
fn moves(len: usize) -> impl Strategy<Value = Vec<Move>> {
    let step = prop_oneof![
        12 => (0_u32..4, -12_i64..25, 0_i64..4).prop_map(|(key, off, by)| (0, key, off, by)),
        3 => (0_u32..1, -15_i64..12, 0_i64..1).prop_map(|(key, off, by)| (1, key, off, by)),
        3 => (0_i64..25).prop_map(|by| (2, 0, by, 0)),
        3 => (0_u32..6).prop_map(|units| (3, units, 0, 0)),
        1 => Just((4, 0, 0, 0)),
        1 => (0_u32..2, 0_i64..1, 20_i64..100).prop_map(|(key, off, by)| (0, key, off, by)),
    ];
    (prop::collection::vec(step, 0..len), -100_i64..100).prop_map(|(steps, begin)| {
        let (mut time, mut watermark, mut clock, mut id) = (begin, i64::MIN, 0, 0);
        let mut moves = Vec::new();
        for (what, number, off, by) in steps {
            time += by;
            moves.push(match what {
                0 => {
                    id += 1;
                    Move::Step(Step::Record { key: number, time: time + off, id })
                }
                1 => {
                    watermark = watermark.max(time + off);
                    Move::Step(Step::Watermark(watermark))
                }
                2 => {
                    clock += off;
                    Move::Step(Step::Clock(clock))
                }
                3 => Move::Resume(number),
                _ => Move::Restart,
            });
        }
        moves
    })
}

/// Windows that do not merge, with a clock.
fn aligned() -> impl Strategy<Value = Option<Kind>> {
    prop_oneof![
        (1_i64..30, 4_i64..30, 0_i64..20).prop_map(|(size, slide, offset)| {
            Kind::Sliding { size, slide, offset: offset % slide }
        }),
        (1_i64..30, 0_i64..20).prop_map(|(size, offset)| {
            Kind::Sliding { size, slide: size, offset: offset % size }
        }),
        (1_i64..6, 1_i64..8)
            .prop_map(|(count, step)| { Kind::Cumulative { size: count * step, step, offset: 0 } }),
    ]
    .prop_map(Some)
}

fn windows() -> impl Strategy<Value = Option<Kind>> {
    prop_oneof![
        3 => aligned(),
        2 => (1_i64..20).prop_map(|gap| Some(Kind::Session { gap })),
        1 => Just(None),
    ]
}

/// Triggers that go by the clocks.
fn timed() -> impl Strategy<Value = Fires> {
    let purging = |fires| Fires::Purging(Box::new(fires));
    let plain = prop_oneof![
        Just(Fires::AtWatermark),
        Just(Fires::AtClock),
        (1_i64..12).prop_map(Fires::EveryEvent),
        (1_i64..12).prop_map(Fires::EveryClock),
    ];
    prop_oneof![
        4 => plain,
        1 => Just(purging(Fires::AtWatermark)),
        1 => (1_i64..12).prop_map(move |every| purging(Fires::EveryEvent(every))),
        1 => (1_i64..12).prop_map(move |every| purging(Fires::EveryClock(every))),
        3 => timeouts(),
    ]
}

fn timeouts() -> impl Strategy<Value = Fires> {
    let inner = prop_oneof![
        Just(Fires::AtWatermark),
        Just(Fires::AtClock),
        (1_u64..6).prop_map(Fires::Count),
    ];
    (inner, 1_i64..30, any::<bool>()).prop_map(|(inner, after, is_restarted)| Fires::Timeout {
        inner: Box::new(inner),
        after,
        is_restarted,
    })
}

/// Triggers that go by the records.
fn counted() -> impl Strategy<Value = Fires> {
    prop_oneof![
        3 => (1_u64..6).prop_map(Fires::Count),
        2 => (1_u64..6).prop_map(|count| Fires::Purging(Box::new(Fires::Count(count)))),
        2 => (0_i64..6).prop_map(Fires::Moved),
        1 => Just(Fires::Never),
    ]
}

fn keeps() -> impl Strategy<Value = Keeps> {
    prop_oneof![
        4 => Just(Keeps::All),
        1 => (1_usize..5).prop_map(Keeps::Last),
        1 => (1_usize..5).prop_map(Keeps::LastAfter),
        1 => (1_i64..12).prop_map(Keeps::Recent),
        1 => (1_i64..12).prop_map(Keeps::RecentAfter),
        1 => (1_i64..6).prop_map(Keeps::Near),
        1 => (1_i64..6).prop_map(Keeps::NearAfter),
    ]
}

/// Windows `windows` by either clock under `fires`.
fn jobs(
    windows: impl Strategy<Value = Option<Kind>>,
    fires: impl Strategy<Value = Fires>,
) -> impl Strategy<Value = Job> {
    let by = prop_oneof![2 => Just(By::Event), 1 => Just(By::Clock)];
    (windows, by, 0_i64..40, fires, keeps()).prop_map(|(windows, by, lateness, fires, keeps)| {
        let (by, lateness) = match windows {
            None => (By::Clock, 0),
            Some(_) => (by, if by == By::Event { lateness } else { 0 }),
        };
        Job { windows, by, lateness, fires, keeps }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn windows_with_triggers_of_time_agree(job in jobs(windows(), timed()), moves in moves(100)) {
        check_all(&job, &moves);
    }

    #[test]
    fn windows_with_triggers_of_records_agree(
        job in jobs(windows(), counted()), moves in moves(100),
    ) {
        let merges = matches!(job.windows, Some(Kind::Session { .. }));
        prop_assume!(!merges || !matches!(job.fires, Fires::Moved(_)));
        check_all(&job, &moves);
    }

    /// Count windows among them: `count` records and a purge, or the last so many records.
    #[test]
    fn windows_without_an_end_agree(
        job in jobs(Just(None), prop_oneof![3 => counted(), 1 => timed()]), moves in moves(100),
    ) {
        check_all(&job, &moves);
    }
}
