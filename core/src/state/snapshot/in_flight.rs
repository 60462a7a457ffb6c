//! Rows in flight: what had left one task and had not been taken by another when an unaligned
//! checkpoint was cut.
//!
//! ```text
//! to: uid, input ──► Left { task, index }          rows that the run began with, first of all
//!               └──► Arrived, Queued { channel }   of each channel: what the receiver had, then
//!                                                  what the sender had
//! ```
//!
//! They are kept as rows of the input that they were on their way to. A job that goes on from them
//! has its tasks take them before anything else: in the order of their places, each row where its
//! [`Deal`] says. So rows of one channel stay in order, and so do rows of one key.
//!
//! Frames are kept as the bytes that they are. What they are archives of is known by size and
//! alignment only, as of a state that does not describe its values.

use std::collections::BTreeMap;

use super::encoding::ordered;
use super::{Snapshot, ValueLayout};
use crate::data::bytes::{BadBytes, ByteReader, put_bytes, put_count};
use crate::graph::plan::{ChannelId, Deal};

/// The input that rows were on their way to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RunTo {
    /// Uid of the first operator of a chain.
    pub uid: String,
    /// Which of its inputs.
    pub input: u8,
}

/// Where rows were. In this order they are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The job began with them, and this task would have taken them before anything else.
    Left {
        /// Which task.
        task: u32,
        /// Before those with a higher number.
        index: u32,
    },
    /// In a channel.
    Channel {
        /// Which: by its number in the job that was.
        channel: ChannelId,
        /// With the sender still, and so behind those that had arrived.
        is_queued: bool,
    },
}

/// Rows that were in one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Which task takes them.
    pub deal: Deal,
    /// What is known of their values.
    pub layout: ValueLayout,
    /// Archives of batches, in order.
    pub frames: Vec<Vec<u8>>,
}

impl Snapshot {
    /// Adds rows in flight, if there are any.
    ///
    /// # Panics
    /// If there are some of that place already.
    pub fn put_in_flight(&mut self, to: RunTo, place: Place, run: Run) {
        if !run.frames.is_empty() {
            let before = self.in_flight.insert((to, place), run);
            assert!(before.is_none(), "rows of {place:?} are kept twice");
        }
    }

    /// The rows in flight to an input, in the order in which they are taken.
    pub fn in_flight_to(&self, to: &RunTo) -> impl Iterator<Item = &Run> {
        let all = self.in_flight.iter().filter(move |((other, _), _)| other == to);
        all.map(|(_, run)| run)
    }

    /// The inputs that rows are in flight to, each with how many bytes they take.
    pub fn in_flight(&self) -> BTreeMap<&RunTo, u64> {
        let mut bytes = BTreeMap::new();
        for ((to, _), run) in &self.in_flight {
            *bytes.entry(to).or_default() += run.bytes();
        }
        bytes
    }

    /// How many bytes the rows in flight take.
    pub fn in_flight_bytes(&self) -> u64 {
        self.in_flight.values().map(Run::bytes).sum()
    }
}

impl Run {
    fn bytes(&self) -> u64 {
        self.frames.iter().map(|frame| frame.len() as u64).sum()
    }
}

/// Appends the bytes of `runs`: see `encoding.rs`.
pub(super) fn encode(runs: &BTreeMap<(RunTo, Place), Run>, out: &mut Vec<u8>) {
    put_count(runs.len(), out);
    for ((to, place), run) in runs {
        put_bytes(to.uid.as_bytes(), out);
        out.push(to.input);
        let (kind, numbers) = match *place {
            Place::Left { task, index } => (0, [task, index]),
            Place::Channel { channel, is_queued } => (1, [channel.0, u32::from(is_queued)]),
        };
        out.push(kind);
        for number in numbers {
            out.extend_from_slice(&number.to_le_bytes());
        }
        let (kind, task) = match run.deal {
            Deal::KeyGroup => (0, 0),
            Deal::Direct => (1, 0),
            Deal::Task(task) => (2, task),
        };
        out.push(kind);
        for number in [task, run.layout.size, run.layout.align] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        put_count(run.frames.len(), out);
        run.frames.iter().for_each(|frame| put_bytes(frame, out));
    }
}

/// The runs whose bytes come next.
pub(super) fn decode(
    reader: &mut ByteReader<'_>,
) -> Result<BTreeMap<(RunTo, Place), Run>, BadBytes> {
    ordered(reader, |reader| {
        let uid = reader.text()?.to_string();
        let [input] = reader.array()?;
        let at = reader.at();
        let [kind] = reader.array()?;
        let place = match (kind, reader.u32()?, reader.u32()?) {
            (0, task, index) => Place::Left { task, index },
            (1, channel, queued @ 0..=1) => {
                Place::Channel { channel: ChannelId(channel), is_queued: queued == 1 }
            }
            _ => return Err(BadBytes { at, what: "a place of no kind" }),
        };
        let at = reader.at();
        let [kind] = reader.array()?;
        let deal = match (kind, reader.u32()?) {
            (0, 0) => Deal::KeyGroup,
            (1, 0) => Deal::Direct,
            (2, task) => Deal::Task(task),
            _ => return Err(BadBytes { at, what: "a deal of no kind" }),
        };
        let layout = ValueLayout { size: reader.u32()?, align: reader.u32()? };
        let at = reader.at();
        let mut frames = Vec::new();
        for _ in 0..reader.u32()? {
            frames.push(reader.bytes()?.to_vec());
        }
        if frames.is_empty() {
            return Err(BadBytes { at, what: "rows in flight without a frame" });
        }
        Ok(((RunTo { uid, input }, place), Run { deal, layout, frames }))
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn to(uid: &str) -> RunTo {
        RunTo { uid: uid.to_string(), input: 1 }
    }

    fn run(deal: Deal, frames: &[&[u8]]) -> Run {
        let frames = frames.iter().map(|frame| frame.to_vec()).collect();
        Run { deal, layout: ValueLayout::of::<u64>(), frames }
    }

    fn channel(number: u32, is_queued: bool) -> Place {
        Place::Channel { channel: ChannelId(number), is_queued }
    }

    /// Some of every kind.
    pub(in crate::state::snapshot) fn put_some(snapshot: &mut Snapshot) {
        let left = Place::Left { task: 3, index: 1 };
        snapshot.put_in_flight(to("sum"), channel(9, true), run(Deal::KeyGroup, &[b"c", b"d"]));
        snapshot.put_in_flight(to("sum"), channel(9, false), run(Deal::Direct, &[b"b"]));
        snapshot.put_in_flight(to("sum"), left, run(Deal::Task(2), &[b"a"]));
        snapshot.put_in_flight(to("other"), channel(8, false), run(Deal::KeyGroup, &[b"x"]));
    }

    #[test]
    fn rows_are_found_in_their_order() {
        let mut snapshot = Snapshot::default();
        put_some(&mut snapshot);
        snapshot.put_in_flight(to("none"), channel(1, true), run(Deal::KeyGroup, &[]));
        let sum = to("sum");
        let frames = snapshot.in_flight_to(&sum).flat_map(|run| &run.frames);
        assert_eq!(frames.collect::<Vec<_>>(), [b"a", b"b", b"c", b"d"]);
        let bytes = snapshot.in_flight().into_iter().map(|(to, bytes)| (to.uid.as_str(), bytes));
        assert_eq!(bytes.collect::<Vec<_>>(), [("other", 1), ("sum", 4)]);
        assert_eq!(snapshot.in_flight_bytes(), 5);
    }

    #[test]
    fn snapshots_of_two_tasks_have_the_rows_of_both() {
        let (mut first, mut second) = (Snapshot::default(), Snapshot::default());
        first.put_in_flight(to("sum"), channel(9, false), run(Deal::KeyGroup, &[b"a"]));
        second.put_in_flight(to("sum"), channel(9, true), run(Deal::KeyGroup, &[b"b"]));
        let hash64 = first.hash64();
        second.merge(first);
        assert_ne!(second.hash64(), hash64);
        let sum = to("sum");
        let frames = second.in_flight_to(&sum).flat_map(|run| &run.frames);
        assert_eq!(frames.collect::<Vec<_>>(), [b"a", b"b"]);
    }
}
