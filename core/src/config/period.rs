//! A length of time as people write it: `500ms`, `10s`, `5m`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A length of time. In text it has units: `ms`, `s`, `m`, `h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(pub Duration);

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refusal = |_| format!("{text:?} is no length of time such as 500ms, 10s or 5m");
        humantime::parse_duration(text).map(Self).map_err(refusal)
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_what_was_read() {
        for (text, millis, printed) in
            [("500ms", 500, "500ms"), ("10s", 10_000, "10s"), ("90s", 90_000, "1m 30s")]
        {
            let period: Period = text.parse().expect(text);
            assert_eq!((period.0.as_millis(), period.to_string()), (millis, printed.to_string()));
            assert_eq!(printed.parse(), Ok(period));
        }
        let refusal = "soon".parse::<Period>().expect_err("no time");
        assert_eq!(refusal, "\"soon\" is no length of time such as 500ms, 10s or 5m");
    }
}
