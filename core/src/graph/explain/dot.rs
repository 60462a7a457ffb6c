//! The plan for Graphviz: the logical graph with its chains, and below it the tasks they become.
//!
//! Not here: what the other formats print (`explain.rs`).

use std::fmt::Write as _;

use crate::graph::explain::{Explanation, counted};
use crate::graph::logical::{LogicalGraph, Node};
use crate::graph::physical::PhysicalGraph;
use crate::graph::validate::Findings;

/// The whole plan as one graph.
pub(super) fn print(plan: &Explanation<'_>) -> String {
    let name = quoted(&plan.logical.name);
    let mut dot = format!("digraph {name} {{\n  rankdir=LR;\n  node [shape=box];\n");
    dot.push_str("  subgraph cluster_logical {\n    label=\"logical graph\";\n");
    logical(plan.logical, &mut dot);
    dot.push_str("  }\n");
    if let Some(graph) = plan.physical {
        let shards = counted(graph.shard_count, "shard");
        let label = quoted(&format!("physical graph, {shards}"));
        let _ = writeln!(dot, "  subgraph cluster_physical {{\n    label={label};");
        physical(graph, &mut dot);
        dot.push_str("  }\n");
    }
    findings(plan.findings, &mut dot);
    dot.push_str("}\n");
    dot
}

fn logical(graph: &LogicalGraph, dot: &mut String) {
    for id in graph.chain_ids() {
        let nodes = &graph.chain(id).nodes;
        let _ = writeln!(dot, "    subgraph cluster_{} {{", id.0);
        let _ = writeln!(dot, "      label=\"chain {}\";", id.0);
        for node in nodes.iter().map(|id| graph.node(*id)) {
            let _ = writeln!(dot, "      n{} [label={}];", node.id.0, quoted(&label(node)));
        }
        for pair in nodes.windows(2) {
            let _ = writeln!(dot, "      n{} -> n{};", pair[0].0, pair[1].0);
        }
        dot.push_str("    }\n");
    }
    for edge in &graph.edges {
        let Some(to) = graph.chain(edge.to).nodes.first() else { continue };
        let label = edge_label(edge.tag.map(|fact| fact.tag), &edge.partitioner.to_string());
        let style = if edge.tag.is_some() { ", style=dashed" } else { "" };
        let _ = writeln!(dot, "    n{} -> n{} [label={label}{style}];", edge.from.0, to.0);
    }
}

/// Name, verb, set-up and uid, as far as each says something new.
fn label(node: &Node) -> String {
    let mut lines = vec![node.name.clone()];
    lines.extend((node.name != node.verb).then(|| node.verb.to_string()));
    lines.extend((!node.facts.detail.is_empty()).then(|| node.facts.detail.clone()));
    lines.extend((node.uid() != node.name).then(|| format!("uid {}", node.uid())));
    lines.join("\n")
}

fn physical(graph: &PhysicalGraph, dot: &mut String) {
    for (index, chain) in graph.chains.iter().enumerate() {
        let tasks = counted(chain.parallelism, "task");
        let label = quoted(&format!("chain {index}: {}\n{tasks}", chain.name));
        let _ = writeln!(dot, "    c{index} [label={label}];");
    }
    for edge in &graph.edges {
        let channels = counted(edge.channel_count, "channel");
        let partitioner = format!("{}, {channels}", edge.partitioner);
        let label = edge_label(edge.side.map(|side| side.tag), &partitioner);
        let style = if edge.side.is_some() { ", style=dashed" } else { "" };
        let _ = writeln!(dot, "    c{} -> c{} [label={label}{style}];", edge.from.0, edge.to.0);
    }
}

fn findings(findings: &Findings, dot: &mut String) {
    let kinds =
        [("problems", &findings.problems, "red"), ("warnings", &findings.warnings, "orange")];
    for (kind, found, color) in kinds {
        if !found.is_empty() {
            let label = quoted(&format!("{kind}\n{}", found.join("\n")));
            let _ = writeln!(dot, "  {kind} [shape=note, color={color}, label={label}];");
        }
    }
}

fn edge_label(tag: Option<&str>, partitioner: &str) -> String {
    let side = tag.map_or(String::new(), |tag| format!("\"{tag}\": "));
    quoted(&(side + partitioner))
}

/// A string as Graphviz reads it.
fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_quoted_for_graphviz() {
        assert_eq!(quoted("a \"b\"\\n\nzwölf\u{301}"), "\"a \\\"b\\\"\\\\n\\nzwölf\u{301}\"");
    }
}
