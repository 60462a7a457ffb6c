//! Signals and requests while a job waits.

use std::time::Instant;

use tokio::sync::mpsc::{Sender, channel};

use super::*;
use crate::config::Config;
use crate::runtime::cpu;

/// Longer than anything here takes, on any machine.
const LONG: Duration = Duration::from_mins(1);

/// A job that has failed, and who asks.
fn control(newest: Option<u64>) -> (Control, Sender<Request>) {
    let placement = cpu::place(&[], 1, 1);
    let config = Config { checkpoint_directory: Some("/nowhere".into()), ..Config::default() };
    let mut control = Control::new(&config, false, &placement).expect("nothing is refused");
    let (asker, requests) = channel(16);
    control.reception.requests = requests;
    control.reception.newest = newest.map(CheckpointId);
    (control, asker)
}

/// Asks, while nobody listens yet.
fn ask<T>(
    asker: &Sender<Request>,
    make: impl FnOnce(oneshot::Sender<T>) -> Request,
) -> oneshot::Receiver<T> {
    let (sender, receiver) = oneshot::channel();
    let sent = asker.try_send(make(sender));
    sent.expect("there is room for some");
    receiver
}

fn stop(
    asker: &Sender<Request>,
    name: Option<&str>,
) -> oneshot::Receiver<Result<CheckpointId, String>> {
    ask(asker, |answer| Request::Stop(name.map(str::to_string), answer))
}

#[test]
fn a_stop_ends_the_wait_at_the_newest_checkpoint() {
    let (mut control, asker) = control(Some(7));
    let (mut first, mut second) = (stop(&asker, Some("last")), stop(&asker, None));
    control.wait(LONG);
    assert_eq!(first.try_recv(), Ok(Ok(CheckpointId(7))));
    let end = control.take_end().expect("somebody wants it").expect("there is a checkpoint");
    let savepoint = Some("/nowhere/savepoints/last".into());
    assert_eq!(end, JobEnd::Stopped { checkpoint: CheckpointId(7), savepoint });
    assert!(control.take_end().is_none(), "once");
    control.reception.end_wish = Some(EndWish { savepoint: None });
    // Who comes second is heard by whoever listens next.
    control.meanwhile(|| while !matches!(second.try_recv(), Ok(Err(_))) {});
}

#[test]
fn without_a_checkpoint_it_is_not_stopped_but_a_signal_ends_it() {
    let (mut control, asker) = control(None);
    let mut answer = stop(&asker, None);
    let begun = Instant::now();
    control.wait(Duration::from_millis(20));
    assert!(Duration::from_millis(20) <= begun.elapsed());
    let refusal = answer.try_recv().expect("it is answered").expect_err("there is none");
    assert!(refusal.starts_with("no checkpoint is complete"), "{refusal}");
    assert!(control.take_end().is_none());
    // As a signal does.
    control.reception.end_wish = Some(EndWish { savepoint: None });
    control.wait(LONG);
    assert!(matches!(control.take_end(), Some(Err(Error::Interrupted))));
}

#[test]
fn questions_are_answered_while_something_is_done() {
    let (mut control, asker) = control(Some(7));
    control.on_failure(&Error::bug("sum", "boom"), 2, Duration::from_secs(3));
    let mut status = ask(&asker, Request::Restarts);
    let mut wish = ask(&asker, Request::Checkpoint);
    let told = control.meanwhile(|| {
        loop {
            if let Ok(status) = status.try_recv() {
                break status;
            }
            std::thread::yield_now();
        }
    });
    assert_eq!((told.restart_count, told.phase), (2, Phase::Waiting));
    control.wait(Duration::ZERO);
    control.meanwhile(|| {
        loop {
            match wish.try_recv() {
                Ok(refused) => break assert_eq!(refused, Err(NO_CHECKPOINTS.to_string())),
                Err(_) => std::thread::yield_now(),
            }
        }
    });
    assert_eq!(control.reception.restarts.phase, Phase::Starting);
}
