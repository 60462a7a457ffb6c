//! A number of bytes as people write it: `2GiB`, `512 MiB`, `65536`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number of bytes. In text it may have a unit: `KiB`, `MiB`, `GiB`, `TiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteCount(pub u64);

/// Each 1024 times the one before.
const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];

impl fmt::Display for ByteCount {
    /// In the largest unit of which it is a whole number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = (0..UNITS.len()).rev().find(|unit| self.0.is_multiple_of(1 << (10 * unit)));
        let unit = if self.0 == 0 { 0 } else { unit.unwrap_or(0) };
        write!(f, "{}{}", self.0 >> (10 * unit), UNITS[unit])
    }
}

impl FromStr for ByteCount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refusal = || format!("{text:?} is no number of bytes such as 65536, 512MiB or 2GiB");
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = (&text[..digits], text[digits..].trim());
        let number: u64 = number.parse().map_err(|_| refusal())?;
        let unit = if unit.is_empty() { "B" } else { unit };
        let power = UNITS.iter().position(|known| *known == unit).ok_or_else(refusal)?;
        number.checked_mul(1 << (10 * power)).map(Self).ok_or_else(refusal)
    }
}

impl Serialize for ByteCount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteCount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(u64),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Number(bytes) => Ok(Self(bytes)),
            Written::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_what_was_read() {
        for (text, bytes, printed) in [
            ("0", 0, "0B"),
            ("1000", 1000, "1000B"),
            ("512MiB", 512 << 20, "512MiB"),
            ("2 GiB", 2 << 30, "2GiB"),
            ("2048KiB", 2 << 20, "2MiB"),
            ("1025KiB", 1025 << 10, "1025KiB"),
        ] {
            let count: ByteCount = text.parse().expect(text);
            assert_eq!((count.0, count.to_string()), (bytes, printed.to_string()));
            assert_eq!(printed.parse(), Ok(count));
        }
    }

    #[test]
    fn what_is_no_number_of_bytes_is_refused() {
        for text in ["", "GiB", "-1", "1.5GiB", "2GB", "2gib", "99999999999TiB"] {
            let refusal = text.parse::<ByteCount>().expect_err(text);
            assert!(refusal.contains("512MiB"), "{refusal}");
        }
    }
}
