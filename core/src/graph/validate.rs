//! Every mistake of a job that can be seen before it runs, all at once.
//!
//! A *problem* keeps the job from starting; a *warning* does not. Each is one sentence that names
//! the operator and says what to do.
//!
//! Not here: mistakes that types already exclude (an unkeyed window, records of the wrong type).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, PathBuf};

use crate::data::row::Origin;
use crate::graph::facts::{SideOutputFact, SideOutputFacts};
use crate::graph::logical::{ChainEnd, Edge, LogicalGraph, Node, NodeId, NodeKind};
use crate::graph::plan::Partitioner;
use crate::limits::{CHAIN_COUNT_MAX, KEY_GROUP_COUNT_MAX, SHARD_COUNT_MAX};

/// What was found wrong with a job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use]
pub struct Findings {
    /// The job cannot run with these.
    pub problems: Vec<String>,
    /// It can run, but probably should not for long.
    pub warnings: Vec<String>,
}

/// Checks a complete job that is to run on `shard_count` shards.
pub fn validate(graph: &LogicalGraph, shard_count: u32, key_group_count: u32) -> Findings {
    let mut findings = Findings::default();
    check_place(shard_count, key_group_count, &mut findings);
    check_ends(graph, &mut findings);
    check_names(graph, &mut findings);
    check_nodes(graph, &mut findings);
    check_directories(graph, &mut findings);
    check_watermarks(graph, &mut findings);
    check_side_outputs(graph, &mut findings);
    check_sizes(graph, shard_count, &mut findings);
    findings
}

/// Checks the numbers that the whole job runs with.
fn check_place(shard_count: u32, key_group_count: u32, findings: &mut Findings) {
    let problems = &mut findings.problems;
    if !(1..=SHARD_COUNT_MAX).contains(&shard_count) {
        problems.push(format!("{shard_count} shards: a node has 1 to {SHARD_COUNT_MAX}"));
    }
    if !(1..=KEY_GROUP_COUNT_MAX).contains(&key_group_count) {
        problems
            .push(format!("{key_group_count} key groups: a job has 1 to {KEY_GROUP_COUNT_MAX}"));
    }
    if key_group_count < shard_count {
        problems.push(format!(
            "{shard_count} shards cannot share {key_group_count} key groups: every shard owns at \
             least one; use fewer shards or more key groups"
        ));
    }
}

/// Checks that rows come from somewhere, and that all of them go somewhere.
fn check_ends(graph: &LogicalGraph, findings: &mut Findings) {
    let problems = &mut findings.problems;
    if graph.sources().next().is_none() {
        problems.push("the job has no source: begin with .source(name, ..)".to_string());
    }
    for id in graph.chain_ids() {
        let chain = graph.chain(id);
        let is_read = graph.edges_out_of(id).any(|edge| edge.tag.is_none());
        let is_dangling = match chain.end {
            ChainEnd::Dangling => true,
            ChainEnd::Edges => !is_read,
            ChainEnd::Nothing => false,
        };
        match chain.nodes.last() {
            Some(last) if is_dangling => problems.push(format!(
                "nobody reads what {} gives: end it with .sink(..), or with .discard() if nobody \
                 needs it",
                quoted(graph.node(*last))
            )),
            None if is_dangling => problems.push(format!(
                "nobody reads the rows of {}: end them with .sink(..), or with .discard() if \
                 nobody needs them",
                writers_of(graph, graph.edges_into(id))
            )),
            _ => {}
        }
    }
}

/// Checks that every operator's state can be told from every other's.
fn check_names(graph: &LogicalGraph, findings: &mut Findings) {
    let mut by_uid: BTreeMap<&str, Vec<&Node>> = BTreeMap::new();
    for node in &graph.nodes {
        by_uid.entry(node.uid()).or_default().push(node);
    }
    for (uid, nodes) in by_uid {
        if uid.trim().is_empty() {
            let verbs: BTreeSet<&str> = nodes.iter().map(|node| node.verb).collect();
            let verbs = verbs.into_iter().collect::<Vec<_>>().join(", ");
            findings.problems.push(format!("an empty name or uid ({verbs}): use a telling one"));
        } else if let [_, _, ..] = nodes.as_slice() {
            let count = nodes.len();
            findings.problems.push(if nodes.iter().all(|node| node.uid.is_some()) {
                let names = nodes.iter().map(|node| quoted(node)).collect::<Vec<_>>().join(", ");
                format!("{count} operators have the uid \"{uid}\": {names}; give each its own")
            } else {
                format!(
                    "{count} operators are named \"{uid}\": give all but one another name, or a \
                     uid with .uid(..)"
                )
            });
        }
    }
}

/// Checks that no two sinks write to one directory: they would take each other's file names.
fn check_directories(graph: &LogicalGraph, findings: &mut Findings) {
    let mut by_directory: BTreeMap<PathBuf, Vec<&Node>> = BTreeMap::new();
    for node in &graph.nodes {
        if let Some(directory) = &node.facts.directory {
            let parts = directory.components().filter(|part| *part != Component::CurDir);
            by_directory.entry(parts.collect()).or_default().push(node);
        }
    }
    for (directory, nodes) in by_directory {
        if let [_, _, ..] = nodes.as_slice() {
            let names = nodes.iter().map(|node| quoted(node)).collect::<Vec<_>>().join(" and ");
            findings.problems.push(format!(
                "{names} write to the same directory, {}: give each a directory of its own",
                directory.display()
            ));
        }
    }
}

/// Checks each operator by what it says about itself.
fn check_nodes(graph: &LogicalGraph, findings: &mut Findings) {
    for node in &graph.nodes {
        let facts = &node.facts;
        for problem in &facts.problems {
            findings.problems.push(format!("{}: {problem}", quoted(node)));
        }
        if facts.is_keyed && !node.has_keyed_input {
            findings.problems.push(format!(
                "{} keeps state or timers per key, but its input is not keyed: call .key_by(..) \
                 before it",
                quoted(node)
            ));
        }
        for state in &facts.unbounded_states {
            findings.warnings.push(format!(
                "{} keeps state \"{state}\" for ever, so it grows with every new key: {}",
                quoted(node),
                facts.forgets_by.unwrap_or("give it a time to live, or use a window")
            ));
        }
        if facts.is_stateful && !node.is_named && node.uid.is_none() {
            findings.warnings.push(format!(
                "{} keeps state under a name that was made from its place in the job, and another \
                 operator may have that place tomorrow: give it a name or a uid",
                quoted(node)
            ));
        }
    }
}

/// Checks that whoever waits for event time will see it pass.
fn check_watermarks(graph: &LogicalGraph, findings: &mut Findings) {
    let unmarked = unmarked_sources(graph);
    for (node, sources) in graph.nodes.iter().zip(&unmarked) {
        if let Some((what, sources)) = node.facts.needs_watermarks.zip(sources.as_ref()) {
            findings.problems.push(format!(
                "{}: {what} need watermarks, and rows reach it without any from {sources}: call \
                 .watermark(..) in between",
                quoted(node)
            ));
        }
        if node.facts.makes_watermarks {
            check_place_of_watermarks(graph, node, findings);
        }
    }
}

/// Checks that watermarks are made where every split is in its own order, and once.
fn check_place_of_watermarks(graph: &LogicalGraph, node: &Node, findings: &mut Findings) {
    let nodes = graph.chain(node.chain).nodes.iter().map(|id| graph.node(*id));
    let before: Vec<&Node> = nodes.take_while(|other| other.id != node.id).collect();
    if before.first().is_none_or(|first| first.kind != NodeKind::Source) {
        findings.problems.push(format!(
            "{} stands behind an exchange, where the records of all splits are mixed: call \
             .watermark(..) directly behind the source",
            quoted(node)
        ));
    }
    if let Some(earlier) = before.iter().rev().find(|other| other.facts.makes_watermarks) {
        findings.problems.push(format!(
            "{} stands behind {}, which has made the watermarks already: keep one of them",
            quoted(node),
            quoted(earlier)
        ));
    }
}

/// By node: the sources, as a user would point at them, from which a row can reach it without
/// passing an operator that makes watermarks.
pub fn unmarked_sources(graph: &LogicalGraph) -> Vec<Option<String>> {
    let mut behind: Vec<BTreeSet<NodeId>> = vec![BTreeSet::new(); graph.nodes.len()];
    let mut before = behind.clone();
    for id in graph.chain_ids() {
        let mut sources: BTreeSet<NodeId> = BTreeSet::new();
        for edge in graph.edges_into(id) {
            sources.extend(&behind[edge.from.0 as usize]);
        }
        for node_id in &graph.chain(id).nodes {
            let node = graph.node(*node_id);
            if node.kind == NodeKind::Source {
                sources.insert(*node_id);
            }
            before[node_id.0 as usize].clone_from(&sources);
            if node.facts.makes_watermarks {
                sources.clear();
            }
            behind[node_id.0 as usize].clone_from(&sources);
        }
    }
    let names = |sources: BTreeSet<NodeId>| {
        let names = sources.iter().map(|source| quoted(graph.node(*source)));
        (!sources.is_empty()).then(|| names.collect::<Vec<_>>().join(", "))
    };
    before.into_iter().map(names).collect()
}

/// Checks that the side outputs that are read are written, in one type.
fn check_side_outputs(graph: &LogicalGraph, findings: &mut Findings) {
    for (index, edge) in graph.edges.iter().enumerate() {
        let Some(read) = edge.tag else { continue };
        let from = graph.node(edge.from);
        if let Some(problem) = unwritten(from, read) {
            findings.problems.push(problem);
        }
        let is_other = |other: &&Edge| {
            other.from == edge.from
                && other.tag.is_some_and(|tag| tag.tag == read.tag && tag.record != read.record)
        };
        if let Some(other) = graph.edges[..index].iter().find(is_other) {
            let other = other.tag.map_or("", |tag| tag.record);
            findings.problems.push(two_types(from, read.tag, other, read.record));
        }
    }
    for node in &graph.nodes {
        let SideOutputFacts::Only(written) = &node.facts.side_outputs else { continue };
        for written in written {
            let is_read = graph.edges.iter().any(|edge| {
                edge.from == node.id && edge.tag.is_some_and(|tag| tag.tag == written.tag)
            });
            if !is_read {
                findings.warnings.push(format!(
                    "nobody reads side output \"{}\" of {}: its rows are dropped; read it with \
                     .side_output(..)",
                    written.tag,
                    quoted(node)
                ));
            }
        }
    }
}

/// Why a read of `read` from `node` cannot work, if the node says what it writes.
fn unwritten(node: &Node, read: SideOutputFact) -> Option<String> {
    let SideOutputFacts::Only(written) = &node.facts.side_outputs else { return None };
    match writes(node, read.tag) {
        Some(fact) if fact.record != read.record => {
            Some(two_types(node, read.tag, fact.record, read.record))
        }
        Some(_) => None,
        None => {
            let tags: Vec<String> =
                written.iter().map(|fact| format!("\"{}\"", fact.tag)).collect();
            let has = match tags.as_slice() {
                [] => "it has no side outputs".to_string(),
                _ => format!("it writes {}", tags.join(", ")),
            };
            Some(format!("{} never writes side output \"{}\": {has}", quoted(node), read.tag))
        }
    }
}

fn two_types(node: &Node, tag: &str, one: &str, other: &str) -> String {
    format!(
        "side output \"{tag}\" of {} is used with two types of records, {one} and {other}: use one \
         tag for both ends",
        quoted(node)
    )
}

/// What `node` says it writes under `tag`.
fn writes(node: &Node, tag: &str) -> Option<SideOutputFact> {
    match &node.facts.side_outputs {
        SideOutputFacts::Any => None,
        SideOutputFacts::Only(written) => written.iter().find(|fact| fact.tag == tag).copied(),
    }
}

/// Checks that everything that is numbered has a number.
fn check_sizes(graph: &LogicalGraph, shard_count: u32, findings: &mut Findings) {
    let problems = &mut findings.problems;
    for id in graph.chain_ids() {
        if graph.chain(id).parallelism == Some(0) {
            problems.push(format!(
                "parallelism 0 for {}: use 1 or more; more than there are shards means all shards",
                chain_quoted(graph, id)
            ));
        }
        let mut inputs = graph.edges_into(id).peekable();
        let is_global =
            inputs.peek().is_some() && inputs.all(|edge| edge.partitioner == Partitioner::Global);
        if let Some(count) = graph.chain(id).parallelism.filter(|count| is_global && 1 < *count) {
            problems.push(format!(
                "parallelism {count} for {} behind .global(): everything arrives at task 0, and the \
                 others would have nothing to do; leave it out, or use .rebalance()",
                chain_quoted(graph, id)
            ));
        }
    }
    if graph.chains.len() > CHAIN_COUNT_MAX as usize {
        problems.push(format!(
            "{} chains: a job has at most {CHAIN_COUNT_MAX}; use fewer exchanges and shared \
             streams",
            graph.chains.len()
        ));
    }
    let source_count = graph.sources().count();
    if source_count > Origin::SOURCE_COUNT_MAX as usize {
        problems.push(format!(
            "{source_count} sources: a job has at most {}; let one source read several inputs",
            Origin::SOURCE_COUNT_MAX
        ));
    }
    let channels_max = graph.edges.len() as u64 * u64::from(shard_count) * u64::from(shard_count);
    if u32::try_from(channels_max).is_err() {
        problems.push(format!(
            "up to {channels_max} channels between tasks: {shard_count} shards are too many for \
             {} exchanges",
            graph.edges.len()
        ));
    }
}

/// A node as a user would point at it: `window "per-minute"`.
fn quoted(node: &Node) -> String {
    format!("{} \"{}\"", node.verb, node.name)
}

fn chain_quoted(graph: &LogicalGraph, id: crate::graph::logical::ChainId) -> String {
    match graph.chain(id).nodes.as_slice() {
        [] => format!("the rows of {}", writers_of(graph, graph.edges_into(id))),
        nodes => nodes.iter().map(|id| quoted(graph.node(*id))).collect::<Vec<_>>().join(", "),
    }
}

fn writers_of<'a>(graph: &LogicalGraph, edges: impl Iterator<Item = &'a Edge>) -> String {
    let writers = edges.map(|edge| match edge.tag {
        Some(fact) => format!("side output \"{}\" of {}", fact.tag, quoted(graph.node(edge.from))),
        None => quoted(graph.node(edge.from)),
    });
    writers.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
