//! Jobs that read from sockets and write to them: peers that are slow, refuse, leave and break.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use millstream::prelude::*;
use millstream::sim::rng::{Chance, Rng};
use millstream::sim::sockets::{Peer, PeerEnds, SocketFaults};

use super::ledger::Ledger;
use super::{Layout, assert_same, draw_config, run, seeds_of};

const ADDRESS: &str = "127.0.0.1:7000";

/// Between two calls.
const PAUSE: Duration = Duration::from_millis(1);

fn address() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 7000))
}

/// Line `n`. Its length tells whether all of it is there.
fn line(n: u64) -> String {
    format!("{n}:{}", "x".repeat((n % 40) as usize))
}

/// The number of a whole line.
fn number(line: &str) -> Option<u64> {
    let n = line.split_once(':')?.0.parse().ok()?;
    (self::line(n) == line).then_some(n)
}

/// The numbers of all lines in `bytes` that are whole, up to one that is cut off at the end.
fn whole_lines(about: &str, bytes: &[u8]) -> Vec<u64> {
    let text = std::str::from_utf8(bytes).expect("lines of one byte a character");
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let number = |line| number(line).unwrap_or_else(|| panic!("{about}: {line:?} was received"));
    whole.lines().map(number).collect()
}

/// Texts of numbered lines, and the first number of each, with the count at the end.
fn draw_texts(rng: &mut Rng) -> (Vec<Vec<u8>>, Vec<u64>) {
    let (mut texts, mut bounds) = (Vec::new(), vec![0]);
    for _ in 0..=rng.below(4) {
        let first = bounds[bounds.len() - 1];
        let next = first + rng.below(150);
        texts.push((first..next).map(|n| line(n) + "\n").collect::<String>().into_bytes());
        bounds.push(next);
    }
    (texts, bounds)
}

/// Connections take their time: with a checkpoint now and then.
fn draw_slow_config(rng: &mut Rng) -> SimConfig {
    let checkpoint_interval = Some(Duration::from_millis(1 + rng.below(50)));
    SimConfig { checkpoint_interval, ..draw_config(rng) }
}

fn draw_faults(rng: &mut Rng, is_healthy: bool) -> SocketFaults {
    let faults = SocketFaults {
        piece_bytes_max: 1 + rng.below(3_000),
        buffer_bytes: rng.below(3_000) as usize,
        ..SocketFaults::default()
    };
    if is_healthy {
        return faults;
    }
    let (refused, reset) = (Chance::one_in(2 + rng.below(4)), Chance::one_in(2 + rng.below(60)));
    SocketFaults { refused, reset, ..faults }
}

/// The numbers that came, of each text: a beginning of it, each number once and in order.
fn assert_beginnings(about: &str, bounds: &[u64], rows: &[u64]) {
    let distinct: BTreeSet<_> = rows.iter().collect();
    assert_eq!(distinct.len(), rows.len(), "{about}: a line was read twice");
    for text in bounds.windows(2) {
        let of_text = rows.iter().copied().filter(|n| (text[0]..text[1]).contains(n));
        let hole = of_text.zip(text[0]..).find(|(found, expected)| found != expected);
        assert_eq!(hole, None, "{about}: a hole, or lines in disorder");
    }
}

/// A server that is called again when a connection breaks: at most once, and all if none breaks.
#[test]
fn reading_from_a_server_at_most_once() {
    for seed in seeds_of(16) {
        let mut rng = Rng::new(seed).fork(16);
        let (layout, mut config) = (Layout::draw(&mut rng), draw_slow_config(&mut rng));
        let is_healthy = rng.chance(1, 3);
        config.sockets = draw_faults(&mut rng, is_healthy);
        let (texts, bounds) = draw_texts(&mut rng);
        config.peers = vec![Peer::serves(address(), texts)];
        let reconnect = Reconnect { attempts: 50, pause: PAUSE };
        let write = |job: &Job, _: &Layout, ledger: Ledger<u64>| {
            let lines = job.source("lines", SocketSource::lines(ADDRESS).reconnect(reconnect));
            let numbers = lines.map(|line| number(&line).expect("a whole line")).global();
            numbers.map(|n| n).sink("ledger", ledger);
        };
        let (rows, report) = run(seed, &layout, &config, &write);
        let about = format!("seed {seed}, {:?}", config.sockets);
        assert_beginnings(&about, &bounds, &rows);
        if is_healthy {
            assert_eq!(report.received[0].len(), 1, "{about}: it is called once");
            assert_same(&about, rows, (0..bounds[1]).collect());
        }
    }
}

/// Callers of a listener, until the job is drained: whole lines, from each the beginning of what it
/// sends, and all of it if nothing breaks and there is time.
#[test]
fn listening_until_the_job_is_drained() {
    for seed in seeds_of(17) {
        let mut rng = Rng::new(seed).fork(17);
        let (layout, mut config) = (Layout::draw(&mut rng), draw_slow_config(&mut rng));
        let is_healthy = rng.chance(1, 2);
        config.sockets = draw_faults(&mut rng, is_healthy);
        let has_time = rng.chance(1, 2);
        let drain_us = if has_time { 3_600_000_000 } else { rng.below(20_000) };
        config.drain_at = Some(Duration::from_micros(drain_us));
        config.checkpoint_interval = config.checkpoint_interval.filter(|_| !has_time);
        let (texts, bounds) = draw_texts(&mut rng);
        config.peers = vec![Peer::calls(address(), texts)];
        let write = |job: &Job, _: &Layout, ledger: Ledger<u64>| {
            let lines = job.source("lines", SocketSource::lines(ADDRESS).listen());
            let numbers = lines.map(|line| number(&line).expect("a whole line")).global();
            numbers.map(|n| n).sink("ledger", ledger);
        };
        let (rows, _) = run(seed, &layout, &config, &write);
        let about = format!("seed {seed}, {:?}", config.sockets);
        assert_beginnings(&about, &bounds, &rows);
        if is_healthy && has_time {
            assert_same(&about, rows, (0..bounds[bounds.len() - 1]).collect());
        }
    }
}

/// A job that ends well was read to the end; one that does not says why, and nothing was sent
/// twice or in disorder.
#[test]
fn writing_to_a_peer_that_reads_everything() {
    for seed in seeds_of(18) {
        let mut rng = Rng::new(seed).fork(18);
        let (layout, mut config) = (Layout::draw(&mut rng), draw_slow_config(&mut rng));
        let is_healthy = rng.chance(1, 2);
        config.sockets = draw_faults(&mut rng, is_healthy);
        let ends = match rng.below(8) {
            0 => PeerEnds::AfterSending,
            1 => PeerEnds::Never,
            _ => PeerEnds::AfterReading,
        };
        config.peers = vec![Peer { ends, ..Peer::reads(address()) }];
        let count = rng.below(400);
        let job = Job::new("to-a-socket");
        let numbers = job.source("numbers", GeneratorSource::new(count, |n| n));
        let lines = numbers.parallelism(layout.parallelism).rebalance().map(line);
        let reconnect = Reconnect { attempts: 8, pause: PAUSE };
        lines.sink("peer", SocketSink::text(ADDRESS).reconnect(reconnect));
        let report = job.simulate(layout.shards, &config).expect("the job has no mistakes");
        let about = format!("seed {seed}, {ends:?}, {:?}", config.sockets);
        let found: Vec<_> =
            report.received[0].iter().flat_map(|bytes| whole_lines(&about, bytes)).collect();
        let distinct: BTreeSet<_> = found.iter().collect();
        assert_eq!(distinct.len(), found.len(), "{about}: a line was received twice");
        match &report.outcome {
            // A peer that ends its side at once cannot be told from one that has read to the end.
            Ok(()) if ends == PeerEnds::AfterSending => {}
            Ok(()) => assert_same(&about, found, (0..count).collect()),
            Err(Error::Socket { .. }) => {
                assert!(!is_healthy || ends == PeerEnds::AfterSending, "{about}: nothing broke");
            }
            Err(error) => panic!("{about}: {}", error.chain()),
        }
    }
}

#[test]
fn two_runs_with_sockets_are_byte_identical() {
    let run = |seed| {
        let mut rng = Rng::new(seed);
        let (texts, _) = draw_texts(&mut rng);
        let mut config = SimConfig { keep_trace: true, ..SimConfig::new(seed) };
        config.sockets.reset = Chance::one_in(40);
        let sink = SocketAddr::from((Ipv4Addr::LOCALHOST, 7001));
        config.peers = vec![Peer::serves(address(), texts), Peer::reads(sink)];
        let job = Job::new("sockets");
        let lines = job.source("lines", SocketSource::lines(ADDRESS)).rebalance();
        lines.map(|line| line).sink("peer", SocketSink::text("127.0.0.1:7001"));
        let report = job.simulate(3, &config).expect("the job has no mistakes");
        (report.trace.expect("it was kept"), report.received)
    };
    for seed in 0..10 {
        assert!(run(seed) == run(seed), "seed {seed} gave two runs");
    }
    assert!(run(1) != run(2), "the seed decides nothing");
}
