//! A number that something is multiplied with, as people write it: `1.5`, `0.1`, `2`.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A factor of up to a thousand, in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Factor(u32);

/// Thousandths of one.
const UNIT: u32 = 1_000;

/// The largest.
const MAX: f64 = 1e3;

impl Factor {
    /// Changes nothing.
    pub const ONE: Self = Self(UNIT);

    /// So many thousandths.
    pub const fn thousandths(count: u32) -> Self {
        Self(count)
    }

    /// That many times `duration`.
    pub fn of(self, duration: Duration) -> Duration {
        duration.saturating_mul(self.0) / UNIT
    }
}

impl TryFrom<f64> for Factor {
    type Error = String;

    fn try_from(number: f64) -> Result<Self, String> {
        if (0.0..=MAX).contains(&number) {
            return Ok(Self((number * f64::from(UNIT)).round() as u32));
        }
        Err(format!("{number} is no factor from 0 to {MAX}"))
    }
}

impl From<Factor> for f64 {
    fn from(factor: Factor) -> Self {
        Self::from(factor.0) / Self::from(UNIT)
    }
}

impl fmt::Display for Factor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f64::from(*self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_are_read_as_they_are_printed_and_multiply_periods() {
        for (number, seconds) in [(1.5, 15), (0.1, 1), (2.0, 20), (0.0, 0), (1_000.0, 10_000)] {
            let factor = Factor::try_from(number).expect("it is one");
            assert_eq!(factor.to_string().parse(), Ok(number));
            assert_eq!(factor.of(Duration::from_secs(10)), Duration::from_secs(seconds));
        }
        for number in [-0.1, 1_000.5, f64::NAN, f64::INFINITY] {
            let refusal = Factor::try_from(number).expect_err("it is none");
            assert!(refusal.contains("is no factor from 0 to 1000"), "{refusal}");
        }
        let toml: toml::Value = toml::from_str("a = 2\nb = 0.25").expect("it is TOML");
        let read = |name: &str| toml[name].clone().try_into::<Factor>().map(|it| it.0);
        assert_eq!((read("a"), read("b")), (Ok(2_000), Ok(250)));
    }
}
