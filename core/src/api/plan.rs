//! A complete job on a number of shards: checked, explained, ready to run.

use std::fmt;

use crate::api::job::Job;
use crate::data::key_group::KeyGroupCount;
use crate::error::{Error, Result};
use crate::graph::{ExplainFormat, Explanation, Findings, PhysicalGraph, validate};
use crate::shard::program::Program;

/// A job on a number of shards.
#[derive(Clone)]
pub struct JobPlan {
    /// Chains, tasks and channels.
    pub graph: PhysicalGraph,
    /// What a host runs.
    pub program: Program,
    /// What may go wrong later; see [`Findings::warnings`].
    pub warnings: Vec<String>,
}

impl Job {
    /// Checks the job and plans its tasks.
    ///
    /// # Errors
    /// [`Error::Plan`] with every mistake that can be seen before the job runs.
    pub fn plan(&self, shard_count: u32, key_group_count: u32) -> Result<JobPlan> {
        let (findings, graph) = self.check(shard_count, key_group_count);
        let Findings { problems, warnings } = findings;
        let Some(graph) = graph else { return Err(Error::Plan { problems }) };
        let draft = self.draft_mut();
        let program = Program {
            name: graph.job_name.clone(),
            plans: (0..shard_count).map(|shard| graph.task_plans(shard)).collect(),
            factories: draft.factories(),
            source_names: draft.graph.sources().map(|node| node.name.clone()).collect(),
            uids: draft.graph.nodes.iter().map(|node| node.uid().to_string()).collect(),
        };
        Ok(JobPlan { graph, program, warnings })
    }

    /// Prints the plan on `shard_count` shards, with its mistakes if it has any.
    pub fn explain(&self, shard_count: u32, key_group_count: u32, format: ExplainFormat) -> String {
        let (findings, physical) = self.check(shard_count, key_group_count);
        let logical = &self.draft_mut().graph;
        let physical = physical.as_ref();
        Explanation { logical, physical, findings: &findings }.print(format)
    }

    /// Whether every source ends by itself; the job then does, too.
    pub fn is_bounded(&self) -> bool {
        self.draft_mut().is_bounded
    }

    fn check(&self, shard_count: u32, key_group_count: u32) -> (Findings, Option<PhysicalGraph>) {
        let logical = &self.draft_mut().graph;
        let findings = validate(logical, shard_count, key_group_count);
        let groups = KeyGroupCount::new(key_group_count).filter(|_| findings.problems.is_empty());
        let physical = groups.map(|groups| PhysicalGraph::new(logical, shard_count, groups));
        (findings, physical)
    }
}

impl fmt::Debug for JobPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobPlan").field("graph", &self.graph).finish_non_exhaustive()
    }
}
