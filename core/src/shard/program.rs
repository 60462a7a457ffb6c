//! A job ready to run: what every host is given.

use std::sync::Arc;

use crate::error::Error;
use crate::graph::plan::TaskPlan;
use crate::shard::Shard;
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
}

impl Program {
    /// How many shards it runs on.
    pub fn shard_count(&self) -> u32 {
        u32::try_from(self.plans.len()).expect("far fewer shards than 2^32")
    }

    /// Shard `index`, not opened. Tasks stay on the thread that calls this.
    ///
    /// # Errors
    /// [`Error::Panicked`] if an operator's `Clone` does.
    pub fn shard(&self, index: u32, start_ms: i64) -> Result<Shard, Error> {
        let plans = &self.plans[index as usize];
        let task = |plan: &TaskPlan| self.factories[usize::from(plan.chain_index)](plan.clone());
        let tasks: Result<Vec<_>, Error> = plans.iter().map(task).collect();
        Ok(Shard::new(index, start_ms, tasks?))
    }
}
