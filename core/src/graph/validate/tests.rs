//! What each mistake in a job is told as.

use super::*;
use crate::graph::facts::Facts;
use crate::graph::logical::ChainId;
use crate::graph::plan::Partitioner;

/// A job in the making: a source, and behind it whatever a test adds.
struct Draft {
    graph: LogicalGraph,
    chain: ChainId,
}

impl Draft {
    /// Source `payments`, without watermarks.
    fn new() -> Self {
        let mut graph = LogicalGraph::new("job");
        let chain = graph.begin_chain(0);
        let mut draft = Self { graph, chain };
        draft.add(NodeKind::Source, "source", "payments", Facts::default());
        draft
    }

    fn add(&mut self, kind: NodeKind, verb: &'static str, name: &str, facts: Facts) -> NodeId {
        let id = self.graph.add_node(self.chain, kind, verb, Some(name.to_string()), facts);
        if kind == NodeKind::Sink {
            self.graph.chain_mut(self.chain).end = ChainEnd::Nothing;
        }
        id
    }

    fn op(mut self, verb: &'static str, name: &str, facts: Facts) -> Self {
        self.add(NodeKind::Operator, verb, name, facts);
        self
    }

    /// Begins a chain behind the last node, keyed if `partitioner` is hash.
    fn exchange(mut self, partitioner: Partitioner) -> Self {
        let from = *self.graph.chain(self.chain).nodes.last().expect("there is a source");
        self.graph.chain_mut(self.chain).end = ChainEnd::Edges;
        let to = self.graph.begin_chain(1);
        self.graph.connect(Edge { from, tag: None, to, input_index: 0, partitioner });
        self.chain = to;
        self
    }

    /// Reads a side output of the last node into a sink of its own.
    fn read(mut self, tag: &'static str, record: &'static str) -> Self {
        let from = *self.graph.chain(self.chain).nodes.last().expect("there is a source");
        let to = self.graph.begin_chain(1);
        let fact = SideOutputFact { tag, record };
        let partitioner = Partitioner::Forward;
        self.graph.connect(Edge { from, tag: Some(fact), to, input_index: 0, partitioner });
        let chain = std::mem::replace(&mut self.chain, to);
        let sink = format!("sink-of-{tag}-{}", to.0);
        self.add(NodeKind::Sink, "sink", &sink, Facts::stateless());
        self.chain = chain;
        self
    }

    fn sink(mut self) -> Self {
        self.add(NodeKind::Sink, "sink", "alerts", Facts::stateless());
        self
    }

    fn with(mut self, change: impl FnOnce(&mut LogicalGraph)) -> Self {
        change(&mut self.graph);
        self
    }

    fn findings(&self) -> Findings {
        validate(&self.graph, 2, 1024)
    }
}

fn check(draft: &Draft, problems: &[&str]) {
    assert_eq!(draft.findings().problems, problems);
}

fn check_warnings(draft: &Draft, warnings: &[&str]) {
    assert_eq!(
        draft.findings(),
        Findings {
            problems: Vec::new(),
            warnings: warnings.iter().map(ToString::to_string).collect(),
        }
    );
}

fn window() -> Facts {
    Facts { is_keyed: true, needs_watermarks: Some("event-time windows"), ..Facts::stateless() }
}

fn watermarks() -> Facts {
    Facts { makes_watermarks: true, ..Facts::stateless() }
}

fn writing(tag: &'static str, record: &'static str) -> Facts {
    let fact = SideOutputFact { tag, record };
    Facts { side_outputs: SideOutputFacts::Only(vec![fact]), ..Facts::stateless() }
}

fn make_keyed(graph: &mut LogicalGraph) {
    graph.nodes.last_mut().expect("there is a source").has_keyed_input = true;
}

#[test]
fn two_sinks_in_one_directory_are_a_problem() {
    let writing_to = |path: &str| Facts { directory: Some(path.into()), ..Facts::stateless() };
    check(
        &Draft::new()
            .op("sink", "first", writing_to("out"))
            .op("sink", "second", writing_to("./out/"))
            .op("sink", "other", writing_to("out/other"))
            .sink(),
        &[
            "sink \"first\" and sink \"second\" write to the same directory, out: give each a directory of its \
           own",
        ],
    );
}

#[test]
fn a_sound_job_has_no_findings() {
    let draft = Draft::new()
        .op("watermark", "time", watermarks())
        .exchange(Partitioner::Hash)
        .op("window", "per-minute", window())
        .with(make_keyed)
        .sink();
    check_warnings(&draft, &[]);
}

#[test]
fn a_job_without_a_source() {
    let draft = Draft { graph: LogicalGraph::new("empty"), chain: ChainId(0) };
    check(&draft, &["the job has no source: begin with .source(name, ..)"]);
}

#[test]
fn a_stream_that_nobody_reads() {
    check(
        &Draft::new().op("map", "enrich", Facts::stateless()),
        &["nobody reads what map \"enrich\" gives: end it with .sink(..), or with .discard() if \
           nobody needs it"],
    );
}

#[test]
fn an_exchange_that_nobody_reads() {
    check(
        &Draft::new().exchange(Partitioner::Hash),
        &["nobody reads the rows of source \"payments\": end them with .sink(..), or with \
           .discard() if nobody needs them"],
    );
}

#[test]
fn a_shared_stream_that_nobody_reads() {
    let draft = Draft::new().with(|graph| graph.chains[0].end = ChainEnd::Edges);
    check(
        &draft,
        &[
            "nobody reads what source \"payments\" gives: end it with .sink(..), or with .discard() \
           if nobody needs it",
        ],
    );
}

#[test]
fn a_uid_used_twice() {
    let draft = Draft::new()
        .op("map", "a", Facts::stateless())
        .op("map", "b", Facts::stateless())
        .with(|graph| {
            graph.nodes[1].uid = Some("same".to_string());
            graph.nodes[2].uid = Some("same".to_string());
        })
        .sink();
    check(&draft, &["2 operators have the uid \"same\": map \"a\", map \"b\"; give each its own"]);
}

#[test]
fn a_name_used_twice() {
    let twice = |uid: Option<&str>| {
        Draft::new()
            .op("map", "enrich", Facts::stateless())
            .op("filter", "enrich", Facts::stateless())
            .with(|graph| graph.nodes[1].uid = uid.map(str::to_string))
            .sink()
    };
    check(
        &twice(None),
        &["2 operators are named \"enrich\": give all but one another name, \
              or a uid with .uid(..)"],
    );
    check(&twice(Some("first")), &[]);
}

#[test]
fn an_empty_name() {
    check(
        &Draft::new().op("map", " ", Facts::stateless()).sink(),
        &["an empty name or uid (map): use a telling one"],
    );
}

#[test]
fn a_window_without_watermarks() {
    let draft = Draft::new()
        .exchange(Partitioner::Hash)
        .op("window", "per-minute", window())
        .with(make_keyed)
        .sink();
    check(
        &draft,
        &["window \"per-minute\": event-time windows need watermarks, and rows reach it without \
           any from source \"payments\": call .watermark(..) in between"],
    );
}

#[test]
fn watermarks_behind_an_exchange() {
    check(
        &Draft::new().exchange(Partitioner::Rebalance).op("watermark", "time", watermarks()).sink(),
        &["watermark \"time\" stands behind an exchange, where the records of all splits are \
           mixed: call .watermark(..) directly behind the source"],
    );
}

#[test]
fn a_join_with_watermarks_on_one_side_only() {
    let draft = Draft::new().op("watermark", "time", watermarks()).with(|graph| {
        let (left, right) = (ChainId(0), graph.begin_chain(0));
        let flights = Some("flights".to_string());
        graph.add_node(right, NodeKind::Source, "source", flights, Facts::default());
        let join = graph.begin_chain(2);
        for (input_index, side) in [(0, left), (1, right)] {
            graph.chain_mut(side).end = ChainEnd::Edges;
            let from = *graph.chain(side).nodes.last().expect("there is a source");
            let partitioner = Partitioner::Hash;
            graph.connect(Edge { from, tag: None, to: join, input_index, partitioner });
        }
        let facts = Facts { needs_watermarks: Some("interval joins"), ..Facts::stateless() };
        graph.add_node(join, NodeKind::Sink, "interval_join", Some("near".to_string()), facts);
        graph.chain_mut(join).end = ChainEnd::Nothing;
    });
    check(
        &draft,
        &["interval_join \"near\": interval joins need watermarks, and rows reach it without any \
           from source \"flights\": call .watermark(..) in between"],
    );
}

#[test]
fn keyed_state_on_an_unkeyed_stream() {
    check(
        &Draft::new()
            .op("operator", "counts", Facts { is_keyed: true, ..Facts::stateless() })
            .sink(),
        &["operator \"counts\" keeps state or timers per key, but its input is not keyed: call \
           .key_by(..) before it"],
    );
}

#[test]
fn a_side_output_that_is_never_written() {
    check(
        &Draft::new().op("map", "enrich", Facts::stateless()).read("late", "u64").sink(),
        &["map \"enrich\" never writes side output \"late\": it has no side outputs"],
    );
    check(
        &Draft::new().op("process", "split", writing("odd", "u64")).read("even", "u64").sink(),
        &["process \"split\" never writes side output \"even\": it writes \"odd\""],
    );
    check(&Draft::new().op("process", "any", Facts::default()).read("even", "u64").sink(), &[]);
}

#[test]
fn a_side_output_with_two_types() {
    check(
        &Draft::new().op("process", "split", writing("odd", "u64")).read("odd", "i64").sink(),
        &["side output \"odd\" of process \"split\" is used with two types of records, u64 and \
           i64: use one tag for both ends"],
    );
    check(
        &Draft::new()
            .op("process", "any", Facts::default())
            .read("odd", "u64")
            .read("odd", "i64")
            .sink(),
        &[
            "side output \"odd\" of process \"any\" is used with two types of records, u64 and i64: \
           use one tag for both ends",
        ],
    );
}

#[test]
fn fused_operators_may_use_tags_of_one_name() {
    check(
        &Draft::new()
            .op("process", "first", writing("odd", "i64"))
            .read("odd", "i64")
            .op("process", "second", writing("odd", "u64"))
            .read("odd", "u64")
            .sink(),
        &[],
    );
}

#[test]
fn parallelism_behind_global() {
    let draft = Draft::new().exchange(Partitioner::Global).op("map", "names", Facts::stateless());
    let several = draft.sink().with(|graph| graph.chains[1].parallelism = Some(4));
    check(
        &several,
        &[
            "parallelism 4 for map \"names\", sink \"alerts\" behind .global(): everything arrives at \
           task 0, and the others would have nothing to do; leave it out, or use .rebalance()",
        ],
    );
    check(&several.with(|graph| graph.chains[1].parallelism = Some(1)), &[]);
}

#[test]
fn two_watermarks_of_one_stream() {
    let makes = || Facts { makes_watermarks: true, ..Facts::stateless() };
    check(
        &Draft::new().op("watermark", "first", makes()).op("watermark", "second", makes()).sink(),
        &["watermark \"second\" stands behind watermark \"first\", which has made the watermarks \
           already: keep one of them"],
    );
}

#[test]
fn parallelism_of_zero() {
    check(
        &Draft::new().sink().with(|graph| graph.chains[0].parallelism = Some(0)),
        &[
            "parallelism 0 for source \"payments\", sink \"alerts\": use 1 or more; more than there \
           are shards means all shards",
        ],
    );
}

#[test]
fn too_many_sources() {
    let draft = Draft::new().sink().with(|graph| {
        for index in 1..512 {
            let chain = graph.begin_chain(0);
            let name = Some(format!("source {index}"));
            graph.add_node(chain, NodeKind::Source, "source", name, Facts::default());
            graph.chain_mut(chain).end = ChainEnd::Nothing;
        }
    });
    check(&draft, &["512 sources: a job has at most 511; let one source read several inputs"]);
}

#[test]
fn too_many_chains() {
    let draft = (0..4096).fold(Draft::new(), |draft, n| {
        draft.exchange(Partitioner::Forward).op("map", &format!("map {n}"), Facts::stateless())
    });
    check(
        &draft.sink(),
        &["4097 chains: a job has at most 4096; use fewer exchanges and shared streams"],
    );
}

#[test]
fn numbers_of_shards_and_key_groups() {
    let graph = Draft::new().sink().graph;
    let problems = |shards, groups| validate(&graph, shards, groups).problems;
    assert_eq!(
        problems(9, 8),
        ["9 shards cannot share 8 key groups: every shard owns at least one; use fewer shards or \
          more key groups"]
    );
    assert_eq!(problems(0, 8), ["0 shards: a node has 1 to 1024"]);
    assert_eq!(problems(1, 40_000), ["40000 key groups: a job has 1 to 32768"]);
}

#[test]
fn an_operator_that_is_set_up_wrongly() {
    let problems = vec!["size 0: use a positive one".to_string()];
    check(
        &Draft::new().op("window", "w", Facts { problems, ..Facts::stateless() }).sink(),
        &["window \"w\": size 0: use a positive one"],
    );
}

#[test]
fn mistakes_are_reported_together() {
    let draft = Draft::new()
        .op("map", "payments", Facts::stateless())
        .exchange(Partitioner::Rebalance)
        .op("window", "per-minute", window())
        .with(|graph| graph.chains[1].parallelism = Some(0));
    check(
        &draft,
        &[
            "nobody reads what window \"per-minute\" gives: end it with .sink(..), or with \
             .discard() if nobody needs it",
            "2 operators are named \"payments\": give all but one another name, or a uid with \
             .uid(..)",
            "window \"per-minute\" keeps state or timers per key, but its input is not keyed: call \
             .key_by(..) before it",
            "window \"per-minute\": event-time windows need watermarks, and rows reach it without \
             any from source \"payments\": call .watermark(..) in between",
            "parallelism 0 for window \"per-minute\": use 1 or more; more than there are shards \
             means all shards",
        ],
    );
}

#[test]
fn state_that_only_grows_is_a_warning() {
    let forgets_by = Some("call .ttl(..)");
    let unbounded_states = vec!["totals".to_string()];
    let rolling = Facts { unbounded_states, forgets_by, ..Facts::stateless() };
    check_warnings(
        &Draft::new().op("reduce", "sum", rolling).sink(),
        &["reduce \"sum\" keeps state \"totals\" for ever, so it grows with every new key: call \
           .ttl(..)"],
    );
    let facts = Facts { unbounded_states: vec!["totals".to_string()], ..Facts::stateless() };
    check_warnings(
        &Draft::new().op("process", "velocity", facts).sink(),
        &["process \"velocity\" keeps state \"totals\" for ever, so it grows with every new \
           key: give it a time to live, or use a window"],
    );
}

#[test]
fn state_without_a_name_is_a_warning() {
    let facts = Facts { is_stateful: true, ..Facts::stateless() };
    check_warnings(
        &Draft::new()
            .op("reduce", "reduce", facts)
            .with(|graph| graph.nodes[1].is_named = false)
            .sink(),
        &[
            "reduce \"reduce\" keeps state under a name that was made from its place in the job, and \
           another operator may have that place tomorrow: give it a name or a uid",
        ],
    );
}

#[test]
fn a_side_output_that_nobody_reads_is_a_warning() {
    check_warnings(
        &Draft::new().op("window", "w", writing("late", "u64")).sink(),
        &["nobody reads side output \"late\" of window \"w\": its rows are dropped; read it with \
           .side_output(..)"],
    );
}
