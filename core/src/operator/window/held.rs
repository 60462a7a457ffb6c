//! The windows that a key holds in the general operator, in memory and in snapshots.

use crate::data::key::Key;
use crate::data::record::Record;
use crate::data::row::NO_EVENT_TIME;
use crate::error::Error;
use crate::operator::window::stored::{self, KeyWriter, Place, StateName};
use crate::state::packed::{Damage, Packer, Part, Unpacker, heap_bytes};
use crate::state::snapshot::SnapshotReader;
use crate::time::window::{TimeDomain, Window};

/// A key's windows, ascending.
#[derive(Debug, Clone)]
pub(super) struct KeyWindows<V, S> {
    pub(super) windows: Vec<Held<V, S>>,
}

impl<V, S> Default for KeyWindows<V, S> {
    fn default() -> Self {
        Self { windows: Vec::new() }
    }
}

impl<V, S> KeyWindows<V, S> {
    /// The index of `window`, or where it would be put.
    pub(super) fn find(&self, window: Window) -> Result<usize, usize> {
        self.windows.binary_search_by_key(&window, |held| held.window)
    }
}

impl<V, S: Record + Default + PartialEq> KeyWindows<V, S> {
    /// Packs all windows, a part each; `pack` what one kept.
    pub(super) fn pack(&self, packer: &mut Packer, pack: impl Fn(&V, &mut Packer)) {
        packer.begin(NO_EVENT_TIME);
        for held in &self.windows {
            packer.begin_part(0);
            packer.stamp(held.window.start_ms);
            packer.stamp(held.window.end_ms);
            packer.value(&held.trigger);
            packer.stamp(held.timers.len() as i64);
            for (domain, time_ms) in &held.timers {
                packer.stamp(*domain as i64);
                packer.stamp(*time_ms);
            }
            packer.stamp(i64::from(held.contents.is_some()));
            held.contents.iter().for_each(|kept| pack(kept, packer));
            packer.end_part();
        }
    }

    /// Takes in what was packed.
    pub(super) fn unpack(
        &mut self,
        bytes: &[u8],
        unpack: impl Fn(&mut Part<'_, '_>) -> Result<V, Damage>,
    ) -> Result<(), Damage> {
        let (mut unpacker, _) = Unpacker::new(bytes)?;
        while let Some((_, mut part)) = unpacker.next_part()? {
            let window = Window::new(part.stamp()?, part.stamp()?);
            let trigger = part.value()?;
            let mut timers = Vec::new();
            for _ in 0..part.stamp()? {
                let domain =
                    if part.stamp()? == 0 { TimeDomain::Event } else { TimeDomain::Processing };
                timers.push((domain, part.stamp()?));
            }
            let contents = if part.stamp()? == 0 { None } else { Some(unpack(&mut part)?) };
            self.windows.push(Held { window, contents, trigger, timers });
        }
        Ok(())
    }

    /// Bytes on the heap, about; `bytes_of` what a window kept.
    pub(super) fn heap_bytes(&self, bytes_of: impl Fn(&V) -> usize) -> usize {
        let of_held = |held: &Held<V, S>| {
            let timers = held.timers.capacity() * size_of::<(TimeDomain, i64)>();
            timers + heap_bytes(&held.trigger) + held.contents.as_ref().map_or(0, &bytes_of)
        };
        let slots = self.windows.capacity() * size_of::<Held<V, S>>();
        slots + self.windows.iter().map(of_held).sum::<usize>()
    }
}

/// One window of one key.
#[derive(Debug, Clone)]
pub(super) struct Held<V, S> {
    pub(super) window: Window,
    /// `None` before the first record and after a purge.
    pub(super) contents: Option<V>,
    /// What the trigger remembers.
    pub(super) trigger: S,
    /// What the trigger waits for; the time of cleanup is not among them.
    pub(super) timers: Vec<(TimeDomain, i64)>,
}

/// A window's trigger state; the map key holds its timers.
pub(super) const WINDOWS: StateName = StateName("windows", 0);
/// The timers of a key.
pub(super) const TIMERS: StateName = StateName("timers", 5);

const TIMER_BYTES: usize = 9;

impl<V, S: Default> Held<V, S> {
    pub(super) fn new(window: Window) -> Self {
        Self { window, contents: None, trigger: S::default(), timers: Vec::new() }
    }
}

impl<V, S: Record + Default + PartialEq> Held<V, S> {
    /// Whether forgetting it changes nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.contents.is_none() && self.timers.is_empty() && self.trigger == S::default()
    }

    pub(super) fn save(&self, writer: &mut KeyWriter<'_, '_>) {
        let mut timers = self.timers.clone();
        timers.sort_unstable_by_key(|(domain, time_ms)| (*domain as u8, *time_ms));
        let map_key: Vec<u8> =
            timers.into_iter().flat_map(|(domain, time_ms)| timer_bytes(domain, time_ms)).collect();
        let namespace = stored::namespace_of(self.window);
        let place = Place { namespace: &namespace, map_key: &map_key, ..Place::default() };
        writer.put(WINDOWS, place, &self.trigger);
    }

    /// The window of an entry, without its contents.
    pub(super) fn load(namespace: &[u8], map_key: &[u8], trigger: S) -> Option<Self> {
        let (window, timers) = load_timers(namespace, map_key)?;
        Some(Self { window, contents: None, trigger, timers })
    }
}

/// The window of an entry of [`WINDOWS`], and what its trigger waits for.
fn load_timers(namespace: &[u8], map_key: &[u8]) -> Option<(Window, Vec<(TimeDomain, i64)>)> {
    let window = stored::window_of(namespace)?;
    let timers = map_key.chunks(TIMER_BYTES).map(timer_of).collect::<Option<_>>()?;
    Some((window, timers))
}

/// What the triggers of all windows wait for: key, window, kind of time and time (ms).
///
/// # Errors
/// [`Error::Corrupt`] for damaged bytes and for keys of another type.
pub(crate) fn window_timers<K: Key>(
    reader: &SnapshotReader<'_>,
) -> Result<Vec<(K, Window, TimeDomain, i64)>, Error> {
    let mut all = Vec::new();
    for (place, _) in reader.keyed_entries(WINDOWS.0)? {
        let held = load_timers(place.namespace, place.map_key);
        let (window, timers) = held.ok_or_else(|| Error::Corrupt {
            what: format!("state {}", WINDOWS.0),
            offset: 0,
            reason: "an entry does not name a window and its timers".to_string(),
        })?;
        for (domain, time_ms) in timers {
            all.push((reader.unarchive(WINDOWS.0, place.key)?, window, domain, time_ms));
        }
    }
    Ok(all)
}

/// Writes a timer of a key: its clock, its time, and whether it waits for the next horizon.
pub(super) fn save_timer(timer: (TimeDomain, i64, bool), writer: &mut KeyWriter<'_, '_>) {
    let (domain, time_ms, is_late) = timer;
    let map_key = timer_bytes(domain, time_ms);
    writer.put(TIMERS, Place { map_key: &map_key, ..Place::default() }, &u8::from(is_late));
}

/// The timer that [`save_timer`] wrote.
pub(super) fn load_timer(map_key: &[u8], is_late: u8) -> Option<(TimeDomain, i64, bool)> {
    let (domain, time_ms) = timer_of(map_key)?;
    Some((domain, time_ms, is_late == 1))
}

fn timer_bytes(domain: TimeDomain, time_ms: i64) -> [u8; TIMER_BYTES] {
    let mut bytes = [domain as u8; TIMER_BYTES];
    bytes[1..].copy_from_slice(&stored::ordered(time_ms));
    bytes
}

fn timer_of(bytes: &[u8]) -> Option<(TimeDomain, i64)> {
    let (first, rest) = bytes.split_first()?;
    let domain = match first {
        0 => TimeDomain::Event,
        1 => TimeDomain::Processing,
        _ => return None,
    };
    Some((domain, stored::from_ordered(rest)?))
}
