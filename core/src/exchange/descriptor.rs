//! What one shard sends another: 64 bytes that own, at most, one buffer.

use millstream_storage::arena::Buffer;

use crate::data::element::Control;
use crate::data::frame::Frame;
use crate::graph::plan::ChannelId;

/// What one slot of the ring between two shards holds: a cache line, with the slot's alignment.
#[derive(Debug)]
pub enum Descriptor {
    /// Rows; the sender used a credit.
    Frame {
        /// Where it belongs.
        channel: ChannelId,
        /// The rows, in a buffer of the sender's slab.
        frame: Frame,
    },
    /// A buffer comes back to the shard whose slab it is from, and the credit with it.
    Credit {
        /// The channel that it was used on.
        channel: ChannelId,
        /// The buffer.
        buffer: Buffer,
    },
    /// A control element of a channel.
    Control {
        /// Where it belongs.
        channel: ChannelId,
        /// Which.
        control: Control,
    },
    /// How far a source has come on the sending shard, for watermark alignment.
    SourceWatermark {
        /// The source's number.
        source: u32,
        /// Event time (ms) of the slowest of its splits there.
        watermark_ms: i64,
    },
}

impl Descriptor {
    /// The channel that this is about, if it is about one.
    pub fn channel(&self) -> Option<ChannelId> {
        match self {
            Self::SourceWatermark { .. } => None,
            Self::Frame { channel, .. }
            | Self::Credit { channel, .. }
            | Self::Control { channel, .. } => Some(*channel),
        }
    }
}

const _: () = assert!(size_of::<Descriptor>() <= 64, "a descriptor fits a slot of the ring");
