//! What the flights should say of weather, planes and longest delays.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

use super::records::{Delay, Departure};

const DAY_MS: i64 = 24 * 3_600_000;

/// The results, as sorted lines.
pub(super) struct Expected {
    pub(super) departures: Vec<String>,
    pub(super) delays: Vec<String>,
}

impl Expected {
    /// What the files in `data` should give.
    pub(super) fn of(data: &Path) -> Self {
        let flights = flights(data);
        let mut departures: Vec<String> = departures(data, &flights).iter().map(json).collect();
        let mut delays: Vec<String> = delays(&flights).iter().map(json).collect();
        departures.sort_unstable();
        delays.sort_unstable();
        Self { departures, delays }
    }
}

struct Flight {
    at_ms: i64,
    origin: String,
    dest: String,
    designator: String,
    tailnum: Option<String>,
    dep_delay: Option<i64>,
}

fn flights(data: &Path) -> Vec<Flight> {
    let parse = |[hour, minute, origin, dest, carrier, number, tailnum, delay]: [&str; 8]| Flight {
        at_ms: time_ms(hour) + number_of::<i64>(minute) * 60_000,
        origin: origin.to_string(),
        dest: dest.to_string(),
        designator: format!("{carrier}{number}"),
        tailnum: known(tailnum).map(str::to_string),
        dep_delay: known(delay).map(number_of),
    };
    lines(&zstd(&data.join("flights.csv.zst"))).map(parse).collect()
}

/// Every flight with the last weather at its airport up to its departure, and its plane.
fn departures(data: &Path, flights: &[Flight]) -> Vec<Departure> {
    type Weather = (Option<f64>, Option<f64>);
    let mut weather: BTreeMap<String, BTreeMap<i64, Weather>> = BTreeMap::new();
    for [hour, origin, temp, wind_speed, _, _] in lines(&zstd(&data.join("weather.csv.zst"))) {
        let temp = known(temp).map(number_of);
        let wind_speed = known(wind_speed).map(number_of);
        let of_airport = weather.entry(origin.to_string()).or_default();
        of_airport.insert(time_ms(hour), (temp, wind_speed));
    }
    let mut planes: BTreeMap<String, (Option<u16>, u16)> = BTreeMap::new();
    let text = fs::read_to_string(data.join("planes.csv")).expect("the file is there");
    for [tailnum, year, seats] in lines(&text) {
        planes.insert(tailnum.to_string(), (known(year).map(number_of), number_of(seats)));
    }
    let departure = |flight: &Flight| {
        let before = weather.get(&flight.origin).map(|times| times.range(..=flight.at_ms));
        let weather = before.and_then(|mut before| before.next_back());
        let plane = flight.tailnum.as_ref().and_then(|tailnum| planes.get(tailnum));
        Departure {
            at_ms: flight.at_ms,
            origin: flight.origin.clone(),
            flight: flight.designator.clone(),
            tailnum: flight.tailnum.clone(),
            dep_delay: flight.dep_delay,
            weather_ms: weather.map(|(at_ms, _)| *at_ms),
            temp: weather.and_then(|(_, weather)| weather.0),
            wind_speed: weather.and_then(|(_, weather)| weather.1),
            plane_year: plane.and_then(|plane| plane.0),
            seats: plane.map(|plane| plane.1),
        }
    };
    flights.iter().map(departure).collect()
}

/// The ten longest delays of every day.
fn delays(flights: &[Flight]) -> Vec<Delay> {
    let mut days: BTreeMap<i64, Vec<Delay>> = BTreeMap::new();
    for flight in flights {
        let Some(dep_delay) = flight.dep_delay else { continue };
        let day_ms = flight.at_ms.div_euclid(DAY_MS) * DAY_MS;
        days.entry(day_ms).or_default().push(Delay {
            day_ms,
            rank: 0,
            dep_delay,
            flight: flight.designator.clone(),
            origin: flight.origin.clone(),
            dest: flight.dest.clone(),
            at_ms: flight.at_ms,
        });
    }
    let mut delays = Vec::new();
    for mut of_day in days.into_values() {
        of_day.sort_by_key(|delay| (Reverse(delay.dep_delay), delay.flight.clone(), delay.at_ms));
        let ranked = (1..).zip(of_day).take(10);
        delays.extend(ranked.map(|(rank, delay)| Delay { rank, ..delay }));
    }
    delays
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("plain values can be written")
}

fn zstd(path: &Path) -> String {
    let bytes = fs::read(path).expect("the file is there");
    String::from_utf8(zstd::decode_all(&bytes[..]).expect("it is whole")).expect("it is text")
}

/// The fields of every line but the first. No field of these files is quoted.
fn lines<const N: usize>(text: &str) -> impl Iterator<Item = [&str; N]> {
    text.lines().skip(1).map(|line| {
        let fields: Vec<&str> = line.split(',').collect();
        fields.try_into().unwrap_or_else(|_| panic!("a line of {N} fields: {line}"))
    })
}

fn known(field: &str) -> Option<&str> {
    (field != "NA").then_some(field)
}

fn number_of<T: std::str::FromStr>(field: &str) -> T {
    field.parse().unwrap_or_else(|_| panic!("a number: {field}"))
}

fn time_ms(field: &str) -> i64 {
    let time = humantime::parse_rfc3339(field).expect("a time");
    time.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_millis() as i64
}
