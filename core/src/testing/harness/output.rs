//! What comes out of operators under test: rows, and those of side outputs.

use std::any::Any;
use std::fmt;

use super::OperatorHarness;
use crate::data::row::Row;
use crate::operator::side_output::OutputTag;
use crate::operator::{Chain, Output, TaskEnv};

/// Whether the order in which keys have their say matters to [`conformance`].
///
/// [`conformance`]: crate::testing::conformance()
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyOrder {
    Compared,
    Free,
}

/// A side output that the test reads, and how to print its rows.
pub(super) struct Side {
    name: &'static str,
    rows: Box<dyn Any>,
    /// Moves what the operators put there; prints what is new.
    pub(super) collect: fn(&mut Side, &TaskEnv, u16) -> Vec<Outcome>,
}

/// Something that came out: its key's hash, and all of it as text.
pub(in crate::testing) type Outcome = (u64, String);

/// The output that something came out by: what its text begins with.
pub(in crate::testing) fn output_of(text: &str) -> &str {
    text.split(": ").next().unwrap_or_default()
}

/// The end of the chain: a list of rows.
pub(super) struct Collect<'a, T> {
    pub(super) env: &'a TaskEnv,
    pub(super) rows: &'a mut Vec<Row<T>>,
}

impl<T> Output<T> for Collect<'_, T> {
    fn emit(&mut self, row: Row<T>) {
        self.rows.push(row);
    }

    fn env(&self) -> &TaskEnv {
        self.env
    }
}

impl<C: Chain> OperatorHarness<C> {
    /// Reads the side output `tag` of every operator in the chain.
    pub fn reading<T: fmt::Debug + 'static>(mut self, tag: OutputTag<T>) -> Self {
        for stage_index in 0..self.stage_count {
            self.env.side_outputs.borrow_mut().register(stage_index, tag);
        }
        let collect = |side: &mut Side, env: &TaskEnv, stage_count: u16| {
            let name = side.name;
            let rows: &mut Vec<Row<T>> = side.rows.downcast_mut().expect("made for this type");
            let first = rows.len();
            let mut sides = env.side_outputs.borrow_mut();
            for stage_index in 0..stage_count {
                let new = sides.rows(stage_index, OutputTag::<T>::new(name)).ok().flatten();
                rows.append(new.expect("registered above, with this type"));
            }
            rows[first..].iter().map(|row| (row.hash64, format!("{name}: {row:?}"))).collect()
        };
        self.sides.push(Side { name: tag.name(), rows: Box::new(Vec::<Row<T>>::new()), collect });
        self
    }

    /// Which key comes first when several have something to say at once is not compared: the
    /// operator promises an order for each key only.
    pub fn keys_in_any_order(mut self) -> Self {
        self.key_order = KeyOrder::Free;
        self
    }

    /// What came out since the last call, without times and keys.
    pub fn take_output(&mut self) -> Vec<C::Out> {
        self.take_rows().into_iter().map(|row| row.value).collect()
    }

    /// The rows that came out since the last call.
    pub fn take_rows(&mut self) -> Vec<Row<C::Out>> {
        std::mem::take(&mut self.rows)
    }

    /// What went to a side output since the last call.
    ///
    /// # Panics
    /// If the harness does not read it, or it is of another type.
    pub fn take_side_output<T: 'static>(&mut self, tag: OutputTag<T>) -> Vec<T> {
        let rows = self.side(tag.name()).rows.downcast_mut::<Vec<Row<T>>>();
        let rows = rows.expect("the tag that `reading` was called with");
        std::mem::take(rows).into_iter().map(|row| row.value).collect()
    }

    /// What has come out since the last call: rows, then rows of side outputs.
    pub(in crate::testing) fn take_outcome(&mut self) -> Vec<Outcome>
    where
        C::Out: fmt::Debug,
    {
        let rows = self.take_rows();
        let mut outcome: Vec<Outcome> =
            rows.iter().map(|row| (row.hash64, format!("{row:?}"))).collect();
        for side in &mut self.sides {
            outcome.extend((side.collect)(side, &self.env, self.stage_count));
        }
        outcome
    }

    /// Orders what came out by key where only the order within each key is promised, and for each
    /// key by output.
    pub(in crate::testing) fn settle_order(&self, outcome: &mut [Outcome]) {
        if self.key_order == KeyOrder::Free {
            outcome.sort_by(|a, b| (a.0, output_of(&a.1)).cmp(&(b.0, output_of(&b.1))));
        }
    }

    fn side(&mut self, name: &'static str) -> &mut Side {
        let side = self.sides.iter_mut().find(|side| side.name == name);
        let side = side.unwrap_or_else(|| panic!("call `reading` for side output {name:?} first"));
        (side.collect)(side, &self.env, self.stage_count);
        side
    }
}
