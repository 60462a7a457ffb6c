//! The dataflow.
//!
//! ```text
//! flights ─► watermark ─┬─► by airport ─► windows of 1 hour ─────────────────────────► hours
//!                       ├─► by plane ─► sessions with a gap of 12 hours ─────────────► sessions
//!                       ├─► by airport ─► windows of 1 day ─► by day ─► the longest ─► delays
//! weather ─► by airport ┴─► as of departure ─┐
//! planes ─► by plane ────────────────────────┴─► with its plane ────────────────────► departures
//! ```
//!
//! Flights come as they left, up to 1,300 minutes after one that was to leave later. The watermark
//! waits a day for them; with less patience, those that come too late go to a folder of their own.

use std::path::Path;
use std::time::Duration;

use millstream::prelude::*;

use super::aggregates::{Count, CountAndDelay, LongestDelays};
use super::records::{Delay, Departure, Flight, Hour, Plane, Session as Flights, Weather};

/// Flights that came after their hour was over.
const LATE: OutputTag<Flight> = OutputTag::new("late");

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);
const DAY_MS: i64 = 24 * 3_600_000;

/// One millisecond less than 12 hours: see [`sessions`].
const SESSION_GAP: Duration = Duration::from_millis(12 * 3_600_000 - 1);

/// The files that are read.
pub const FILES: [&str; 3] = ["flights.csv.zst", "weather.csv.zst", "planes.csv"];

/// Reads the files in `data`, writes the results to folders in `out`. Flights may come `patience`
/// after others that were to leave later.
pub fn build(job: &Job, data: &Path, out: &Path, patience: Duration) {
    let data = |name: &str| data.join(name).display().to_string();
    let [flights, weather, planes] = FILES.map(data);
    let source = FileSource::csv::<Flight>(flights).null_text("NA");
    let flights = job
        .source("flights", source)
        .watermark(BoundedOutOfOrderness::new(patience), Flight::at_ms)
        .shared();
    let source = FileSource::csv::<Weather>(weather).null_text("NA");
    let weather =
        job.source("weather", source).watermark(Monotonic::new(), |weather| weather.at_ms);
    let source = FileSource::csv::<Plane>(planes).null_text("NA");
    // Planes are as old as time: every flight finds its plane there already.
    let planes = job.source("planes", source).watermark(Monotonic::new(), |_| 0);

    hours(flights, out);
    sessions(flights, out);
    longest_delays(flights, out);
    departures(flights, weather, planes, out);
}

/// Delays per airport and hour.
fn hours(flights: SharedStream<'_, Flight>, out: &Path) {
    let hours =
        flights
            .key_by(|flight| flight.origin.clone())
            .window(Tumbling::new(HOUR))
            .late_output(LATE)
            .aggregate_with(CountAndDelay, |origin: &String, hour: &Window, (count, delay_sum)| {
                Hour { origin: origin.clone(), start_ms: hour.start_ms, count, delay_sum }
            })
            .name("hours");
    hours.side_output(LATE).sink("late-file", FileSink::jsonl(out.join("late")));
    hours.sink("hours-file", FileSink::jsonl(out.join("hours")));
}

/// Flights of a plane that follow each other within less than 12 hours.
///
/// Sessions that touch are one, as in Flink: with a gap of 12 hours, two flights exactly 12 hours
/// apart would be in one session. Times are whole milliseconds, so a gap that is one shorter says
/// "less than".
fn sessions(flights: SharedStream<'_, Flight>, out: &Path) {
    flights
        .filter(|flight| flight.tailnum.is_some())
        .key_by(|flight| flight.tailnum.clone())
        .window(Session::new(SESSION_GAP))
        .aggregate_with(Count, |tailnum: &Option<String>, session: &Window, count| Flights {
            tailnum: tailnum.clone().unwrap_or_default(),
            start_ms: session.start_ms,
            end_ms: session.end_ms + 1,
            count,
        })
        .name("sessions")
        .sink("sessions-file", FileSink::jsonl(out.join("sessions")));
}

/// The longest delays of each day: first those of each airport, then those of all.
fn longest_delays(flights: SharedStream<'_, Flight>, out: &Path) {
    flights
        .flat_map(delay)
        .key_by(|delay| delay.origin.clone())
        .window(Tumbling::new(DAY))
        .aggregate(LongestDelays)
        .name("longest-of-airport")
        .flat_map(|delays| delays)
        .key_by(|delay| delay.day_ms)
        .window(Tumbling::new(DAY))
        .aggregate(LongestDelays)
        .name("longest-of-day")
        .flat_map(|delays| (1..).zip(delays).map(|(rank, delay)| Delay { rank, ..delay }))
        .sink("delays-file", FileSink::jsonl(out.join("delays")));
}

/// By how much a flight left late, if it left.
fn delay(flight: Flight) -> Option<Delay> {
    let at_ms = flight.at_ms();
    Some(Delay {
        day_ms: at_ms.div_euclid(DAY_MS) * DAY_MS,
        rank: 0,
        dep_delay: flight.dep_delay?,
        flight: flight.designator(),
        origin: flight.origin,
        dest: flight.dest,
        at_ms,
    })
}

/// Every flight with the weather as of its departure, and its plane.
fn departures<'j>(
    flights: SharedStream<'j, Flight>,
    weather: impl AnyStream<'j, Out = Weather>,
    planes: impl AnyStream<'j, Out = Plane>,
    out: &Path,
) {
    flights
        .key_by(|flight| flight.origin.clone())
        .connect(weather.key_by(|weather| weather.origin.clone()))
        .temporal_left_join(departure)
        .name("with-weather")
        .key_by(|departure| departure.tailnum.clone())
        .connect(planes.key_by(|plane| Some(plane.tailnum.clone())))
        .temporal_left_join(|departure, plane: Option<&Plane>| Departure {
            plane_year: plane.and_then(|plane| plane.year),
            seats: plane.map(|plane| plane.seats),
            ..departure
        })
        .name("with-plane")
        .sink("departures-file", FileSink::jsonl(out.join("departures")));
}

/// A flight with the weather at its airport.
fn departure(flight: Flight, weather: Option<&Weather>) -> Departure {
    Departure {
        at_ms: flight.at_ms(),
        flight: flight.designator(),
        origin: flight.origin,
        tailnum: flight.tailnum,
        dep_delay: flight.dep_delay,
        weather_ms: weather.map(|weather| weather.at_ms),
        temp: weather.and_then(|weather| weather.temp),
        wind_speed: weather.and_then(|weather| weather.wind_speed),
        plane_year: None,
        seats: None,
    }
}
