//! How long turns may take, and whose turn it is when one took longer.
//!
//! A task may take [`INPUT_BUDGET_NS`] for each of its inputs; a turn what its tasks may take
//! together, and never less than [`TURN_STALL_NS`]. A shard reads no clock, so it knows how long a
//! turn took, not which task did. After a turn of several tasks that took too long, each of them
//! has its next turn alone:
//!
//! ```text
//! together ──too long──► suspect, alone ──as it should──────────────────► together
//!     ▲                         └──too long──► throttled, alone ──┐  fewer rows at once
//!     └──────────────────────────── all its rows in its time ◄────┘
//! ```
//!
//! So a slow operator is given fewer rows, down to one, and nobody else is. If every suspect proves
//! to be quick, the core was with somebody else meanwhile.
//!
//! Not here: what a task does with its rows (`task/`), how time is measured (the host).

use std::time::Duration;

use crate::limits::{INPUT_BUDGET_NS, INPUT_BUDGET_RECORDS, TURN_STALL_NS};

/// From one report of stalls to the next: someone reads them.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// The tasks of a shard, and how they keep to their time.
#[derive(Debug)]
pub(super) struct Pace {
    tasks: Vec<TaskPace>,
    /// Tasks that have their turn alone: suspects and throttled ones.
    lone_count: usize,
    /// The first of the lone tasks that have not had their turn since the last common one.
    next_lone: usize,
    /// Who has run in this turn.
    ran: Vec<usize>,
    /// A turn that took too long, while it is not known because of whom.
    unexplained_ns: Option<u64>,
    stall_count: u64,
    /// Before this time no stall is reported.
    silent_until: Duration,
}

#[derive(Debug)]
struct TaskPace {
    /// What a turn of its own may take.
    budget_ns: u64,
    /// Most rows that it takes from an input at once.
    row_limit: u32,
    is_suspect: bool,
}

/// Who runs in a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Every task with something to do, apart from the lone ones.
    Together,
    /// One task.
    Alone(usize),
}

/// Something to tell people about turns that took too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stall {
    /// How long, nanoseconds.
    pub(super) turn_ns: u64,
    /// Because of whom; nobody of this shard if there is none.
    pub(super) task: Option<usize>,
}

impl TaskPace {
    fn is_lone(&self) -> bool {
        self.is_suspect || self.row_limit < INPUT_BUDGET_RECORDS
    }
}

impl Pace {
    /// Tasks with so many input channels each; a source counts as one.
    pub(super) fn new(channel_counts: impl Iterator<Item = usize>) -> Self {
        let task = |channel_count: usize| TaskPace {
            budget_ns: channel_count.max(1) as u64 * INPUT_BUDGET_NS,
            row_limit: INPUT_BUDGET_RECORDS,
            is_suspect: false,
        };
        Self {
            tasks: channel_counts.map(task).collect(),
            lone_count: 0,
            next_lone: 0,
            ran: Vec::new(),
            unexplained_ns: None,
            stall_count: 0,
            silent_until: Duration::ZERO,
        }
    }

    /// Who runs in the turn that begins: one lone task after the other, then the others together.
    pub(super) fn begin(&mut self, is_due: impl Fn(usize) -> bool) -> Turn {
        self.ran.clear();
        if self.lone_count == 0 {
            return Turn::Together;
        }
        let count = self.tasks.len();
        let lone = |number: &usize| self.tasks[*number].is_lone() && is_due(*number);
        let mut next = (self.next_lone..count).find(lone);
        if next.is_none() {
            let has_others = (0..count).any(|n| !self.tasks[n].is_lone() && is_due(n));
            next = if has_others { None } else { (0..self.next_lone).find(lone) };
        }
        self.next_lone = next.map_or(0, |number| number + 1);
        next.map_or(Turn::Together, Turn::Alone)
    }

    /// No task runs in the turn that begins.
    pub(super) fn rest(&mut self) {
        self.ran.clear();
    }

    /// Whether `number` waits for a turn of its own.
    pub(super) fn is_lone(&self, number: usize) -> bool {
        self.tasks[number].is_lone()
    }

    /// Task `number` runs now. Answers how many rows it may take from an input at once.
    pub(super) fn run(&mut self, number: usize) -> u32 {
        self.ran.push(number);
        self.tasks[number].row_limit
    }

    /// Turns that took too long.
    pub(super) fn stall_count(&self) -> u64 {
        self.stall_count
    }

    /// The turn is over at `now` and took `took`. Answers what people should be told.
    pub(super) fn end(&mut self, now: Duration, took: Duration) -> Option<Stall> {
        let turn_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let budget_ns: u64 = self.ran.iter().map(|number| self.tasks[*number].budget_ns).sum();
        let is_stall = TURN_STALL_NS.max(budget_ns) < turn_ns;
        self.stall_count += u64::from(is_stall);
        let stall = match self.ran[..] {
            [] => None,
            [number] => self.on_lone_turn(number, turn_ns, is_stall),
            _ if is_stall => {
                for number in &self.ran {
                    self.tasks[*number].is_suspect = true;
                }
                self.unexplained_ns = self.unexplained_ns.max(Some(turn_ns));
                self.count_lone();
                None
            }
            _ => None,
        };
        stall.filter(|_| self.may_speak(now))
    }

    /// Adapts the rows of the task that ran alone to what it took.
    fn on_lone_turn(&mut self, number: usize, turn_ns: u64, is_stall: bool) -> Option<Stall> {
        let task = &mut self.tasks[number];
        let was_suspect = std::mem::take(&mut task.is_suspect);
        let is_slow = task.budget_ns < turn_ns;
        if is_slow {
            task.row_limit = (task.row_limit / 2).max(1);
        } else if turn_ns < task.budget_ns / 2 {
            task.row_limit = (task.row_limit * 2).min(INPUT_BUDGET_RECORDS);
        }
        self.count_lone();
        if is_slow && (is_stall || was_suspect) {
            let turn_ns = self.unexplained_ns.take().unwrap_or_default().max(turn_ns);
            return Some(Stall { turn_ns, task: Some(number) });
        }
        let is_cleared = self.tasks.iter().all(|task| !task.is_suspect);
        let turn_ns = if is_cleared { self.unexplained_ns.take()? } else { return None };
        Some(Stall { turn_ns, task: None })
    }

    fn count_lone(&mut self) {
        self.lone_count = self.tasks.iter().filter(|task| task.is_lone()).count();
    }

    fn may_speak(&mut self, now: Duration) -> bool {
        let may_speak = self.silent_until <= now;
        if may_speak {
            self.silent_until = now + REPORT_EVERY;
        }
        may_speak
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the tests' tasks take for a row, in nanoseconds, and the pace they keep.
    struct Tasks {
        pace: Pace,
        row_ns: Vec<u64>,
        now: Duration,
        told: Vec<Stall>,
    }

    impl Tasks {
        /// Tasks with one input each, which always has more rows.
        fn new(row_ns: &[u64]) -> Self {
            let pace = Pace::new(row_ns.iter().map(|_| 1));
            Self { pace, row_ns: row_ns.to_vec(), now: Duration::ZERO, told: Vec::new() }
        }

        /// One turn; who ran, with their rows.
        fn turn(&mut self) -> Vec<(usize, u32)> {
            let ran = match self.pace.begin(|_| true) {
                Turn::Alone(number) => vec![number],
                Turn::Together => {
                    let all = 0..self.row_ns.len();
                    all.filter(|number| !self.pace.is_lone(*number)).collect()
                }
            };
            let rows: Vec<(usize, u32)> =
                ran.into_iter().map(|number| (number, self.pace.run(number))).collect();
            let took = |&(number, rows): &(usize, u32)| u64::from(rows) * self.row_ns[number];
            let took = Duration::from_nanos(rows.iter().map(took).sum());
            self.now += took;
            self.told.extend(self.pace.end(self.now, took));
            rows
        }
    }

    #[test]
    fn a_turn_of_many_tasks_that_each_keep_to_their_time_is_no_stall() {
        // 20 tasks of 15 µs each: far more than one may take, and all as it should be.
        let mut tasks = Tasks::new(&[60; 20]);
        for _ in 0..100 {
            assert_eq!(tasks.turn().len(), 20);
        }
        assert_eq!((tasks.pace.stall_count(), tasks.told.len()), (0, 0));
    }

    #[test]
    fn only_the_slow_task_is_given_fewer_rows_and_it_is_named() {
        let mut tasks = Tasks::new(&[20, 20, 10_000, 20]);
        (0..100).for_each(|_| drop(tasks.turn()));
        let limits: Vec<u32> = tasks.pace.tasks.iter().map(|task| task.row_limit).collect();
        assert_eq!(limits, [256, 256, 2, 256], "2 rows of 10 µs are what it may take");
        assert_eq!(tasks.told.len(), 1, "it is said once");
        assert_eq!(tasks.told[0].task, Some(2));
        assert_eq!(tasks.turn(), [(2, 2)]);
        assert_eq!(tasks.turn(), [(0, 256), (1, 256), (3, 256)], "the others in between");
    }

    #[test]
    fn a_task_that_is_quick_again_gets_all_its_rows() {
        let mut tasks = Tasks::new(&[20, 10_000]);
        (0..100).for_each(|_| drop(tasks.turn()));
        tasks.row_ns[1] = 20;
        (0..100).for_each(|_| drop(tasks.turn()));
        assert_eq!(tasks.turn(), [(0, 256), (1, 256)]);
    }

    #[test]
    fn if_nobody_is_slow_alone_nobody_of_the_shard_is_blamed() {
        let mut pace = Pace::new([1, 1].into_iter());
        let turn = |pace: &mut Pace, us: u64| {
            let ran = match pace.begin(|_| true) {
                Turn::Alone(number) => vec![number],
                Turn::Together => vec![0, 1],
            };
            for number in ran {
                pace.run(number);
            }
            pace.end(Duration::from_secs(1), Duration::from_micros(us))
        };
        assert_eq!(turn(&mut pace, 4_000), None, "first it is looked into");
        assert_eq!(turn(&mut pace, 10), None);
        assert_eq!(turn(&mut pace, 10), Some(Stall { turn_ns: 4_000_000, task: None }));
        assert_eq!(pace.begin(|_| true), Turn::Together);
        assert_eq!(pace.stall_count(), 1);
    }

    #[test]
    fn stalls_are_told_now_and_then_and_all_are_counted() {
        let mut tasks = Tasks::new(&[1_000_000]);
        while tasks.now < 3 * REPORT_EVERY {
            tasks.turn();
        }
        assert_eq!(tasks.told.len(), 3);
        assert!(tasks.pace.stall_count() > 1_000);
    }

    #[test]
    fn a_lone_task_without_work_keeps_nobody_from_running() {
        let mut pace = Pace::new([1, 1].into_iter());
        pace.tasks[0].is_suspect = true;
        pace.count_lone();
        assert_eq!(pace.begin(|number| number == 1), Turn::Together);
        assert_eq!(pace.begin(|number| number == 0), Turn::Alone(0));
        assert_eq!(pace.begin(|number| number == 0), Turn::Alone(0), "there is nobody else");
        assert_eq!(pace.begin(|_| true), Turn::Together, "it has just had its turn");
    }
}
