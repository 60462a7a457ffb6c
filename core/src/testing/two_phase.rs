//! [`two_phase_conformance`]: a transactional sink, killed after every call.
//!
//! ```text
//! open, abort ─ write ─ pre_commit ─┬─ commit ─┬─ commit again
//!             ✗       ✗             ✗          ✗
//! ```
//!
//! ✗ is where it is killed: the next run ends what no checkpoint has, and commits what one has.

use std::cell::Cell;
use std::fmt::Debug;
use std::ops::Range;

use crate::connector::two_phase::{TwoPhaseSink, Writer};

/// Checks what the engine relies on: that nothing is seen before it is committed, that a commit
/// made twice is made once, and that after a death at any point the next run can commit what its
/// checkpoint has and end the rest, whatever number of tasks either has.
///
/// `make` makes a sink to a system that is empty, and a way to read what everybody sees there;
/// clones of that sink are its other tasks and later runs. `record` makes a record of a number:
/// different ones of different numbers.
///
/// # Panics
/// If the sink does something else, or fails; the message says when.
pub fn two_phase_conformance<S, V>(make: impl Fn() -> (S, V), record: impl Fn(u64) -> S::In)
where
    S: TwoPhaseSink,
    S::In: Clone + Debug + PartialEq,
    V: Fn() -> Vec<S::In>,
{
    let case = |about: &'static str| {
        let (prototype, seen) = make();
        Case { about, prototype, seen, record: &record, begun: Cell::new(0) }
    };
    let one = case("a transaction is seen when it is committed, and once");
    let mut sink = one.task(0, 1, &[]);
    let committable = one.pre_committed(&mut sink, 0..3);
    one.sees([]);
    one.commit(&mut sink, &committable);
    one.sees(0..3);
    one.commit(&mut sink, &committable);
    one.sees(0..3);
    let next = one.pre_committed(&mut sink, 3..5);
    one.sees(0..3);
    one.commit(&mut sink, &next);
    one.sees(0..5);
    one.check("close", sink.close());

    let written = case("killed before pre_commit, what was written is never seen");
    let mut sink = written.task(0, 1, &[]);
    written.write(&mut sink, 0..3);
    drop(sink);
    written.goes_on(0..0, &[]);

    let forgotten = case("killed before a checkpoint has it, a transaction is never seen");
    let mut sink = forgotten.task(0, 1, &[]);
    let _ = forgotten.pre_committed(&mut sink, 0..3);
    drop(sink);
    forgotten.goes_on(0..0, &[]);

    for commits in 0..3 {
        let kept = case("killed when a checkpoint has it, a transaction is seen once");
        let mut sink = kept.task(0, 1, &[]);
        let committable = kept.pre_committed(&mut sink, 0..3);
        (0..commits).for_each(|_| kept.commit(&mut sink, &committable));
        drop(sink);
        kept.goes_on(0..3, &[committable]);
    }

    let tasks = case("a task leaves the transactions of the others alone");
    let mut first = tasks.task(0, 2, &[]);
    let left = tasks.pre_committed(&mut first, 0..3);
    let mut second = tasks.task(1, 2, &[]);
    let own = tasks.pre_committed(&mut second, 3..5);
    tasks.commit(&mut first, &left);
    tasks.commit(&mut second, &own);
    tasks.sees(0..5);

    let fewer = case("with fewer tasks, those that are left end or commit what the others had");
    let mut first = fewer.task(0, 2, &[]);
    let mut second = fewer.task(1, 2, &[]);
    let _ = fewer.pre_committed(&mut first, 0..3);
    let kept = fewer.pre_committed(&mut second, 3..5);
    drop((first, second));
    fewer.goes_on(3..5, &[kept]);
}

/// A system, and tasks that write to it.
struct Case<'a, S, V, R> {
    about: &'static str,
    prototype: S,
    seen: V,
    record: &'a R,
    /// How many tasks have begun.
    begun: Cell<i64>,
}

impl<S, V, R> Case<'_, S, V, R>
where
    S: TwoPhaseSink,
    S::In: Clone + Debug + PartialEq,
    V: Fn() -> Vec<S::In>,
    R: Fn(u64) -> S::In,
{
    fn check<T>(&self, call: &str, result: std::io::Result<T>) -> T {
        result.unwrap_or_else(|error| panic!("{}: {call} failed: {error}", self.about))
    }

    /// A task that begins; a checkpoint has `kept`.
    fn task(&self, task_index: u32, parallelism: u32, kept: &[S::Committable]) -> S {
        let mut sink = self.prototype.clone();
        let begun_ms = self.begun.get() + 1;
        self.begun.set(begun_ms);
        let writer = Writer { sink: "sink".to_string(), task_index, parallelism, begun_ms };
        self.check("open", sink.open(writer));
        self.check("abort_all_but", sink.abort_all_but(kept));
        sink
    }

    fn write(&self, sink: &mut S, numbers: Range<u64>) {
        for number in numbers {
            self.check("write", sink.write(vec![(self.record)(number)]));
        }
    }

    fn pre_committed(&self, sink: &mut S, numbers: Range<u64>) -> S::Committable {
        self.write(sink, numbers);
        let committable = self.check("pre_commit", sink.pre_commit());
        committable.unwrap_or_else(|| panic!("{}: pre_commit has made nothing", self.about))
    }

    fn commit(&self, sink: &mut S, committable: &S::Committable) {
        self.check("commit", sink.commit(committable));
    }

    /// Everybody sees the records of these numbers and no others.
    fn sees(&self, numbers: impl IntoIterator<Item = u64>) {
        let seen = (self.seen)();
        let expected: Vec<S::In> = numbers.into_iter().map(self.record).collect();
        assert_eq!(seen.len(), expected.len(), "{}: {seen:?} is seen", self.about);
        for record in expected {
            assert!(seen.contains(&record), "{}: {record:?} is not in {seen:?}", self.about);
        }
    }

    /// The next run, of one task, commits what a checkpoint has, which is `left`, and writes on.
    fn goes_on(&self, left: Range<u64>, kept: &[S::Committable]) {
        let mut sink = self.task(0, 1, kept);
        for committable in kept {
            self.commit(&mut sink, committable);
        }
        self.sees(left.clone());
        let next = self.pre_committed(&mut sink, 100..102);
        self.sees(left.clone());
        self.commit(&mut sink, &next);
        self.sees(left.chain(100..102));
    }
}
