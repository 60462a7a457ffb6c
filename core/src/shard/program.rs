//! A job ready to run: what every host is given.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use crate::data::key_group::KeyGroupCount;
use crate::error::Error;
use crate::graph::plan::TaskPlan;
use crate::shard::Shard;
use crate::state::shard_store::ShardStoreConfig;
use crate::state::snapshot::RunTo;
use crate::task::Task;

/// Makes one task of a chain: from copies of the user's operators, which is the user's code.
pub type TaskFactory = Arc<dyn Fn(TaskPlan) -> Result<Box<dyn Task>, Error> + Send + Sync>;

/// A job's tasks on every shard, and how to make them. Any number of times: each run, and each seed
/// of a simulation, makes its own.
#[derive(Clone)]
pub struct Program {
    /// The job's name.
    pub name: String,
    /// The tasks of every shard, in the order of their chains (upstream first).
    pub plans: Vec<Vec<TaskPlan>>,
    /// How to make a task, by the number of its chain.
    pub factories: Vec<TaskFactory>,
    /// Names of the sources, by their number.
    pub source_names: Vec<String>,
    /// Uids of all sources, operators and sinks.
    pub uids: Vec<String>,
}

impl Program {
    /// How many shards it runs on.
    pub fn shard_count(&self) -> u32 {
        u32::try_from(self.plans.len()).expect("far fewer shards than 2^32")
    }

    /// The inputs that tasks read.
    pub fn inputs(&self) -> BTreeSet<RunTo> {
        let plans = self.plans.iter().flatten();
        let inputs = plans.flat_map(|plan| {
            (0..plan.inputs.len()).map(|input| RunTo { uid: plan.uid.clone(), input: input as u8 })
        });
        inputs.collect()
    }

    /// The key groups that shard `index` may keep state for, of how many: a range that has those of
    /// all its tasks. None if it has no task whose rows come by key.
    pub fn key_groups(&self, index: u32) -> Option<(Range<u32>, KeyGroupCount)> {
        let plans = &self.plans[index as usize];
        let ranges = plans.iter().filter_map(TaskPlan::key_groups);
        let range = ranges.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end))?;
        Some((range, plans[0].key_group_count))
    }

    /// Shard `index`, not opened; with a `store` if its tasks may have state that has no room in
    /// memory. Tasks stay on the thread that calls this.
    ///
    /// # Errors
    /// [`Error::Panicked`] if an operator's `Clone` does.
    pub fn shard(
        &self,
        index: u32,
        start_ms: i64,
        store: Option<ShardStoreConfig>,
    ) -> Result<Shard, Error> {
        let plans = &self.plans[index as usize];
        let task = |plan: &TaskPlan| self.factories[usize::from(plan.chain_index)](plan.clone());
        let tasks: Result<Vec<_>, Error> = plans.iter().map(task).collect();
        let shard = Shard::new(index, start_ms, tasks?);
        Ok(match store {
            Some(config) => shard.with_store(config),
            None => shard,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_has_the_key_groups_of_its_keyed_tasks() {
        let plan = |task_index, parallelism, is_keyed| TaskPlan {
            chain_index: 0,
            name: String::new(),
            uid: String::new(),
            task_index,
            parallelism,
            key_group_count: KeyGroupCount::new(12).expect("in range"),
            is_keyed,
            source_index: None,
            inputs: Vec::new(),
            outputs: Vec::new(),
        };
        let program = |plans| Program {
            name: String::new(),
            plans: vec![plans],
            factories: Vec::new(),
            source_names: Vec::new(),
            uids: Vec::new(),
        };
        let check = |plans, expected| {
            let found = program(plans).key_groups(0);
            assert_eq!(found.map(|(range, count)| (range, count.get())), expected);
        };
        check(vec![], None);
        check(vec![plan(0, 1, false)], None);
        check(vec![plan(0, 1, false), plan(1, 4, true)], Some((3..6, 12)));
        check(vec![plan(1, 4, true), plan(0, 1, true)], Some((0..12, 12)));
        check(vec![plan(1, 6, true), plan(1, 2, true)], Some((2..12, 12)));
    }
}
