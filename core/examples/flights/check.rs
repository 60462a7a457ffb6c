//! Compares the results with answers that were computed by other means (SQL over the same files).

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use millstream::testing::written_lines;
use serde::de::DeserializeOwned;

use super::records::{Delay, Departure, Hour, Session};

/// A question, the answer it has, and the one that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What was asked.
    pub question: &'static str,
    /// What is right.
    pub expected: i64,
    /// What the job says.
    pub found: i64,
}

impl Answer {
    /// Whether it is right.
    pub fn is_right(&self) -> bool {
        self.found == self.expected
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { question, expected, found } = self;
        write!(f, "  {} {question:<58} {found:>17}", if self.is_right() { '✓' } else { '✗' })?;
        if self.is_right() { Ok(()) } else { write!(f, ", not {expected}") }
    }
}

/// The folders of results.
pub const RESULTS: [&str; 5] = ["hours", "sessions", "delays", "departures", "late"];

/// Removes the results in `folder`.
///
/// # Errors
/// If that is not possible.
pub fn clear(folder: &Path) -> io::Result<()> {
    let old = RESULTS.map(|name| folder.join(name));
    old.iter().filter(|path| path.exists()).try_for_each(fs::remove_dir_all)
}

/// Reads the results in `folder` and compares them with the answers for the whole year.
///
/// # Errors
/// If one cannot be read.
pub fn answers(folder: &Path) -> io::Result<Vec<Answer>> {
    let mut answers = Vec::new();
    hours(&mut answers, &read(&folder.join("hours"))?);
    sessions(&mut answers, &read(&folder.join("sessions"))?);
    departures(&mut answers, &read(&folder.join("departures"))?);
    delays(&mut answers, &read(&folder.join("delays"))?);
    Ok(answers)
}

fn hours(answers: &mut Vec<Answer>, hours: &[Hour]) {
    let mut ask = |question, expected, found| answers.push(Answer { question, expected, found });
    ask("airport and hour: results", 19_486, hours.len() as i64);
    ask("airport and hour: flights", 336_776, hours.iter().map(|h| h.count as i64).sum());
    ask("airport and hour: minutes of delay", 4_152_200, hours.iter().map(|h| h.delay_sum).sum());
    let most = hours.iter().map(|hour| hour.count as i64).max();
    ask("airport and hour: most flights in one", 38, most.unwrap_or(0));
    let mut first: Vec<&Hour> = hours.iter().collect();
    first.sort_unstable_by_key(|hour| (hour.start_ms, &hour.origin));
    let expected = [("EWR", 2, -2), ("JFK", 3, 1), ("LGA", 1, 4)];
    let is_expected = |(hour, (origin, count, delay_sum)): (&&Hour, (&str, u64, i64))| {
        hour.start_ms == 1_357_034_400_000
            && hour.origin == origin
            && hour.count == count
            && hour.delay_sum == delay_sum
    };
    let right_count = first.iter().zip(expected).filter(|pair| is_expected(*pair)).count();
    ask("airport and hour: the first three are the known ones", 3, right_count as i64);
}

fn sessions(answers: &mut Vec<Answer>, sessions: &[Session]) {
    let mut ask = |question, expected, found| answers.push(Answer { question, expected, found });
    ask("sessions of planes, gap 12 h: how many", 248_441, sessions.len() as i64);
    let longest = sessions.iter().map(|session| session.count as i64).max();
    ask("sessions of planes: most flights in one", 34, longest.unwrap_or(0));
    let lengths = sessions.iter().map(|session| session.end_ms - session.start_ms);
    ask("sessions of planes: length of all together, ms", 12_749_129_340_000, lengths.sum());
}

fn departures(answers: &mut Vec<Answer>, departures: &[Departure]) {
    let mut ask = |question, expected, found| answers.push(Answer { question, expected, found });
    let count = |holds: fn(&Departure) -> bool| {
        departures.iter().filter(|departure| holds(departure)).count() as i64
    };
    ask("flights", 336_776, departures.len() as i64);
    ask("flights that left", 328_521, count(|d| d.dep_delay.is_some()));
    let times = || departures.iter().map(|departure| departure.at_ms);
    ask("flights: first departure, ms", 1_357_035_300_000, times().min().unwrap_or(0));
    ask("flights: last departure, ms", 1_388_552_340_000, times().max().unwrap_or(0));
    ask("flights whose plane's year is known", 278_864, count(|d| d.plane_year.is_some()));
    let seats = departures.iter().filter_map(|d| d.seats).map(i64::from);
    ask("flights: seats", 38_851_317, seats.sum());
    ask("flights with weather as of departure", 336_776, count(|d| d.weather_ms.is_some()));
    let ages = departures.iter().filter_map(|d| Some(d.at_ms - d.weather_ms?));
    ask("flights: age of the weather, all together, ms", 586_057_680_000, ages.sum());
}

fn delays(answers: &mut Vec<Answer>, delays: &[Delay]) {
    let mut ask = |question, expected, found| answers.push(Answer { question, expected, found });
    ask("longest delays: results", 3_660, delays.len() as i64);
    ask("longest delays: minutes", 780_270, delays.iter().map(|d| d.dep_delay).sum());
    let longest = delays.iter().map(|delay| delay.dep_delay).max();
    ask("longest delays: the longest, minutes", 1_301, longest.unwrap_or(0));
}

/// The records in all JSON Lines files of `folder` and below.
fn read<T: DeserializeOwned>(folder: &Path) -> io::Result<Vec<T>> {
    let lines = written_lines(folder)?;
    lines.iter().map(|line| serde_json::from_str(line).map_err(io::Error::from)).collect()
}
