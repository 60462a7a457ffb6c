//! What becomes of signals and requests while no attempt runs: the last one has failed, and the job
//! waits, or threads end and checkpoints are read.
//!
//! Questions are answered with what is known. Whoever wants an end gets it at once: a failed job
//! has nothing under way, and the next run goes on from the checkpoint that this one would have.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::sleep;

use super::{Control, NO_CHECKPOINTS, Reception, Signals, on_control_thread, savepoint};
use crate::data::element::CheckpointId;
use crate::error::Error;
use crate::runtime::clock::wall_ms;
use crate::runtime::control::http::Request;
use crate::runtime::control::restarts::Phase;
use crate::runtime::cpu;
use crate::runtime::node::JobEnd;

/// Why somebody's wish cannot be fulfilled now.
const NOT_RUNNING: &str = "the job has failed and is about to begin again";

/// How long the server is left to send its answers before the node ends: to whoever wanted that.
const ANSWERS_LEAVE: Duration = Duration::from_millis(20);

/// Somebody wants an end.
#[derive(Debug)]
pub(super) struct EndWish {
    /// Where a savepoint of the newest checkpoint is to be made.
    savepoint: Option<PathBuf>,
}

impl Control {
    /// The job has failed, and begins again `after` a wait, the time `restart`.
    pub(in crate::runtime) fn on_failure(&mut self, error: &Error, restart: u64, after: Duration) {
        self.reception.restarts.on_failure(error, restart, after, wall_ms());
    }

    /// Does `work` on this thread; whoever asks something meanwhile is answered.
    pub(in crate::runtime) fn meanwhile<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let Self { runtime, core, reception } = self;
        let (working, is_done) = oneshot::channel::<()>();
        let hear = || {
            cpu::pin_if_any(*core, "control");
            runtime.block_on(reception.hear_until(is_done));
        };
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("control".to_string());
            if let Err(error) = thread.spawn_scoped(scope, hear) {
                tracing::warn!(%error, "nobody is answered until the job has begun again");
            }
            let result = work();
            // Nothing is said: that it goes is the word.
            drop(working);
            result
        })
    }

    /// Waits for as long as this, or until somebody wants an end.
    pub(in crate::runtime) fn wait(&mut self, duration: Duration) {
        let Self { runtime, core, reception } = self;
        let wait = || runtime.block_on(reception.hear_for(duration));
        if let Err(error) = on_control_thread(*core, wait) {
            tracing::warn!(%error, "nobody is answered until the job has begun again");
            std::thread::sleep(duration);
        }
        self.reception.restarts.on_phase(Phase::Starting, wall_ms());
    }

    /// How the job ends if somebody wants that: at its newest checkpoint.
    pub(in crate::runtime) fn take_end(&mut self) -> Option<Result<JobEnd, Error>> {
        let EndWish { savepoint } = self.reception.end_wish.take()?;
        self.runtime.block_on(async { sleep(ANSWERS_LEAVE).await });
        tracing::info!("ending before the job has begun again");
        let stopped = |checkpoint| JobEnd::Stopped { checkpoint, savepoint };
        Some(self.reception.newest.map(stopped).ok_or(Error::Interrupted))
    }
}

impl Reception {
    async fn hear_until(&mut self, mut is_done: oneshot::Receiver<()>) {
        loop {
            tokio::select! {
                _ = &mut is_done => return,
                () = self.hear() => {}
            }
        }
    }

    async fn hear_for(&mut self, duration: Duration) {
        let until = sleep(duration);
        tokio::pin!(until);
        while self.end_wish.is_none() {
            tokio::select! {
                () = &mut until => return,
                () = self.hear() => {}
            }
        }
    }

    /// Hears one signal or request.
    async fn hear(&mut self) {
        tokio::select! {
            () = Signals::recv(self.signals.as_mut()) => {
                self.end_wish.get_or_insert(EndWish { savepoint: None });
            }
            Some(request) = self.requests.recv() => self.on_request(request),
        }
    }

    /// Who has asked may have hung up.
    fn on_request(&mut self, request: Request) {
        match request {
            Request::Status(answer) => drop(answer.send(Vec::new())),
            Request::Checkpoints(answer) => drop(answer.send(self.checkpoints.clone())),
            Request::Restarts(answer) => drop(answer.send(self.restarts.clone())),
            Request::Checkpoint(answer) | Request::Savepoint(_, answer) => {
                let reason = if self.checkpoints.is_some() { NOT_RUNNING } else { NO_CHECKPOINTS };
                drop(answer.send(Err(reason.to_string())));
            }
            Request::Drain(answer) => drop(answer.send(Err(NOT_RUNNING.to_string()))),
            Request::Stop(name, answer) => drop(answer.send(self.on_stop(name.as_deref()))),
        }
    }

    /// Somebody wants an end, and a savepoint of this `name` if there is one.
    fn on_stop(&mut self, name: Option<&str>) -> Result<CheckpointId, String> {
        if self.end_wish.is_some() {
            return Err("it stops already".to_string());
        }
        let newest =
            self.newest.ok_or("no checkpoint is complete: a signal ends it without one")?;
        let savepoint = name.map(|name| savepoint(self.savepoints.as_deref(), name)).transpose()?;
        self.end_wish = Some(EndWish { savepoint });
        Ok(newest)
    }
}

#[cfg(test)]
mod tests;
