//! The simulated paths between shards.
//!
//! Every channel is FIFO in each direction, elements one way and credits the other; between
//! channels anything may overtake anything. Each descriptor takes a random time; now and then a
//! path *clogs* and everything on it waits.
//!
//! It also is the referee of what the exchange promises: a watermark that falls, anything after the
//! end of a stream, or more batches on their way than credits is a bug, found where it happens.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::data::element::Control;
use crate::exchange::descriptor::Descriptor;
use crate::graph::plan::ChannelId;
use crate::limits::CHANNEL_CREDIT_FRAMES;
use crate::sim::rng::Rng;

/// How bad the paths are.
#[derive(Debug, Clone)]
pub struct NetworkFaults {
    /// A descriptor takes at least this long.
    pub delay_min: Duration,
    /// And at most this long, if nothing is clogged.
    pub delay_max: Duration,
    /// One descriptor in this many clogs its path; 0 means none.
    pub clog_one_in: u64,
    /// A clog lasts at most this long.
    pub clog_max: Duration,
}

impl Default for NetworkFaults {
    fn default() -> Self {
        Self {
            delay_min: Duration::from_nanos(200),
            delay_max: Duration::from_micros(50),
            clog_one_in: 200,
            clog_max: Duration::from_millis(5),
        }
    }
}

/// What is on its way.
#[derive(Debug)]
pub struct Network {
    rng: Rng,
    faults: NetworkFaults,
    paths: BTreeMap<PathId, Path>,
    referee: BTreeMap<ChannelId, Referee>,
}

/// Receiving shard, channel, sending shard, and whether it carries credits.
type PathId = (u32, ChannelId, u32, bool);

#[derive(Debug, Default)]
struct Path {
    queue: VecDeque<(Duration, u32, Descriptor)>,
    last_due: Duration,
}

#[derive(Debug)]
struct Referee {
    watermark_ms: i64,
    in_flight: u32,
    has_ended: bool,
}

impl Network {
    /// Empty paths.
    pub fn new(rng: Rng, faults: NetworkFaults) -> Self {
        Self { rng, faults, paths: BTreeMap::new(), referee: BTreeMap::new() }
    }

    /// Shard `from` sends to shard `to`.
    ///
    /// # Panics
    /// If the descriptor breaks a promise of the exchange.
    pub fn send(&mut self, now: Duration, from: u32, to: u32, descriptor: Descriptor) {
        let (channel, is_credit) = check(&mut self.referee, &descriptor);
        let mut delay = self.rng.duration(&(self.faults.delay_min..self.faults.delay_max));
        if self.faults.clog_one_in > 0 && self.rng.below(self.faults.clog_one_in) == 0 {
            delay += self.rng.duration(&(Duration::ZERO..self.faults.clog_max));
        }
        let path = self.paths.entry((to, channel, from, is_credit)).or_default();
        path.last_due = path.last_due.max(now + delay);
        path.queue.push_back((path.last_due, from, descriptor));
    }

    /// Appends what has reached shard `to` by `now`, in a random order of channels.
    pub fn receive(&mut self, now: Duration, to: u32, received: &mut Vec<(u32, Descriptor)>) {
        let (from, until) = paths_to(to);
        let due = |path: &Path| path.queue.front().is_some_and(|(due, ..)| *due <= now);
        loop {
            let mut ready = self.paths.range_mut(from..=until).filter(|(_, path)| due(path));
            let count = ready.by_ref().count() as u64;
            if count == 0 {
                return;
            }
            let pick = self.rng.below(count) as usize;
            let mut ready = self.paths.range_mut(from..=until).filter(|(_, path)| due(path));
            if let Some((_, path)) = ready.nth(pick)
                && let Some((_, from, descriptor)) = path.queue.pop_front()
            {
                received.push((from, descriptor));
            }
        }
    }

    /// When something reaches shard `to` next.
    pub fn next_due(&self, to: u32) -> Option<Duration> {
        let (from, until) = paths_to(to);
        let paths = self.paths.range(from..=until);
        paths.filter_map(|(_, path)| path.queue.front().map(|(due, ..)| *due)).min()
    }

    /// Frames that were sent and whose buffer has not been sent back.
    pub fn in_flight_count(&self) -> u32 {
        self.referee.values().map(|referee| referee.in_flight).sum()
    }
}

/// The first and the last path that may lead to shard `to`.
fn paths_to(to: u32) -> (PathId, PathId) {
    ((to, ChannelId(0), 0, false), (to, ChannelId(u32::MAX), u32::MAX, true))
}

/// Holds `descriptor` against what its channel has carried so far. Answers the channel, and whether
/// it goes in the credits' direction.
fn check(referee: &mut BTreeMap<ChannelId, Referee>, descriptor: &Descriptor) -> (ChannelId, bool) {
    // What is about no channel has one of its own between each two shards.
    let Some(channel) = descriptor.channel() else { return (ChannelId(u32::MAX), false) };
    let referee = referee.entry(channel).or_insert(Referee {
        watermark_ms: i64::MIN,
        in_flight: 0,
        has_ended: false,
    });
    if let Descriptor::Credit { .. } = descriptor {
        assert!(0 < referee.in_flight, "{channel:?}: a credit for nothing");
        referee.in_flight -= 1;
        return (channel, true);
    }
    assert!(!referee.has_ended, "{channel:?}: {descriptor:?} after its end");
    match descriptor {
        Descriptor::Frame { .. } => {
            referee.in_flight += 1;
            assert!(referee.in_flight <= CHANNEL_CREDIT_FRAMES, "{channel:?}: beyond its credits");
        }
        Descriptor::Control { control: Control::Watermark(watermark_ms), .. } => {
            assert!(referee.watermark_ms < *watermark_ms, "{channel:?}: the watermark fell");
            referee.watermark_ms = *watermark_ms;
        }
        Descriptor::Control { control: Control::EndOfStream, .. } => referee.has_ended = true,
        Descriptor::Control { .. }
        | Descriptor::Credit { .. }
        | Descriptor::SourceWatermark { .. } => {}
    }
    (channel, false)
}
