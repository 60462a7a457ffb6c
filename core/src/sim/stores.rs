//! The stores of simulated shards: as small as they can be, so that everything happens often.

use millstream_storage::arena::CHUNK_BYTES;

use super::world::{CHECKPOINT_DIRECTORY, STATE_DIRECTORY, SimConfig};
use crate::checkpoint::names::state_name;
use crate::data::element::CheckpointId;
use crate::shard::program::Program;
use crate::state::durable::{CHUNKS_MIN, DurableConfig};
use crate::state::shard_store::{STORE_CHUNKS_MIN, ShardStoreConfig};

/// The store of shard `index`, if any of its rows come by key.
pub(super) fn store_of(
    program: &Program,
    config: &SimConfig,
    first: CheckpointId,
    index: u32,
) -> Option<ShardStoreConfig> {
    let durable = config.checkpoint_interval.is_some().then(|| DurableConfig {
        directory: CHECKPOINT_DIRECTORY.into(),
        name: state_name(first, index),
        store_bytes: CHUNKS_MIN * CHUNK_BYTES,
        table_bytes: 0,
    });
    let (key_groups, key_group_count) = program.key_groups(index)?;
    Some(ShardStoreConfig {
        directory: format!("{STATE_DIRECTORY}/shard-{index}").into(),
        key_groups,
        key_group_count,
        working_bytes: config.working_bytes,
        table_bytes: 0,
        store_bytes: STORE_CHUNKS_MIN * CHUNK_BYTES,
        durable,
    })
}
