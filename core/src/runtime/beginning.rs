//! What an attempt begins with: an empty job, or what an earlier one has left.

use std::sync::Arc;

use crate::checkpoint::directory::{Heir, Restored, open};
use crate::checkpoint::{CheckpointSettings, Coordinator};
use crate::config::Config;
use crate::error::Error;
use crate::runtime::checkpoint_directory::{CheckpointDirectory, SystemFiles};
use crate::shard::program::Program;
use crate::state::snapshot::Snapshot;

/// What an attempt begins with.
pub(super) struct Beginning {
    /// What it goes on from.
    pub(super) restore: Option<Arc<Snapshot>>,
    /// Who has checkpoints taken, if any are.
    pub(super) coordinator: Option<Coordinator>,
}

impl Beginning {
    /// Looks into the checkpoint directory, if there is one, for what to go on from.
    ///
    /// # Errors
    /// If something is there that the job cannot go on from.
    pub(super) fn of(
        directory: Option<&CheckpointDirectory>,
        program: &Program,
        config: &Config,
    ) -> Result<Self, Error> {
        let Some(directory) = directory else {
            let restore = go_on_from(None, program, config)?;
            return Ok(Self { restore, coordinator: None });
        };
        let found = directory.look()?;
        let restore = go_on_from(found.newest, program, config)?;
        let settings = CheckpointSettings {
            interval: config.checkpoint_interval.0,
            min_pause: config.checkpoint_min_pause.0,
            timeout: config.checkpoint_timeout.0,
            in_flight_max: config.checkpoints_in_flight as usize,
            retained: config.checkpoints_retained as usize,
            unaligned_after: config.unaligned_after(),
        };
        let coordinator = Coordinator::new(
            settings,
            program.name.clone(),
            (program.shard_count(), config.key_group_count),
            directory.path().to_path_buf(),
            found.last,
            found.kept,
        );
        Ok(Self { restore, coordinator: Some(coordinator) })
    }
}

/// The state of `own`, which the checkpoint directory has, or else of what the settings name.
fn go_on_from(
    own: Option<Restored>,
    program: &Program,
    config: &Config,
) -> Result<Option<Arc<Snapshot>>, Error> {
    let restored = match (own, &config.restore) {
        (Some(own), Some(path)) => {
            let path = path.display();
            tracing::info!(%path, "not restored: the checkpoint directory has checkpoints");
            Some(own)
        }
        (None, Some(path)) => Some(open(&SystemFiles, path)?),
        (own, None) => own,
    };
    let Some(restored) = restored else { return Ok(None) };
    let becomes = restored.check(&Heir {
        job: &program.name,
        key_group_count: config.key_group_count,
        uids: &program.uids,
        inputs: &program.inputs(),
        may_drop: config.allow_dropped_state,
    })?;
    let checkpoint = restored.manifest.checkpoint.0;
    let inherited = becomes.inherited.join(", ");
    tracing::info!(checkpoint, inherited, "going on from a checkpoint");
    for (uids, what) in
        [(becomes.new, "operators that begin without state"), (becomes.dropped, "state is dropped")]
    {
        if !uids.is_empty() {
            tracing::info!(uids = uids.join(", "), "{what}");
        }
    }
    Ok(Some(Arc::new(restored.snapshot)))
}
