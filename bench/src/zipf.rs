//! Ranks by Zipf's law with exponent 0.99, after Gray et al., *Quickly generating billion-record
//! synthetic databases*.

use crate::mix;

const THETA: f64 = 0.99;

/// Ranks of so many things.
#[derive(Debug, Clone, Copy)]
pub struct Zipf {
    count: f64,
    zeta: f64,
    eta: f64,
}

impl Zipf {
    /// Of `count` things.
    pub fn new(count: u64) -> Self {
        let term = |rank: u64| (rank as f64).powf(-THETA);
        let zeta: f64 = (1..=count).map(term).sum();
        let zeta_of_two = term(1) + term(2);
        let count = count as f64;
        let eta = (1.0 - (2.0 / count).powf(1.0 - THETA)) / (1.0 - zeta_of_two / zeta);
        Self { count, zeta, eta }
    }

    /// The `i`th rank drawn: 0 is the most frequent.
    pub fn rank(&self, i: u64) -> u64 {
        let uniform = mix(i) as f64 / 2_f64.powi(64);
        let scaled = uniform * self.zeta;
        if scaled < 1.0 {
            return 0;
        }
        if scaled < 1.0 + 0.5_f64.powf(THETA) {
            return 1;
        }
        let exponent = 1.0 / (1.0 - THETA);
        (self.count * (self.eta * uniform - self.eta + 1.0).powf(exponent)) as u64
    }
}
