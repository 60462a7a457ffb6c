//! A keyed function called as a task calls it: what a record costs that uses the state of its key.

use millstream::data::ahead::{Ahead, HashGroup};
use millstream::data::key_group::KeyGroupCount;
use millstream::data::row::Row;
use millstream::limits::PREFETCH_GROUP;
use millstream::operator::env::TaskPlace;
use millstream::operator::process::{KeyedProcess, KeyedProcessFunction};
use millstream::operator::{Chain, Output, Stage, TaskEnv};

use crate::keys::{KEY_BYTES, KEY_GROUP_COUNT, Keyed};

/// A key, and what is done with its state.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request<W> {
    pub(crate) key: [u8; KEY_BYTES],
    pub(crate) what: W,
}

type Operator<W, F> =
    KeyedProcess<[u8; KEY_BYTES], Request<W>, fn(&Request<W>) -> [u8; KEY_BYTES], F>;

/// The operator around a function `F` that is asked for `W`.
pub(crate) struct Engine<W, F> {
    stage: Stage<Operator<W, F>>,
    env: TaskEnv,
    told: Option<u64>,
}

/// Takes what the function answers.
struct Told<'a> {
    env: &'a TaskEnv,
    told: &'a mut Option<u64>,
}

impl Output<u64> for Told<'_> {
    fn emit(&mut self, row: Row<u64>) {
        *self.told = Some(row.value);
    }

    fn env(&self) -> &TaskEnv {
        self.env
    }
}

impl<W, F> Engine<W, F>
where
    W: 'static,
    F: KeyedProcessFunction<[u8; KEY_BYTES], Request<W>, Out = u64>,
{
    pub(crate) fn new(function: F) -> Self {
        let env = TaskEnv::new(TaskPlace {
            chain_index: 0,
            task_index: 0,
            parallelism: 1,
            key_group_count: KeyGroupCount::new(KEY_GROUP_COUNT).expect("in range"),
        });
        let key_of: fn(&Request<W>) -> [u8; KEY_BYTES] = |request| request.key;
        let mut stage = Stage::new(KeyedProcess::new(key_of, function), "state", "state");
        stage.open(&env).expect("it opens");
        Self { stage, env, told: None }
    }

    #[inline]
    pub(crate) fn send(&mut self, keyed: &Keyed, what: W) {
        let row = Row::from(Request { key: keyed.key, what });
        let mut out = Told { env: &self.env, told: &mut self.told };
        self.stage.on_row(Row { hash64: keyed.hash64, ..row }, &self.env, &mut out);
    }

    #[inline]
    pub(crate) fn prefetch(&mut self, ahead: Ahead<'_>) {
        self.stage.prefetch(ahead);
    }

    /// What the function answered.
    pub(crate) fn take_told(&mut self) -> u64 {
        self.told.take().expect("it was asked")
    }
}

/// Feeds `store` as a task is fed: it hears of each group of keys twice before they come.
#[inline]
pub(crate) fn ahead<S>(
    store: &mut S,
    picked: &[Keyed],
    prefetch: impl Fn(&mut S, Ahead<'_>),
    update: impl Fn(&mut S, &Keyed),
) {
    let hashes = |group: &[Keyed]| HashGroup::of(group.iter().map(|keyed| keyed.hash64));
    let mut groups = picked.chunks(PREFETCH_GROUP).map(hashes);
    let (mut near, mut far) = (HashGroup::default(), groups.next().unwrap_or_default());
    prefetch(store, Ahead { near: near.as_slice(), far: far.as_slice() });
    (near, far) = (far, groups.next().unwrap_or_default());
    prefetch(store, Ahead { near: near.as_slice(), far: far.as_slice() });
    for group in picked.chunks(PREFETCH_GROUP) {
        (near, far) = (far, groups.next().unwrap_or_default());
        prefetch(store, Ahead { near: near.as_slice(), far: far.as_slice() });
        for keyed in group {
            update(store, keyed);
        }
    }
}
