//! [`conformance`]: what comes out must not depend on when the operator is cut.
//!
//! ```text
//!                step 1         step 2         step 3
//! plain      ──────●──────────────●──────────────●─────   the reference
//! restored   ──────●── snapshot ──●── snapshot ──●─────   into a fresh operator after every step
//! sliced     ──────●·resume·resume●·resume───────●─────   one unit of work at a time, restored too
//! overtaken  ──────●──────────────●──────────────●·····   slices are left lying; records overtake
//! spilled    ──●··●·········●─────●··········●───●─────   all state leaves memory after every step
//! saved      ──────●── cut ───────●·save·········●·save    what comes out of it from the cut on
//! rescaled   1 task ●── 2 tasks ──●── 3 tasks ───●─────   every snapshot restored at another count
//! ```
//!
//! Outputs are compared as text, step by step; where records may overtake each other, key by key
//! over the whole script; where there are several tasks, without regard to order.

use std::collections::BTreeMap;
use std::fmt::Debug;

use crate::operator::Chain;
use crate::state::snapshot::Snapshot;
use crate::testing::harness::{OperatorHarness, Outcome, output_of};

/// One thing that happens to an operator.
#[derive(Debug, Clone, PartialEq)]
pub enum Step<T> {
    /// A record comes, with an event time (ms).
    Record {
        /// The record.
        value: T,
        /// Its event time, ms.
        event_time_ms: i64,
    },
    /// No record at or before this event time (ms) is expected any more.
    Watermark(i64),
    /// It is this processing time now, ms since 1970.
    ProcessingTime(i64),
    /// The input ends.
    End,
}

impl<T> Step<T> {
    /// A record comes, with an event time (ms).
    pub fn record(value: T, event_time_ms: i64) -> Self {
        Self::Record { value, event_time_ms }
    }
}

/// Runs the operator that `make` makes over `script`, cut in every way, and compares what comes out
/// with a run that is not. The harness must know the key ([`OperatorHarness::keyed_by`]) of an
/// operator that has one ([`OperatorHarness::keyed_or_broadcast`] for one with broadcast records,
/// for which it must emit nothing of its own, but may of keys); one without is rescaled if
/// [`OperatorHarness::on_any_task`] says so. Side outputs that the harness reads are compared, too.
///
/// # Panics
/// If anything differs; the message names the cut, the step and the difference.
pub fn conformance<C>(
    make: impl Fn() -> OperatorHarness<C>,
    script: impl IntoIterator<Item = Step<C::In>>,
) where
    C: Chain<In: Clone + Debug, Out: Debug>,
{
    let script: Vec<Step<C::In>> = script.into_iter().collect();
    let plain = run(&make, &script, Cut::default());
    let restored = run(&make, &script, Cut { restores: true, ..Cut::default() });
    compare_steps("restored after every step", &script, &plain, &restored);
    let sliced = run(&make, &script, Cut { slices: true, ..Cut::default() });
    compare_steps("sliced", &script, &plain, &sliced);
    let both = run(&make, &script, Cut { slices: true, restores: true, ..Cut::default() });
    compare_steps("sliced, and restored after every slice", &script, &plain, &both);
    let has_keys = script.iter().any(|step| is_keyed(&make, step));
    if has_keys {
        for restores in [false, true] {
            let cut = Cut { slices: true, overtakes: true, restores };
            compare_keys(&plain, &run(&make, &script, cut));
        }
    }
    if make().spilling(0).has_spill() {
        let spilling = || make().spilling(script.len() as u64);
        compare_steps("spilled", &script, &plain, &run(&spilling, &script, Cut::default()));
        let cut = Cut { restores: true, ..Cut::default() };
        compare_steps("spilled and restored", &script, &plain, &run(&spilling, &script, cut));
        let slowly = || make().spilling_slowly(script.len() as u64);
        let cut = Cut { overtakes: true, ..Cut::default() };
        compare_keys(&plain, &run(&slowly, &script, cut));
        save(&make, &script, &plain);
    }
    if has_keys || make().is_dealt_out() {
        rescale(&make, &script, &plain);
    }
}

fn is_keyed<C: Chain>(make: &impl Fn() -> OperatorHarness<C>, step: &Step<C::In>) -> bool {
    matches!(step, Step::Record { value, .. } if make().hash64_of(value).is_some())
}

/// How a run is cut.
#[derive(Debug, Clone, Copy, Default)]
struct Cut {
    /// One unit of work at a time.
    slices: bool,
    /// What is left of a step after its first slice waits until the next step has had its.
    overtakes: bool,
    /// A snapshot is restored into a fresh operator at every cut.
    restores: bool,
}

/// What came out by the end of each step, and the watermark (ms) released by then.
type Outcomes = Vec<(Vec<Outcome>, i64)>;

fn run<C>(make: &impl Fn() -> OperatorHarness<C>, script: &[Step<C::In>], cut: Cut) -> Outcomes
where
    C: Chain<In: Clone, Out: Debug>,
{
    let mut harness = make();
    harness.set_budget(if cut.slices { 1 } else { u32::MAX });
    let mut outcomes = Outcomes::new();
    for (index, step) in script.iter().enumerate() {
        apply(&mut harness, step);
        let mut outcome = harness.take_outcome();
        let next = script.get(index + 1);
        loop {
            let is_pending = harness.is_pending();
            // As a task does: an operator that is not ready is neither cut nor given anything.
            let is_ready = harness.is_ready();
            if cut.restores && is_ready {
                harness.restart(make());
            }
            let overtakes = cut.overtakes && is_ready;
            if !is_pending || overtakes && next.is_some_and(|next| may_overtake(step, next)) {
                break;
            }
            harness.resume();
            outcome.extend(harness.take_outcome());
        }
        harness.settle_order(&mut outcome);
        outcomes.push((outcome, harness.released_watermark_ms()));
    }
    outcomes
}

/// Whether what the firing of `step` has left may wait until `next` has happened. The two kinds of
/// time do not overtake each other: a key's timers of both kinds would change places.
fn may_overtake<T>(step: &Step<T>, next: &Step<T>) -> bool {
    !matches!(step, Step::ProcessingTime(_)) && !matches!(next, Step::ProcessingTime(_))
}

fn apply<C: Chain<In: Clone>>(harness: &mut OperatorHarness<C>, step: &Step<C::In>) {
    match step {
        Step::Record { value, event_time_ms } => harness.push(value.clone(), *event_time_ms),
        Step::Watermark(watermark_ms) => harness.watermark(*watermark_ms),
        Step::ProcessingTime(time_ms) => harness.processing_time(*time_ms),
        Step::End => harness.end(),
    }
}

fn compare_steps<T: Debug>(cut: &str, script: &[Step<T>], plain: &Outcomes, other: &Outcomes) {
    for ((index, step), (plain, other)) in script.iter().enumerate().zip(plain.iter().zip(other)) {
        assert_eq!(plain, other, "step {index} ({step:?}), {cut}: expected first, found second");
    }
}

/// What came out for each key, in order. Outputs go their own ways, so there is no order between
/// two of them: each has its own list, under what its rows begin with.
fn by_key(outcomes: &Outcomes) -> BTreeMap<(u64, &str), Vec<&str>> {
    let mut keys: BTreeMap<(u64, &str), Vec<&str>> = BTreeMap::new();
    for (hash64, text) in outcomes.iter().flat_map(|(outcome, _)| outcome) {
        keys.entry((*hash64, output_of(text))).or_default().push(text);
    }
    keys
}

fn compare_keys(plain: &Outcomes, other: &Outcomes) {
    let (plain, other) = (by_key(plain), by_key(other));
    let places = plain.keys().chain(other.keys());
    for place @ (hash64, _) in places {
        assert_eq!(
            plain.get(place),
            other.get(place),
            "records overtook a firing, key with hash {hash64:#x}: expected first, found second"
        );
    }
}

/// Runs the script on one task, then two, then three, then one again: another count at every step.
fn rescale<C>(make: &impl Fn() -> OperatorHarness<C>, script: &[Step<C::In>], plain: &Outcomes)
where
    C: Chain<In: Clone + Debug, Out: Debug>,
{
    let mut time_ms = make().env().processing_time_ms.get();
    let mut snapshot: Option<Snapshot> = None;
    for ((index, step), (expected, _)) in script.iter().enumerate().zip(plain) {
        if let Step::ProcessingTime(new_ms) = step {
            time_ms = *new_ms;
        }
        let parallelism = index as u32 % 3 + 1;
        let mut found = Vec::new();
        let mut merged = Snapshot::default();
        for task_index in 0..parallelism {
            let mut task = make().task(task_index, parallelism).starting_at(time_ms);
            if let Some(snapshot) = &snapshot {
                task.restore_or_panic(snapshot);
            }
            while task.is_pending() {
                task.resume();
            }
            match step {
                Step::Record { value, .. } if !takes(&task, value, index) => {}
                step => apply(&mut task, step),
            }
            found.extend(task.take_outcome());
            merged.merge(task.snapshot());
        }
        let mut expected = expected.clone();
        expected.sort();
        found.sort();
        assert_eq!(
            expected, found,
            "step {index} ({step:?}) on {parallelism} tasks: expected first, found second"
        );
        snapshot = Some(merged);
    }
}

/// How many cuts of a script are saved.
const CUTS: usize = 4;

/// Cuts the operator now and then, and has what it had saved while the script goes on; an operator
/// that begins with it does what came after the cut.
fn save<C>(make: &impl Fn() -> OperatorHarness<C>, script: &[Step<C::In>], plain: &Outcomes)
where
    C: Chain<In: Clone + Debug, Out: Debug>,
{
    let mut time_ms = make().env().processing_time_ms.get();
    let mut harness = make().saving(script.len() as u64);
    let mut cut_at = None;
    for (index, step) in script.iter().enumerate() {
        if let Step::ProcessingTime(new_ms) = step {
            time_ms = *new_ms;
        }
        apply(&mut harness, step);
        let _ = harness.take_outcome();
        if let Some(snapshot) = harness.save_some() {
            let (cut_at, time_ms) = cut_at.take().expect("what is saved was cut");
            go_on(make().starting_at(time_ms), &snapshot, (script, plain), cut_at);
        }
        let is_time = index % script.len().div_ceil(CUTS) == 0;
        if is_time && cut_at.is_none() && harness.is_ready() && !harness.is_pending() {
            harness.cut();
            cut_at = Some((index, time_ms));
        }
    }
    while let Some((index, time_ms)) = cut_at {
        if let Some(snapshot) = harness.save_some() {
            cut_at = None;
            go_on(make().starting_at(time_ms), &snapshot, (script, plain), index);
        }
    }
}

/// Does what comes behind step `cut_at` with the state of a snapshot.
fn go_on<C>(
    mut harness: OperatorHarness<C>,
    snapshot: &Snapshot,
    (script, plain): (&[Step<C::In>], &Outcomes),
    cut_at: usize,
) where
    C: Chain<In: Clone + Debug, Out: Debug>,
{
    harness.restore_or_panic(snapshot);
    while harness.is_pending() {
        harness.resume();
    }
    for (index, step) in script.iter().enumerate().skip(cut_at + 1) {
        apply(&mut harness, step);
        let mut outcome = harness.take_outcome();
        harness.settle_order(&mut outcome);
        let expected = &plain[index].0;
        assert_eq!(
            expected, &outcome,
            "step {index} ({step:?}), begun with what was saved of a cut behind step {cut_at}: \
             expected first, found second"
        );
    }
}

/// Whether the record of step `index` goes to `task`.
fn takes<C: Chain>(task: &OperatorHarness<C>, value: &C::In, index: usize) -> bool {
    let place = task.env().task;
    match task.hash64_of(value) {
        Some(hash64) => task.owns(hash64),
        // The rest by three is the number of tasks: the same one would get all that three share.
        None if task.is_dealt_out() => index as u32 / 3 % place.parallelism == place.task_index,
        None => true,
    }
}
