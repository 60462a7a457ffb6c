//! The plan for people and programs: text, JSON and DOT.
//!
//! Each shows the same: the chains upstream first, the operators in them, and the edges that each
//! chain reads; then what the checks found.

mod dot;

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::graph::facts::SideOutputFacts;
use crate::graph::guarantee::Guarantee;
use crate::graph::logical::{ChainId, Edge, LogicalGraph, Node, NodeKind};
use crate::graph::physical::{PhysicalEdge, PhysicalGraph};
use crate::graph::plan::Partitioner;
use crate::graph::validate::Findings;

/// How to print a plan.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ExplainFormat {
    /// For a terminal.
    #[default]
    Text,
    /// For a program.
    Json,
    /// For Graphviz: `... explain --format dot | dot -Tsvg > job.svg`.
    Dot,
}

/// A job, how it would run, and what is wrong with it. A job with problems has no physical graph.
#[derive(Debug, Clone, Copy)]
pub struct Explanation<'a> {
    /// As it was written.
    pub logical: &'a LogicalGraph,
    /// As it runs.
    pub physical: Option<&'a PhysicalGraph>,
    /// What the checks found.
    pub findings: &'a Findings,
}

impl Explanation<'_> {
    /// Prints the plan; ends with a line break.
    pub fn print(&self, format: ExplainFormat) -> String {
        match format {
            ExplainFormat::Text => self.text(),
            ExplainFormat::Json => format!("{:#}\n", self.json()),
            ExplainFormat::Dot => dot::print(self),
        }
    }

    fn text(&self) -> String {
        let mut text = format!("job {}\n\n{}", self.logical.name, self.logical_text());
        if let Some(physical) = self.physical {
            text.push('\n');
            text.push_str(&physical_text(self.logical, physical));
        }
        let guarantees = self.logical.guarantees();
        if !guarantees.is_empty() {
            text.push_str("\nover a restart from a checkpoint\n");
        }
        for Guarantee { sink, delivery, because } in guarantees {
            let _ = writeln!(text, "  {sink}: {delivery}, because {because}");
        }
        for (title, findings) in
            [("problems", &self.findings.problems), ("warnings", &self.findings.warnings)]
        {
            if !findings.is_empty() {
                let _ = writeln!(text, "\n{title}\n  - {}", findings.join("\n  - "));
            }
        }
        text
    }

    fn logical_text(&self) -> String {
        let mut text = String::from("logical graph\n");
        let name_width = self.logical.nodes.iter().map(|n| n.name.chars().count()).max();
        let verb_width = self.logical.nodes.iter().map(|n| n.verb.len()).max();
        for id in self.logical.chain_ids() {
            let nodes = &self.logical.chain(id).nodes;
            for (index, node) in nodes.iter().map(|id| self.logical.node(*id)).enumerate() {
                let (nw, vw) = (name_width.unwrap_or(0), verb_width.unwrap_or(0));
                let before = index.checked_sub(1).map(|before| self.logical.node(nodes[before]));
                let reads = match before {
                    Some(before) => Some(format!("<- {}", before.name)),
                    None => reads(self.logical, id),
                };
                let remarks: Vec<String> = reads.into_iter().chain(details(node)).collect();
                let line =
                    format!("  {:nw$}  {:vw$}  {}", node.name, node.verb, remarks.join("; "));
                let _ = writeln!(text, "{}", line.trim_end());
            }
        }
        text
    }

    /// The plan as JSON.
    pub fn json(&self) -> Value {
        let logical = self.logical;
        let nodes = logical.nodes.iter().map(|node| {
            json!({
                "id": node.id.0,
                "kind": kind(node.kind),
                "verb": node.verb,
                "name": node.name,
                "uid": node.uid(),
                "is_named": node.is_named,
                "chain": node.chain.0,
                "detail": node.facts.detail,
                "is_keyed": node.facts.is_keyed,
                "is_stateful": node.facts.is_stateful,
                "makes_watermarks": node.facts.makes_watermarks,
                "needs_watermarks": node.facts.needs_watermarks,
                "unbounded_states": node.facts.unbounded_states,
                "side_outputs": side_outputs(node),
            })
        });
        let edges = logical.edges.iter().map(|edge| {
            json!({
                "from": edge.from.0,
                "to": logical.chain(edge.to).nodes.first().map(|node| node.0),
                "input": edge.input_index,
                "partitioner": edge.partitioner.to_string(),
                "side_output": edge.tag.map(|fact| fact.tag),
                "record": edge.tag.map(|fact| fact.record),
            })
        });
        let guarantees = logical.guarantees().into_iter();
        let guarantees = guarantees.map(|Guarantee { sink, delivery, because }| {
            json!({ "sink": sink, "delivery": delivery.to_string(), "because": because })
        });
        json!({
            "job": logical.name,
            "logical": {
                "nodes": nodes.collect::<Vec<_>>(),
                "edges": edges.collect::<Vec<_>>(),
            },
            "physical": self.physical.map(physical_json),
            "guarantees": guarantees.collect::<Vec<_>>(),
            "problems": self.findings.problems,
            "warnings": self.findings.warnings,
        })
    }
}

/// What a chain reads: `<- payments (hash), "late" of window (forward)`; nothing for a source.
fn reads(logical: &LogicalGraph, id: ChainId) -> Option<String> {
    let edges: Vec<String> = logical
        .edges_into(id)
        .map(|edge| {
            let input = match logical.chain(id).input_count {
                2.. => format!("input {}: ", edge.input_index),
                _ => String::new(),
            };
            format!("{input}{} ({})", origin(logical, edge), edge.partitioner)
        })
        .collect();
    (!edges.is_empty()).then(|| format!("<- {}", edges.join(", ")))
}

fn origin(logical: &LogicalGraph, edge: &Edge) -> String {
    let name = &logical.node(edge.from).name;
    edge.tag.map_or_else(|| name.clone(), |fact| format!("\"{}\" of {name}", fact.tag))
}

fn details(node: &Node) -> Vec<String> {
    let mut details = Vec::new();
    if !node.facts.detail.is_empty() {
        details.push(node.facts.detail.clone());
    }
    if let Some(uid) = node.uid.as_ref().filter(|uid| **uid != node.name) {
        details.push(format!("uid {uid}"));
    }
    details
}

fn physical_text(logical: &LogicalGraph, physical: &PhysicalGraph) -> String {
    let mut text = format!(
        "physical graph: {}, {} key groups, {}, {}\n",
        counted(physical.shard_count, "shard"),
        physical.key_group_count.get(),
        counted(physical.task_count(), "task"),
        counted(physical.channel_count(), "channel"),
    );
    for (index, chain) in physical.chains.iter().enumerate() {
        let id = ChainId(index as u16);
        let tasks = counted(chain.parallelism, "task");
        let asked = match logical.chain(id).parallelism {
            Some(asked) if asked != chain.parallelism => {
                format!(" (parallelism {asked} was asked for; there is one task per shard)")
            }
            _ => String::new(),
        };
        let _ = writeln!(text, "  chain {index}: {}, {tasks}{asked}", chain.name);
        for (number, edge) in physical.edges.iter().enumerate().filter(|(_, e)| e.to == id) {
            let _ = writeln!(text, "    {}", edge_text(&logical.edges[number], edge));
        }
    }
    text
}

fn edge_text(asked: &Edge, edge: &PhysicalEdge) -> String {
    let tag = edge.side.map_or(String::new(), |side| format!(" \"{}\"", side.tag));
    let why = match (asked.partitioner, edge.partitioner) {
        (Partitioner::Forward, Partitioner::Rebalance | Partitioner::Hash) => {
            " (not forward: unequal parallelism)"
        }
        _ => "",
    };
    let channels = counted(edge.channel_count, "channel");
    format!("<- chain {}{tag}: {}{why}, {channels}", edge.from.0, edge.partitioner)
}

fn physical_json(physical: &PhysicalGraph) -> Value {
    let chains = physical.chains.iter().enumerate().map(|(index, chain)| {
        json!({
            "id": index,
            "name": chain.name,
            "nodes": chain.nodes.iter().map(|node| node.0).collect::<Vec<_>>(),
            "parallelism": chain.parallelism,
        })
    });
    let edges = physical.edges.iter().map(|edge| {
        json!({
            "from": edge.from.0,
            "to": edge.to.0,
            "input": edge.input_index,
            "side_output": edge.side.map(|side| side.tag),
            "partitioner": edge.partitioner.to_string(),
            "first_channel": edge.first_channel.0,
            "channel_count": edge.channel_count,
        })
    });
    json!({
        "shards": physical.shard_count,
        "key_groups": physical.key_group_count.get(),
        "chains": chains.collect::<Vec<_>>(),
        "edges": edges.collect::<Vec<_>>(),
    })
}

/// The side outputs that a node says it writes; nothing if it may write any.
fn side_outputs(node: &Node) -> Option<Vec<&'static str>> {
    match &node.facts.side_outputs {
        SideOutputFacts::Any => None,
        SideOutputFacts::Only(facts) => Some(facts.iter().map(|fact| fact.tag).collect()),
    }
}

fn kind(kind: NodeKind) -> &'static str {
    match kind {
        NodeKind::Source => "source",
        NodeKind::Operator => "operator",
        NodeKind::Sink => "sink",
    }
}

/// `1 task`, `2 tasks`.
fn counted(count: u32, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

#[cfg(test)]
mod tests;
