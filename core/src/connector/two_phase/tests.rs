//! When what is written is seen, what a restart does, and what happens when the system outside
//! fails.

use std::sync::{Arc, Mutex, MutexGuard};

use super::*;
use crate::operator::{Operator, Progress};
use crate::testing::OperatorHarness;

/// A system with transactions by name.
#[derive(Debug, Default)]
struct System {
    prepared: Vec<(String, Vec<u64>)>,
    seen: Vec<u64>,
    calls: Vec<String>,
    failing: Option<&'static str>,
}

type Shared = Arc<Mutex<System>>;

#[derive(Clone)]
struct Sink {
    system: Shared,
    writer: Option<Writer>,
    open: Vec<u64>,
}

impl Sink {
    fn call(&self, name: &'static str) -> io::Result<MutexGuard<'_, System>> {
        let mut system = self.system.lock().expect("nobody panics with it");
        system.calls.push(name.to_string());
        if system.failing == Some(name) {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(system)
    }
}

impl TwoPhaseSink for Sink {
    type In = u64;
    type Committable = String;

    fn describe(&self) -> String {
        "a system".to_string()
    }

    fn problems(&self) -> Vec<String> {
        vec!["it is not there".to_string()]
    }

    fn open(&mut self, writer: Writer) -> io::Result<()> {
        drop(self.call("open")?);
        self.writer = Some(writer);
        Ok(())
    }

    fn abort_all_but(&mut self, kept: &[String]) -> io::Result<()> {
        let writer = self.writer.clone().expect("it is open");
        let is_mine = |name: &str| {
            let task = name.split('-').next().and_then(|task| task.parse().ok());
            writer.answers_for(task.expect("names begin with the task"))
        };
        let mut system = self.call("abort")?;
        system.prepared.retain(|(name, _)| !is_mine(name) || kept.contains(name));
        Ok(())
    }

    fn write(&mut self, records: Vec<u64>) -> io::Result<()> {
        drop(self.call("write")?);
        self.open.extend(records);
        Ok(())
    }

    fn pre_commit(&mut self) -> io::Result<Option<String>> {
        let rows = std::mem::take(&mut self.open);
        let task_index = self.writer.as_ref().expect("it is open").task_index;
        let name = format!("{task_index}-{}", rows[0]);
        self.call("prepare")?.prepared.push((name.clone(), rows));
        Ok(Some(name))
    }

    fn commit(&mut self, name: &String) -> io::Result<()> {
        let mut system = self.call("commit")?;
        if let Some(index) = system.prepared.iter().position(|(other, _)| other == name) {
            let (_, rows) = system.prepared.remove(index);
            system.seen.extend(rows);
        }
        Ok(())
    }

    fn close(&mut self) -> io::Result<()> {
        self.call("close").map(drop)
    }
}

fn sink(system: &Shared) -> TwoPhase<Sink> {
    TwoPhase::new(Sink { system: Arc::clone(system), writer: None, open: Vec::new() })
}

fn seen(system: &Shared) -> Vec<u64> {
    system.lock().expect("nobody panics with it").seen.clone()
}

type Harness = OperatorHarness<crate::operator::Stage<TwoPhase<Sink>>>;

/// A task of the sink that has connected.
fn task(system: &Shared) -> Harness {
    let mut task = OperatorHarness::new(sink(system)).with_checkpoints();
    task.processing_time(0);
    task
}

#[test]
fn the_kit_accepts_it() {
    let make = || {
        let system = Shared::default();
        let seen = {
            let system = Arc::clone(&system);
            move || seen(&system)
        };
        (Sink { system, writer: None, open: Vec::new() }, seen)
    };
    crate::testing::two_phase_conformance(make, |n| n);
}

#[test]
#[should_panic(
    expected = "a transaction is seen when it is committed, and once: [0, 1, 2] is seen"
)]
fn the_kit_notices_who_shows_too_early() {
    #[derive(Clone)]
    struct Hasty(Sink);
    impl TwoPhaseSink for Hasty {
        type In = u64;
        type Committable = String;
        fn describe(&self) -> String {
            self.0.describe()
        }
        fn open(&mut self, writer: Writer) -> io::Result<()> {
            self.0.open(writer)
        }
        fn abort_all_but(&mut self, kept: &[String]) -> io::Result<()> {
            self.0.abort_all_but(kept)
        }
        fn write(&mut self, records: Vec<u64>) -> io::Result<()> {
            self.0.write(records)
        }
        fn pre_commit(&mut self) -> io::Result<Option<String>> {
            let name = self.0.pre_commit()?.expect("something was written");
            self.0.commit(&name)?;
            Ok(Some(name))
        }
        fn commit(&mut self, name: &String) -> io::Result<()> {
            self.0.commit(name)
        }
    }
    let make = || {
        let system = Shared::default();
        let seen = {
            let system = Arc::clone(&system);
            move || seen(&system)
        };
        (Hasty(Sink { system, writer: None, open: Vec::new() }), seen)
    };
    crate::testing::two_phase_conformance(make, |n| n);
}

#[test]
fn what_is_written_is_seen_with_the_checkpoint() {
    let system = Shared::default();
    let mut task = task(&system);
    task.push(1, 0);
    task.push(2, 0);
    let _ = task.snapshot();
    task.push(3, 0);
    assert_eq!(seen(&system), [0_u64; 0]);
    task.complete();
    assert_eq!(seen(&system), [1, 2]);
    assert_eq!(task.try_end(), Progress::Pending, "the last record waits for a checkpoint");
    let _ = task.snapshot();
    task.complete();
    assert_eq!(task.try_end(), Progress::Pending, "it hangs up");
    assert_eq!(task.try_end(), Progress::Done);
    assert_eq!(seen(&system), [1, 2, 3]);
    let calls = system.lock().expect("nobody panics with it").calls.join(" ");
    let expected = "open abort write prepare commit write prepare commit close";
    assert_eq!(calls, expected);
}

#[test]
fn a_restart_commits_what_the_checkpoint_has_and_ends_the_rest() {
    let system = Shared::default();
    let mut before = task(&system);
    before.push(1, 0);
    let snapshot = before.snapshot();
    before.push(2, 0);
    let _ = before.snapshot();
    drop(before);
    let mut after = OperatorHarness::new(sink(&system)).with_checkpoints();
    after.restore(&snapshot).expect("it is its own state");
    after.processing_time(0);
    assert_eq!(seen(&system), [1]);
    assert!(system.lock().expect("nobody panics with it").prepared.is_empty(), "2 was aborted");
    after.push(2, 0);
    let snapshot = after.snapshot();
    after.complete();
    assert_eq!(seen(&system), [1, 2]);
    // A checkpoint from before it was known that it is committed.
    let mut again = OperatorHarness::new(sink(&system)).with_checkpoints();
    again.restore(&snapshot).expect("it is its own state");
    again.processing_time(0);
    assert_eq!(seen(&system), [1, 2]);
}

#[test]
fn without_checkpoints_it_is_seen_after_the_interval_and_at_the_end() {
    let system = Shared::default();
    let mut task = OperatorHarness::new(sink(&system));
    task.processing_time(0);
    task.push(1, 0);
    assert_eq!(task.next_time_ms(), Some(1000));
    task.processing_time(1000);
    assert_eq!(seen(&system), [1]);
    task.push(2, 0);
    while task.try_end() == Progress::Pending {}
    assert_eq!(seen(&system), [1, 2]);
}

#[test]
fn what_fails_stops_the_job_and_says_what_was_done() {
    for (failing, action) in [
        ("open", "open it"),
        ("write", "write records"),
        ("prepare", "prepare a transaction"),
        ("commit", "commit a transaction"),
    ] {
        let system = Shared::default();
        system.lock().expect("nobody panics with it").failing = Some(failing);
        let mut task = OperatorHarness::new(sink(&system)).may_fail();
        task.processing_time(0);
        if failing != "open" {
            task.push(1, 0);
            task.processing_time(1000);
        }
        let error = task.take_failure().expect("it fails").chain();
        let expected = format!(
            "operator operator: could not {action}: connection reset; see that it can be reached \
             and takes what is written, then start the job again"
        );
        assert_eq!(error, expected);
        assert_eq!(seen(&system), [0_u64; 0]);
        let calls = system.lock().expect("nobody panics with it").calls.clone();
        assert_eq!(calls.last().map(String::as_str), Some(failing), "it is the last one");
    }
}

#[test]
fn a_full_batch_is_written_and_too_many_calls_make_it_wait() {
    let system = Shared::default();
    let env = crate::testing::task_env(0, 1);
    let mut sink = sink(&system);
    let ctx = crate::connector::testing::context(&env, "rows");
    let mut out = crate::connector::testing::NoOutput(&env);
    assert!(!sink.is_ready(), "it is not connected");
    assert_eq!(sink.on_time(&ctx, &mut out), Progress::Done);
    let calls = std::mem::take(&mut env.requests.borrow_mut().calls);
    for (op, call) in calls {
        sink.on_file_done(call.make(op, |call| Ok(call())), &ctx, &mut out);
    }
    let mut count = 0;
    while sink.is_ready() {
        sink.on_row(count.into(), &ctx, &mut out);
        count += 1;
    }
    assert_eq!(count, 2_000, "four batches");
    assert_eq!(sink.facts().problems, ["it is not there"]);
    assert_eq!(sink.facts().detail, "a system");
}
