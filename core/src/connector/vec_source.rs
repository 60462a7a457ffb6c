//! A vector as a source: for tests and examples.

use crate::connector::generator::{Generate, GeneratorSource};
use crate::data::row::NO_EVENT_TIME;

/// Values that are there already, with event times or without.
#[derive(Debug, Clone)]
pub struct Items<T> {
    items: Vec<(i64, T)>,
}

impl<T: Clone + Send + 'static> Generate for Items<T> {
    type Out = T;

    fn make(&mut self, n: u64, _due_ns: u64) -> (i64, T) {
        self.items[n as usize].clone()
    }

    fn describe(&self) -> String {
        "a vector".to_string()
    }

    fn split_name(&self) -> &'static str {
        "vector"
    }
}

/// A source of values that are there already. Of P tasks, task i gives the values i, i + P, i + 2P
/// and so on.
pub type VecSource<T> = GeneratorSource<Items<T>>;

impl<T: Clone + Send + 'static> VecSource<T> {
    /// The values, without event times.
    ///
    /// ```
    /// use millstream::prelude::*;
    /// let words = VecSource::from_vec(vec!["to", "be"]);
    /// ```
    pub fn from_vec(values: Vec<T>) -> Self {
        Self::timed(values.into_iter().map(|value| (NO_EVENT_TIME, value)).collect())
    }

    /// The values, each with its event time (ms since 1970) before it.
    pub fn timed(items: Vec<(i64, T)>) -> Self {
        Self::of(items.len() as u64, Items { items })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::source::SourceStatus;
    use crate::testing::{SourceHarness, SourceRecord};

    #[test]
    fn values_come_in_batches_with_their_times() {
        let letters = VecSource::timed(vec![(5, 'a'), (3, 'b'), (9, 'c')]).batches_of(2);
        let mut source = SourceHarness::new(letters);
        let record = |position, event_time_ms, value| SourceRecord {
            split: 0,
            position,
            event_time_ms,
            value,
        };
        assert_eq!(source.poll(), SourceStatus::Ready);
        assert_eq!(source.take_records(), [record(0, 5, 'a'), record(1, 3, 'b')]);
        assert_eq!(source.poll(), SourceStatus::Ended);
        assert_eq!(source.take_records(), [record(2, 9, 'c')]);
    }

    #[test]
    fn an_empty_vector_ends_at_once() {
        let none = VecSource::from_vec(Vec::<u8>::new());
        assert_eq!(SourceHarness::new(none).task(1, 2).poll(), SourceStatus::Ended);
    }
}
