//! Golden prints of one job in every format.

use super::*;
use crate::data::key_group::KeyGroupCount;
use crate::graph::facts::{Facts, SideOutputFact};
use crate::graph::logical::ChainEnd;

/// Payments, windows per card, alerts, and late payments on the side.
fn job() -> LogicalGraph {
    let mut graph = LogicalGraph::new("card-fraud");
    let source = graph.begin_chain(0);
    let facts = Facts::default().detailed("files payments/*.jsonl (JSON Lines)");
    graph.add_node(source, NodeKind::Source, "source", Some("payments".to_string()), facts);
    let key_by = graph.add_node(source, NodeKind::Operator, "key_by", None, Facts::stateless());
    graph.chain_mut(source).end = ChainEnd::Edges;

    let window = graph.begin_chain(1);
    let partitioner = Partitioner::Hash;
    graph.connect(Edge { from: key_by, tag: None, to: window, input_index: 0, partitioner });
    let facts = Facts::stateless().detailed("tumbling 5s");
    let name = Some("velocity".to_string());
    let velocity = graph.add_node(window, NodeKind::Operator, "window", name, facts);
    graph.node_mut(velocity).uid = Some("velocity-1".to_string());
    let alerts = Some("alerts".to_string());
    graph.add_node(window, NodeKind::Sink, "sink", alerts, Facts::stateless());
    graph.chain_mut(window).end = ChainEnd::Nothing;

    let late = graph.begin_chain(1);
    let tag = Some(SideOutputFact { tag: "late", record: "u64" });
    let partitioner = Partitioner::Forward;
    graph.connect(Edge { from: velocity, tag, to: late, input_index: 0, partitioner });
    let name = Some("late-payments".to_string());
    graph.add_node(late, NodeKind::Sink, "sink", name, Facts::stateless());
    graph.chain_mut(late).end = ChainEnd::Nothing;
    graph.chain_mut(late).parallelism = Some(8);
    graph.chain_mut(source).parallelism = Some(1);
    graph
}

fn check(format: ExplainFormat, expected: &str) {
    let logical = job();
    let key_group_count = KeyGroupCount::new(1024).expect("in range");
    let physical = PhysicalGraph::new(&logical, 2, key_group_count);
    let findings = Findings { warnings: vec!["state grows".to_string()], ..Findings::default() };
    let explanation =
        Explanation { logical: &logical, physical: Some(&physical), findings: &findings };
    let printed = explanation.print(format);
    assert_eq!(printed, expected, "printed:\n{printed}<end>");
}

#[test]
fn as_text() {
    check(ExplainFormat::Text, include_str!("golden/job.txt"));
}

#[test]
fn as_json() {
    check(ExplainFormat::Json, include_str!("golden/job.json"));
}

#[test]
fn as_dot() {
    check(ExplainFormat::Dot, include_str!("golden/job.dot"));
}

#[test]
fn a_job_with_problems_has_no_physical_graph() {
    let findings = Findings { problems: vec!["no sink".to_string()], ..Findings::default() };
    let explanation = Explanation { logical: &job(), physical: None, findings: &findings };
    let text = explanation.print(ExplainFormat::Text);
    assert!(!text.contains("physical graph"), "{text}");
    assert!(text.ends_with("\nproblems\n  - no sink\n"), "{text}");
    assert!(explanation.json()["physical"].is_null());
}
