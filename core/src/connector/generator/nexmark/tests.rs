//! The stream against the vectors of `docs/generator.md`.

use super::*;
use crate::connector::generator::Checksum;

/// One line per record, as the specification prints it.
fn print(n: u64) -> String {
    let record = NexmarkGenerator::new(RATE_DEFAULT).record(n);
    let at = record.at_ms();
    match record {
        Nexmark::Person(p) => format!(
            "{n}: Person ts={at} id={} name={} email={} cc={} city={} state={} extra={}",
            p.id, p.name, p.email, p.credit_card, p.city, p.state, p.extra
        ),
        Nexmark::Auction(a) => format!(
            "{n}: Auction ts={at} id={} initialBid={} reserve={} expires={} seller={} \
             category={} itemName={} description={} extra={}",
            a.id,
            a.initial_bid,
            a.reserve,
            a.expires_ms,
            a.seller,
            a.category,
            a.item_name,
            a.description,
            a.extra
        ),
        Nexmark::Bid(b) => format!(
            "{n}: Bid ts={at} auction={} bidder={} price={} channel={} url={} extra={}",
            b.auction, b.bidder, b.price, b.channel, b.url, b.extra
        ),
    }
}

fn checksum(count: u64) -> String {
    let generator = NexmarkGenerator::new(RATE_DEFAULT);
    let mut sum = Checksum::default();
    (0..count).for_each(|n| sum.add(generator.record(n).content_hash()));
    sum.to_string()
}

#[test]
fn single_records_are_as_specified() {
    for line in include_str!("vectors.txt").lines() {
        let (n, _) = line.split_once(':').expect("a number before the colon");
        assert_eq!(print(n.parse().expect("a number")), line);
    }
}

#[test]
fn the_first_twenty_thousand_are_as_specified() {
    assert_eq!(checksum(20_000), "1dba8a592f0c3eb1");
}

#[test]
fn the_first_million_is_as_specified() {
    assert_eq!(checksum(1_000_000), "e1343ab3da0c107c");
}

#[test]
fn records_come_in_order_of_event_time_at_any_rate() {
    for rate in [1, 7, 100_000, 3_000_000] {
        let generator = NexmarkGenerator::new(rate);
        let times: Vec<_> = (0..200).map(|n| generator.record(n).at_ms()).collect();
        assert!(times.is_sorted() && times[0] == FIRST_EVENT_TIME_MS, "rate {rate}");
    }
}
