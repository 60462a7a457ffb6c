//! [`BroadcastState`]: the same map on every task, written by the broadcast input only.
//!
//! Every task gets the same broadcast records, and nothing else may write the map, so all tasks
//! have the same map as of the same broadcast record; a snapshot needs one of them. Reading it
//! while records are processed is a lookup in memory: no message, no lock.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use crate::data::key::Key;
use crate::data::record::Record;
use crate::error::Error;
use crate::state::snapshot::{SnapshotReader, SnapshotWriter};

/// Gives access to the broadcast states of an operator, to read.
pub trait BroadcastScope {
    /// The broadcast states.
    fn broadcast(&self) -> &BroadcastStates;
}

/// Gives access to the broadcast states of an operator while a broadcast record is processed.
pub trait BroadcastScopeMut: BroadcastScope {
    /// The broadcast states, to write.
    fn broadcast_mut(&mut self) -> &mut BroadcastStates;
}

/// All broadcast states of an operator.
#[derive(Default)]
pub struct BroadcastStates {
    states: Vec<(String, Box<dyn State>)>,
}

trait State: Any + Send {
    fn snapshot(&self, name: &str, writer: &mut SnapshotWriter<'_>);

    fn restore(&mut self, name: &str, reader: &SnapshotReader<'_>) -> Result<(), Error>;
}

/// Map keys and values of one task.
type Archives = Vec<(Vec<u8>, Vec<u8>)>;

struct Map<M, V>(BTreeMap<M, V>);

impl<M: Key + Ord, V: Record> State for Map<M, V> {
    fn snapshot(&self, name: &str, writer: &mut SnapshotWriter<'_>) {
        let entries = self.0.iter().map(|(m, v)| (m.archive().to_vec(), v.archive().to_vec()));
        writer.operator_state(name, &entries.collect::<Archives>());
    }

    fn restore(&mut self, name: &str, reader: &SnapshotReader<'_>) -> Result<(), Error> {
        let Some((_, entries)) = reader.operator_state::<Archives>(name)?.pop() else {
            return Ok(());
        };
        for (map_key, value) in entries {
            self.0.insert(reader.unarchive(name, &map_key)?, reader.unarchive(name, &value)?);
        }
        Ok(())
    }
}

impl BroadcastStates {
    /// The states' names, in the order in which they were declared.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.states.iter().map(|(name, _)| name.as_str())
    }

    /// Writes all states, as the task `task_index` has them.
    pub fn snapshot(&self, task_index: u32, writer: &mut SnapshotWriter<'_>) {
        for (name, state) in &self.states {
            writer.declare("broadcast", name);
            state.snapshot(&format!("{}{task_index:08}", stored_prefix(name)), writer);
        }
    }

    /// Takes all states from a snapshot, whichever task wrote them.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for damaged bytes.
    pub fn restore(&mut self, reader: &SnapshotReader<'_>) -> Result<(), Error> {
        let mut states = self.states.iter_mut();
        states.try_for_each(|(name, state)| state.restore(&stored_prefix(name), reader))
    }
}

/// The entries of the state `name`, by map key, whichever task wrote them.
///
/// # Errors
/// [`Error::Corrupt`] for damaged bytes and for entries of other types.
pub fn entries<M: Key + Ord, V: Record>(
    reader: &SnapshotReader<'_>,
    name: &str,
) -> Result<Vec<(M, V)>, Error> {
    let mut map = Map::<M, V>(BTreeMap::new());
    map.restore(&stored_prefix(name), reader)?;
    Ok(map.0.into_iter().collect())
}

/// With the name's length: no name followed by anything begins with another's.
fn stored_prefix(name: &str) -> String {
    format!("broadcast/{}:{name}/", name.len())
}

impl fmt::Debug for BroadcastStates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

/// A map that every task has the same copy of, ordered by its keys.
pub struct BroadcastState<M, V> {
    number: usize,
    types: PhantomData<fn() -> (M, V)>,
}

impl<M, V> Default for BroadcastState<M, V> {
    fn default() -> Self {
        Self { number: usize::MAX, types: PhantomData }
    }
}

impl<M, V> Clone for BroadcastState<M, V> {
    fn clone(&self) -> Self {
        Self { number: self.number, types: PhantomData }
    }
}

impl<M, V> fmt::Debug for BroadcastState<M, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "broadcast state {}", self.number)
    }
}

impl<M: Key + Ord, V: Record> BroadcastState<M, V> {
    /// Declares the state; `None` if the operator has one of that name.
    pub(crate) fn declare(states: &mut BroadcastStates, name: &str) -> Option<Self> {
        if states.names().any(|other| other == name) {
            return None;
        }
        states.states.push((name.to_string(), Box::new(Map(BTreeMap::<M, V>::new()))));
        Some(Self { number: states.states.len() - 1, types: PhantomData })
    }

    /// The value of a map key.
    pub fn get<'a>(&self, ctx: &'a impl BroadcastScope, map_key: &M) -> Option<&'a V> {
        self.map(ctx.broadcast()).get(map_key)
    }

    /// Whether there is a value of a map key.
    pub fn contains(&self, ctx: &impl BroadcastScope, map_key: &M) -> bool {
        self.get(ctx, map_key).is_some()
    }

    /// The entries, by map key.
    pub fn iter<'a, S: BroadcastScope>(
        &self,
        ctx: &'a S,
    ) -> impl Iterator<Item = (&'a M, &'a V)> + use<'a, S, M, V> {
        self.map(ctx.broadcast()).iter()
    }

    /// Makes `value` the value of a map key; answers the one before.
    pub fn put(&self, ctx: &mut impl BroadcastScopeMut, map_key: M, value: V) -> Option<V> {
        self.map_mut(ctx.broadcast_mut()).insert(map_key, value)
    }

    /// Removes the value of a map key and answers it.
    pub fn remove(&self, ctx: &mut impl BroadcastScopeMut, map_key: &M) -> Option<V> {
        self.map_mut(ctx.broadcast_mut()).remove(map_key)
    }

    /// Removes all entries.
    pub fn clear(&self, ctx: &mut impl BroadcastScopeMut) {
        self.map_mut(ctx.broadcast_mut()).clear();
    }

    fn map<'a>(&self, states: &'a BroadcastStates) -> &'a BTreeMap<M, V> {
        let state = states.states.get(self.number).map(|(_, state)| &**state);
        let map = state.and_then(|state| (state as &dyn Any).downcast_ref::<Map<M, V>>());
        &map.expect("`open` has declared the broadcast state").0
    }

    fn map_mut<'a>(&self, states: &'a mut BroadcastStates) -> &'a mut BTreeMap<M, V> {
        let state = states.states.get_mut(self.number).map(|(_, state)| &mut **state);
        let map = state.and_then(|state| (state as &mut dyn Any).downcast_mut::<Map<M, V>>());
        &mut map.expect("`open` has declared the broadcast state").0
    }
}
