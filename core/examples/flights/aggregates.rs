//! What windows keep instead of their flights.

use std::cmp::Reverse;

use millstream::prelude::*;

use super::records::{Delay, Flight};

/// How many delays of a day are kept.
const DELAY_COUNT: usize = 10;

/// Counts flights.
#[derive(Debug, Clone)]
pub struct Count;

impl AggregateFunction for Count {
    type In = Flight;
    type Accumulator = u64;
    type Out = u64;

    fn create(&self) -> u64 {
        0
    }

    fn add(&self, count: &mut u64, _flight: Flight) {
        *count += 1;
    }

    fn merge(&self, count: &mut u64, other: u64) {
        *count += other;
    }

    fn result(&self, count: &u64) -> u64 {
        *count
    }
}

/// Counts flights, and adds up the minutes by which they left late.
#[derive(Debug, Clone)]
pub struct CountAndDelay;

impl AggregateFunction for CountAndDelay {
    type In = Flight;
    type Accumulator = (u64, i64);
    type Out = (u64, i64);

    fn create(&self) -> (u64, i64) {
        (0, 0)
    }

    fn add(&self, (count, delay_sum): &mut (u64, i64), flight: Flight) {
        *count += 1;
        *delay_sum += flight.dep_delay.unwrap_or(0);
    }

    fn merge(&self, (count, delay_sum): &mut (u64, i64), other: (u64, i64)) {
        *count += other.0;
        *delay_sum += other.1;
    }

    fn result(&self, sums: &(u64, i64)) -> (u64, i64) {
        *sums
    }
}

/// Keeps the longest delays, the longest first.
#[derive(Debug, Clone)]
pub struct LongestDelays;

impl AggregateFunction for LongestDelays {
    type In = Delay;
    type Accumulator = Vec<Delay>;
    type Out = Vec<Delay>;

    fn create(&self) -> Vec<Delay> {
        Vec::new()
    }

    fn add(&self, longest: &mut Vec<Delay>, delay: Delay) {
        self.merge(longest, vec![delay]);
    }

    /// Equal delays are ordered by flight, so that the same ones are kept whatever came first.
    fn merge(&self, longest: &mut Vec<Delay>, other: Vec<Delay>) {
        longest.extend(other);
        longest.sort_by(|a, b| {
            let order = |delay: &Delay| Reverse(delay.dep_delay);
            order(a).cmp(&order(b)).then_with(|| (&a.flight, a.at_ms).cmp(&(&b.flight, b.at_ms)))
        });
        longest.truncate(DELAY_COUNT);
    }

    fn result(&self, longest: &Vec<Delay>) -> Vec<Delay> {
        longest.clone()
    }
}
