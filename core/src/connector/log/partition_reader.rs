//! One partition while it is read: which segment, from which record on, and up to which.
//!
//! ```text
//! Choosing ──► Probing ──► Choosing ──► Reading ──end of the segment──► Reading the next
//!  a listing    where the   where to
//!               log ends    begin
//! ```
//!
//! *Probing*: who reads up to where the log ends now, or from there on, looks at the last segment
//! first. *Reading*: what is committed of a segment is what its slot says; but if the log has a
//! segment behind it, all of it up to where that begins. A listing may miss what is renamed
//! meanwhile, so the next segment is the one that names this as the one before it.
//!
//! It is a function of listings and answers, and asks for what it needs.

use std::path::{Path, PathBuf};

use millstream_storage::io::{FileDone, OpId};

use super::format::Slot;
use super::name::SegmentId;
use super::open_segment::{Answered, Limit, Next, OpenSegment, Wish};
use super::source::Start;
use crate::data::row::NO_EVENT_TIME;
use crate::error::Error;
use crate::operator::OperatorContext;

/// Listings in a row that may miss the next segment. A rename takes a moment; a second would be
/// long.
const MISSES_MAX: u32 = 50;

/// Where a partition is read from and to; in a snapshot by partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(super) struct Position {
    pub(super) partition: u32,
    /// Number of the next record; none if it is not known where to begin.
    pub(super) next: Option<u64>,
    /// Number behind the last one; none if there is none, or it is not known.
    pub(super) until: Option<u64>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct PartitionReader {
    directory: PathBuf,
    start: Start,
    /// What the log is to call its records' format.
    format: &'static str,
    /// Whether it ends where the log ends when it is looked at first.
    is_bounded: bool,
    position: Position,
    /// Records before this event time (ms) are passed over until there is one that is not.
    from_ms: i64,
    /// As the last listing has them.
    listed: Vec<SegmentId>,
    /// The next record when that listing was asked for.
    listed_at: Option<u64>,
    asked_at: Option<u64>,
    phase: Phase,
    /// The segment behind the one being read, or what may be it.
    following: Option<OpenSegment>,
    misses: u32,
    /// The last listing may have the segment behind the one being read.
    may_look: bool,
    /// Closes, and reads of what was closed meanwhile.
    retired: Vec<OpId>,
    /// What the output was told of the split.
    pub(super) said: Said,
}

/// What the output knows about a split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    Nothing,
    Active,
    Idle,
    Finished,
}

#[derive(Debug)]
enum Phase {
    Choosing,
    Probing(OpenSegment),
    Reading(OpenSegment),
}

/// What a partition has to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The record that [`PartitionReader::record`] shows.
    Record,
    /// Something must be answered first.
    Wait,
    /// The log must be listed first.
    MustList,
    /// Everything that is committed has been handed on.
    AtEnd,
    /// All that was to be read has been handed on.
    Finished,
}

impl PartitionReader {
    pub(super) fn new(
        (directory, format): (&Path, &'static str),
        (start, is_bounded): (Start, bool),
        at: Position,
    ) -> Self {
        Self {
            directory: directory.to_path_buf(),
            start,
            format,
            is_bounded,
            position: at,
            from_ms: NO_EVENT_TIME,
            listed: Vec::new(),
            listed_at: None,
            asked_at: None,
            phase: Phase::Choosing,
            following: None,
            misses: 0,
            may_look: false,
            retired: Vec::new(),
            said: Said::Nothing,
        }
    }

    /// Where it is.
    pub(super) fn position(&self) -> Position {
        self.position
    }

    /// Whether `op` is one of its operations.
    pub(super) fn is_waiting_for(&self, op: OpId) -> bool {
        let own = match &self.phase {
            Phase::Choosing => false,
            Phase::Probing(segment) | Phase::Reading(segment) => segment.is_waiting_for(op),
        };
        own || self.retired.contains(&op)
            || self.following.as_ref().is_some_and(|segment| segment.is_waiting_for(op))
    }

    /// The log is being listed.
    pub(super) fn on_list_asked(&mut self) {
        self.asked_at = self.position.next;
    }

    /// The log has these segments of the partition now.
    ///
    /// # Errors
    /// If what is to be read is not there.
    pub(super) fn on_listed(
        &mut self,
        listed: Vec<SegmentId>,
        ctx: &OperatorContext<'_>,
    ) -> Result<(), Error> {
        (self.listed, self.listed_at) = (listed, self.asked_at);
        self.may_look = true;
        if self.said == Said::Finished {
            return Ok(());
        }
        if let Phase::Choosing = self.phase {
            return self.choose(ctx);
        }
        if self.said == Said::Idle
            && let Phase::Reading(segment) = &mut self.phase
        {
            segment.look_again(ctx);
        }
        Ok(())
    }

    /// Opens the segment to begin with.
    fn choose(&mut self, ctx: &OperatorContext<'_>) -> Result<(), Error> {
        let (Some(first), Some(last)) = (self.listed.first(), self.listed.last()) else {
            return Ok(());
        };
        let is_to_probe = (self.is_bounded && self.position.until.is_none())
            || (self.position.next.is_none() && self.start == Start::Latest);
        if is_to_probe {
            self.phase = Phase::Probing(OpenSegment::open(*last, &self.directory, ctx));
            return Ok(());
        }
        let next = match (self.position.next, self.start) {
            (Some(next), _) | (None, Start::Record(next)) => Some(next),
            (None, Start::Time(from_ms)) => {
                self.from_ms = from_ms;
                None
            }
            (None, Start::Earliest | Start::Latest) => None,
        };
        let chosen = match next {
            Some(next) if next < first.base => return Err(self.removed(next, first.base)),
            Some(next) => {
                let before = self.listed.iter().rev().find(|segment| segment.base <= next);
                *before.expect("the first one is")
            }
            None => *first,
        };
        self.position.next = Some(next.unwrap_or(first.base));
        self.phase = Phase::Reading(OpenSegment::open(chosen, &self.directory, ctx));
        Ok(())
    }

    fn removed(&self, from: u64, to: u64) -> Error {
        let place = format!("{}, partition {}", self.directory.display(), self.position.partition);
        let reason = format!(
            "the records {from} to {} have been removed by the log's retention before they were \
             read; keep them longer where the log is written, or begin anew with another uid",
            to - 1
        );
        Error::Input { place, reason }
    }

    /// Opens the segment behind the one being read, if there is one.
    fn open_following(&mut self, ctx: &OperatorContext<'_>) -> Result<(), Error> {
        let Phase::Reading(segment) = &self.phase else { return Ok(()) };
        if self.following.is_some() || !self.may_look {
            return Ok(());
        }
        let Some(next) = self.listed.iter().find(|listed| segment.id() < **listed) else {
            return Ok(());
        };
        if self.misses == MISSES_MAX {
            let next = self.position.next.unwrap_or_default();
            return Err(self.removed(next, self.listed.last().map_or(next + 1, |it| it.base)));
        }
        self.following = Some(OpenSegment::open(*next, &self.directory, ctx));
        Ok(())
    }

    /// One of its operations was answered.
    ///
    /// # Errors
    /// If a segment cannot be read, or is damaged.
    pub(super) fn on_done(
        &mut self,
        done: FileDone,
        ctx: &OperatorContext<'_>,
    ) -> Result<(), Error> {
        if let Some(index) = self.retired.iter().position(|op| *op == done.op) {
            self.retired.swap_remove(index);
            return Ok(());
        }
        if self.following.as_ref().is_some_and(|segment| segment.is_waiting_for(done.op)) {
            return self.on_following_done(done, ctx);
        }
        let (Phase::Probing(segment) | Phase::Reading(segment)) = &mut self.phase else {
            unreachable!("the caller has looked")
        };
        match segment.on_done(done, ctx)? {
            // The next listing says what is there now.
            Answered::Gone => self.phase = Phase::Choosing,
            Answered::Yes => {
                if let Some(head) = segment.head().filter(|head| head.format != self.format) {
                    return Err(other_format(&self.directory, &head.format, self.format, ctx));
                }
            }
        }
        if let Phase::Probing(segment) = &mut self.phase
            && let Some(Slot { end, .. }) = segment.slot()
        {
            self.on_probed(end, ctx)?;
        }
        Ok(())
    }

    /// The log ends before record `end`.
    fn on_probed(&mut self, end: u64, ctx: &OperatorContext<'_>) -> Result<(), Error> {
        let Phase::Probing(mut segment) = std::mem::replace(&mut self.phase, Phase::Choosing)
        else {
            unreachable!("the caller has looked")
        };
        if self.is_bounded {
            self.position.until = Some(end);
        }
        if self.position.next.is_none() && self.start == Start::Latest {
            segment.pass_committed();
            self.position.next = Some(end);
            self.phase = Phase::Reading(segment);
            return Ok(());
        }
        self.close(&segment, ctx);
        self.choose(ctx)
    }

    fn on_following_done(
        &mut self,
        done: FileDone,
        ctx: &OperatorContext<'_>,
    ) -> Result<(), Error> {
        let following = self.following.as_mut().expect("the caller has looked");
        if let Answered::Gone = following.on_done(done, ctx)? {
            self.following = None;
            self.miss();
            return Ok(());
        }
        let Phase::Reading(segment) = &self.phase else { unreachable!("only then is there one") };
        let Some(head) = following.head() else { return Ok(()) };
        if head.previous == Some(segment.id()) {
            self.misses = 0;
        } else {
            self.miss();
            let other = self.following.take().expect("just looked at");
            self.close(&other, ctx);
        }
        Ok(())
    }

    /// Nothing more will be read.
    pub(super) fn finish(&mut self, ctx: &OperatorContext<'_>) {
        let (Phase::Probing(read) | Phase::Reading(read)) =
            std::mem::replace(&mut self.phase, Phase::Choosing)
        else {
            return;
        };
        self.close(&read, ctx);
        if let Some(following) = self.following.take() {
            self.close(&following, ctx);
        }
    }

    /// The last listing does not have the next segment.
    fn miss(&mut self) {
        self.misses += 1;
        self.may_look = false;
    }

    fn close(&mut self, segment: &OpenSegment, ctx: &OperatorContext<'_>) {
        self.retired.extend(segment.waiting());
        self.retired.push(segment.close(ctx));
    }

    /// Goes on to the next record, or says why there is none.
    ///
    /// # Errors
    /// If a segment is damaged.
    pub(super) fn step(&mut self, ctx: &OperatorContext<'_>) -> Result<Step, Error> {
        loop {
            let until = self.position.until;
            if until.is_some_and(|until| self.position.next >= Some(until)) {
                return Ok(Step::Finished);
            }
            self.open_following(ctx)?;
            let base = self.following_base();
            let Phase::Reading(segment) = &mut self.phase else { return Ok(Step::Wait) };
            let Some(slot) = segment.slot() else { return Ok(Step::Wait) };
            let from = self.position.next.expect("it is being read");
            let is_before = slot.last_time_ms < self.from_ms && Some(slot.end) == base;
            if base.is_some_and(|base| base <= from || is_before) {
                self.go_on_in_following(ctx);
                continue;
            }
            // A crash may have kept the last commit out of the slot.
            let (end, bytes) = match base {
                Some(base) if slot.end < base => (base, None),
                _ => (slot.end, Some(slot.bytes)),
            };
            let wish = Wish { from, from_ms: self.from_ms, limit: Limit { end, bytes } };
            match segment.next(wish, ctx)? {
                Next::Wait => return Ok(Step::Wait),
                Next::Record => {
                    self.position.next = Some(segment.record().0 + 1);
                    self.from_ms = NO_EVENT_TIME;
                    return Ok(Step::Record);
                }
                Next::End => {
                    self.position.next = Some(from.max(end));
                    let is_last = base.is_none() && until.is_none_or(|until| end < until);
                    if is_last {
                        return Ok(self.at_end(ctx));
                    }
                }
            }
        }
    }

    /// Everything is read that was known to be committed. That there is no more for now is evident
    /// only if both segment and listing were asked for after that.
    fn at_end(&mut self, ctx: &OperatorContext<'_>) -> Step {
        let Phase::Reading(segment) = &mut self.phase else { unreachable!("it is being read") };
        let has_more = self.listed.last().is_some_and(|last| segment.id() < *last);
        if has_more || (segment.is_evident() && self.listed_at == self.position.next) {
            return if has_more { Step::Wait } else { Step::AtEnd };
        }
        if !segment.is_evident() {
            segment.look_again(ctx);
        }
        Step::MustList
    }

    /// The record that was found last: its number, its event time (ms) and its bytes.
    pub(super) fn record(&self) -> (u64, i64, &[u8]) {
        let Phase::Reading(segment) = &self.phase else { unreachable!("it was just found") };
        segment.record()
    }

    /// The first record of the next segment, if there is one.
    fn following_base(&self) -> Option<u64> {
        // Once its head was read it is known to be the next.
        self.following.as_ref().filter(|it| it.head().is_some()).map(|it| it.id().base)
    }

    /// The segment being read has been read.
    fn go_on_in_following(&mut self, ctx: &OperatorContext<'_>) {
        let following = self.following.take().expect("the caller has looked");
        self.position.next = self.position.next.max(Some(following.id().base));
        if let Phase::Reading(read) = std::mem::replace(&mut self.phase, Phase::Reading(following))
        {
            self.close(&read, ctx);
        }
        self.may_look = true;
    }
}

/// The records of a log are not what the source reads.
fn other_format(directory: &Path, is: &str, not: &str, ctx: &OperatorContext<'_>) -> Error {
    let (name, directory) = (ctx.name(), directory.display());
    let problem = format!("{name}: the records of the log {directory} are {is}, not {not}");
    Error::Plan { problems: vec![problem] }
}
