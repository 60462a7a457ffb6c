//! What a function declares before its first record.

use crate::data::key::Key;
use crate::data::record::Record;
use crate::error::Error;
use crate::graph::Facts;
use crate::operator::OperatorContext;
use crate::state::aggregate::AggregateFunction;
use crate::state::broadcast::{BroadcastState, BroadcastStates};
use crate::state::columns::StateColumns;
use crate::state::list::ListState;
use crate::state::map::MapState;
use crate::state::operator_list::{OperatorList, OperatorLists};
use crate::state::spec::{StateSpec, TtlTime};
use crate::state::value::{AggregatingState, ReducingState, ValueState};

/// Everything that a function has declared.
#[derive(Debug, Default)]
pub(in crate::operator) struct Declared {
    pub(in crate::operator) columns: StateColumns,
    pub(in crate::operator) broadcast: BroadcastStates,
    pub(in crate::operator) lists: OperatorLists,
    problems: Vec<String>,
}

/// What kinds of state a function may declare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::operator) struct Declarable {
    /// There is a key.
    pub(in crate::operator) keyed: bool,
    /// There is a broadcast input.
    pub(in crate::operator) broadcast: bool,
}

/// Where a function declares its states. A name is unique among the states of a function, and
/// stays the same as long as the state should be found again after a restart.
#[derive(Debug)]
pub struct OpenContext<'a> {
    declared: &'a mut Declared,
    declarable: Declarable,
}

impl OpenContext<'_> {
    /// A value for each key.
    pub fn value<V: Record>(&mut self, name: &str, spec: impl Into<StateSpec>) -> ValueState<V> {
        let spec = spec.into();
        self.check_schema::<V>(name, &spec);
        self.keyed(name, |columns| ValueState::declare(columns, name, spec))
    }

    /// A list for each key.
    pub fn list<V: Record>(&mut self, name: &str, spec: impl Into<StateSpec>) -> ListState<V> {
        let spec = spec.into();
        self.check_schema::<V>(name, &spec);
        self.keyed(name, |columns| ListState::declare(columns, name, spec))
    }

    /// A map for each key.
    pub fn map<M: Key + Ord, V: Record>(
        &mut self,
        name: &str,
        spec: impl Into<StateSpec>,
    ) -> MapState<M, V> {
        let spec = spec.into();
        self.check_schema::<V>(name, &spec);
        self.keyed(name, |columns| MapState::declare(columns, name, spec))
    }

    /// A value for each key that others are folded into by `reduce(folded, value)`.
    pub fn reducing<V: Record>(
        &mut self,
        name: &str,
        spec: impl Into<StateSpec>,
        reduce: fn(&mut V, V),
    ) -> ReducingState<V> {
        let spec = spec.into();
        self.check_schema::<V>(name, &spec);
        self.keyed(name, |columns| ReducingState::declare(columns, name, spec, reduce))
    }

    /// An accumulator of `function` for each key.
    pub fn aggregating<A: AggregateFunction>(
        &mut self,
        name: &str,
        spec: impl Into<StateSpec>,
        function: A,
    ) -> AggregatingState<A> {
        let spec = spec.into();
        self.check_schema::<A::Accumulator>(name, &spec);
        self.keyed(name, |columns| AggregatingState::declare(columns, name, spec, function))
    }

    /// A map of which every task has the same copy.
    pub fn broadcast<M: Key + Ord, V: Record>(&mut self, name: &str) -> BroadcastState<M, V> {
        if !self.declarable.broadcast {
            self.problem(format!("broadcast state {name:?} needs a broadcast input"));
            return BroadcastState::default();
        }
        let state = BroadcastState::declare(&mut self.declared.broadcast, name);
        self.unique(name, state)
    }

    /// A list for each task, whose elements are dealt out anew when the parallelism changes. For
    /// functions without keys.
    pub fn operator_list<V: Record>(&mut self, name: &str) -> OperatorList<V> {
        self.list_of_task(name, false)
    }

    /// A list for each task; after a restart every task has the elements of all. For functions
    /// without keys that keep few.
    pub fn union_list<V: Record>(&mut self, name: &str) -> OperatorList<V> {
        self.list_of_task(name, true)
    }

    fn list_of_task<V: Record>(&mut self, name: &str, is_union: bool) -> OperatorList<V> {
        if self.declarable.keyed {
            self.problem(format!("list {name:?} is kept per task: declare a list per key instead"));
            return OperatorList::default();
        }
        let list = OperatorList::declare(&mut self.declared.lists, name, is_union);
        self.unique(name, list)
    }

    fn check_schema<V: 'static>(&mut self, name: &str, spec: &StateSpec) {
        if spec.schema().is_some_and(|schema| !schema.describes::<V>()) {
            let values = std::any::type_name::<V>();
            let problem = "is described as another type than it keeps";
            self.problem(format!("state {name:?} {problem}: write `described::<{values}>()`"));
        }
    }

    fn keyed<S: Default>(
        &mut self,
        name: &str,
        declare: impl FnOnce(&mut StateColumns) -> Option<S>,
    ) -> S {
        if !self.declarable.keyed {
            self.problem(format!(
                "state {name:?} is kept per key and the function has none: key the stream by \
                 something, or declare an operator list"
            ));
            return S::default();
        }
        let state = declare(&mut self.declared.columns);
        self.unique(name, state)
    }

    fn unique<S: Default>(&mut self, name: &str, state: Option<S>) -> S {
        if state.is_none() {
            self.problem(format!("declares two states named {name:?}: give one another name"));
        }
        state.unwrap_or_default()
    }

    fn problem(&mut self, problem: String) {
        self.declared.problems.push(problem);
    }
}

impl Declared {
    /// Calls `open` on a function and takes what it declares.
    pub(in crate::operator) fn collect(
        declarable: Declarable,
        open: impl FnOnce(&mut OpenContext<'_>),
    ) -> Self {
        Self::default().and(declarable, open)
    }

    /// The same for states whose names in a snapshot begin with `owner`.
    pub(in crate::operator) fn collect_of(
        owner: &'static str,
        declarable: Declarable,
        open: impl FnOnce(&mut OpenContext<'_>),
    ) -> Self {
        Self { columns: StateColumns::of(owner), ..Self::default() }.and(declarable, open)
    }

    fn and(mut self, declarable: Declarable, open: impl FnOnce(&mut OpenContext<'_>)) -> Self {
        let declared = &mut self;
        open(&mut OpenContext { declared, declarable });
        self
    }

    /// What the plan should know of a function that has declared this.
    pub(in crate::operator) fn into_facts(self, declarable: Declarable) -> Facts {
        let states = self.columns.declarations();
        let has_event_ttl = states
            .iter()
            .any(|state| state.spec.ttl().is_some_and(|ttl| ttl.time() == TtlTime::Event));
        let unbounded = states.iter().filter(|state| !state.spec.is_bounded());
        Facts {
            is_keyed: declarable.keyed,
            is_stateful: declarable.keyed
                || self.broadcast.names().next().is_some()
                || self.lists.names().next().is_some(),
            needs_watermarks: has_event_ttl.then_some("state with a time to live in event time"),
            unbounded_states: unbounded.map(|state| state.name.clone()).collect(),
            problems: self.problems,
            ..Facts::default()
        }
    }

    /// Refuses mistakes that a plan would have found.
    pub(in crate::operator) fn check(self, ctx: &OperatorContext<'_>) -> Result<Self, Error> {
        if self.problems.is_empty() {
            return Ok(self);
        }
        let problems = self.problems.iter();
        let problems = problems.map(|problem| format!("{}: {problem}", ctx.name())).collect();
        Err(Error::Plan { problems })
    }
}
