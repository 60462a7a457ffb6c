//! What flows through the job: flights, weather, planes as they are in the files, and the results.

use std::time::SystemTime;

use rkyv::{Archive, Deserialize as Unarchive, Serialize as ToArchive};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

/// A flight from New York: one line of `flights.csv.zst`.
#[derive(Debug, Clone, PartialEq, Eq, Archive, ToArchive, Unarchive, Serialize, Deserialize)]
pub struct Flight {
    /// The full hour of its scheduled departure, ms since 1970.
    #[serde(rename(deserialize = "time_hour"), deserialize_with = "utc_ms")]
    pub hour_ms: i64,
    /// Its minute.
    pub minute: u8,
    /// The airport that it leaves.
    pub origin: String,
    /// The airport that it goes to.
    pub dest: String,
    /// The airline.
    pub carrier: String,
    /// Its number.
    pub flight: u32,
    /// The plane, if it is known.
    pub tailnum: Option<String>,
    /// Minutes by which it left late, or early if below 0; none if it never left.
    pub dep_delay: Option<i64>,
}

impl Flight {
    /// Its scheduled departure, ms since 1970: event time.
    pub fn at_ms(&self) -> i64 {
        self.hour_ms + i64::from(self.minute) * 60_000
    }

    /// The airline and its number: `UA1545`.
    pub fn designator(&self) -> String {
        format!("{}{}", self.carrier, self.flight)
    }
}

/// The weather at an airport: one line of `weather.csv.zst`.
#[derive(Debug, Clone, PartialEq, Archive, ToArchive, Unarchive, Deserialize)]
pub struct Weather {
    /// Since when, ms since 1970: event time.
    #[serde(rename = "time_hour", deserialize_with = "utc_ms")]
    pub at_ms: i64,
    /// Where.
    pub origin: String,
    /// Degrees Fahrenheit.
    pub temp: Option<f64>,
    /// Miles per hour.
    pub wind_speed: Option<f64>,
    /// Inches.
    pub precip: f64,
    /// Miles.
    pub visib: f64,
}

/// A plane: one line of `planes.csv`.
#[derive(Debug, Clone, PartialEq, Eq, Archive, ToArchive, Unarchive, Deserialize)]
pub struct Plane {
    /// What is painted on its tail.
    pub tailnum: String,
    /// When it was built.
    pub year: Option<u16>,
    /// How many people it seats.
    pub seats: u16,
}

/// The flights that were to leave an airport in an hour.
#[derive(Debug, Clone, PartialEq, Eq, Archive, ToArchive, Unarchive, Serialize, Deserialize)]
pub struct Hour {
    /// The airport.
    pub origin: String,
    /// When the hour begins, ms since 1970.
    pub start_ms: i64,
    /// How many flights.
    pub count: u64,
    /// Minutes of delay of those that left.
    pub delay_sum: i64,
}

/// Flights of a plane that follow each other.
#[derive(Debug, Clone, PartialEq, Eq, Archive, ToArchive, Unarchive, Serialize, Deserialize)]
pub struct Session {
    /// The plane.
    pub tailnum: String,
    /// Its first departure, ms since 1970.
    pub start_ms: i64,
    /// Its last departure plus the gap, ms since 1970.
    pub end_ms: i64,
    /// How many flights.
    pub count: u64,
}

/// A flight with the weather as of its departure, and its plane.
#[derive(Debug, Clone, PartialEq, Archive, ToArchive, Unarchive, Serialize, Deserialize)]
pub struct Departure {
    /// Scheduled, ms since 1970.
    pub at_ms: i64,
    /// The airport that it leaves.
    pub origin: String,
    /// The airline and its number: `UA1545`.
    pub flight: String,
    /// The plane, if it is known.
    pub tailnum: Option<String>,
    /// Minutes by which it left late; none if it never left.
    pub dep_delay: Option<i64>,
    /// Since when the weather was like that, ms since 1970.
    pub weather_ms: Option<i64>,
    /// Degrees Fahrenheit.
    pub temp: Option<f64>,
    /// Miles per hour.
    pub wind_speed: Option<f64>,
    /// When the plane was built.
    pub plane_year: Option<u16>,
    /// How many people the plane seats.
    pub seats: Option<u16>,
}

/// A flight among those of its day that were delayed most.
#[derive(
    Debug,
    Clone,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Archive,
    ToArchive,
    Unarchive,
    Serialize,
    Deserialize
)]
pub struct Delay {
    /// The day's first millisecond in UTC, since 1970.
    pub day_ms: i64,
    /// 1 is the longest delay of the day.
    pub rank: u32,
    /// Minutes.
    pub dep_delay: i64,
    /// The airline and its number: `UA1545`.
    pub flight: String,
    /// The airport that it left.
    pub origin: String,
    /// The airport that it went to.
    pub dest: String,
    /// Scheduled departure, ms since 1970.
    pub at_ms: i64,
}

/// Reads `2013-01-01T10:00:00Z` as milliseconds since 1970.
fn utc_ms<'de, D: Deserializer<'de>>(from: D) -> Result<i64, D::Error> {
    let text = <&str>::deserialize(from)?;
    let time = humantime::parse_rfc3339(text).map_err(D::Error::custom)?;
    let since = time.duration_since(SystemTime::UNIX_EPOCH).map_err(D::Error::custom)?;
    i64::try_from(since.as_millis()).map_err(D::Error::custom)
}
