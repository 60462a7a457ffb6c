//! The records of the Nexmark benchmark: people who open auctions, and bids on them.
//!
//! Of fifty records in a row the first is a person, three are auctions, the rest are bids. They
//! come in order of event time. Half of all bids go to one auction in a hundred (the *hot* one of
//! its hundred), three quarters come from one bidder in a hundred.
//!
//! Invariant: draws are made in the order of the struct's fields, except where a comment says so;
//! changing the order changes every checksum.
//!
//! Not here: how texts are drawn (`text.rs`), splits and pacing (`source.rs`).

use super::checksum::{fold, hash};
use super::draw::Draw;
use super::source::{Generate, GeneratorSource};
use super::text::{letters, padding, push_decimal, short_text};

/// Seed of the stream.
pub const SEED: u64 = 0x4E45_584D_4152_4B31;

/// Event time of record 0, ms since 1970.
pub const FIRST_EVENT_TIME_MS: i64 = 1_700_000_000_000;

/// Records per second of event time, unless said otherwise.
pub const RATE_DEFAULT: u64 = 100_000;

/// Ids of people and auctions begin here.
const FIRST_ID: u64 = 1000;
/// Records in one round of kinds.
const ROUND: u64 = 50;
/// Auctions in one round; the first record is a person.
const AUCTIONS_PER_ROUND: u64 = 3;
/// One in so many people and auctions is hot.
const HOT_EVERY: u64 = 100;
/// Bids go to one of so many latest auctions.
const OPEN_AUCTIONS: u64 = 100;
/// Sellers and bidders are among so many latest people.
const ACTIVE_PEOPLE: u64 = 1000;
/// Some ids lie ahead of what exists yet, so that joins see both orders.
const AHEAD: u64 = 10;

const FIRST_NAMES: [&str; 11] = [
    "Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter",
];
const LAST_NAMES: [&str; 9] =
    ["Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris"];
const CITIES: [&str; 10] = [
    "Phoenix",
    "Los Angeles",
    "San Francisco",
    "Boise",
    "Portland",
    "Bend",
    "Redmond",
    "Seattle",
    "Kent",
    "Cheyenne",
];
const STATES: [&str; 6] = ["AZ", "CA", "ID", "OR", "WA", "WY"];
const HOT_CHANNELS: [&str; 4] = ["Google", "Facebook", "Baidu", "Apple"];

/// One record of the stream.
#[derive(
    Debug,
    Clone,
    PartialEq,
    Eq,
    serde::Serialize,
    serde::Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize
)]
pub enum Nexmark {
    /// Somebody registers.
    Person(Person),
    /// Somebody offers something.
    Auction(Auction),
    /// Somebody bids.
    Bid(Bid),
}

/// Somebody who may sell and bid.
#[derive(
    Debug,
    Clone,
    PartialEq,
    Eq,
    serde::Serialize,
    serde::Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize
)]
pub struct Person {
    /// Counts up from 1000.
    pub id: u64,
    /// First and last name.
    pub name: String,
    /// Address of mail.
    pub email: String,
    /// Four groups of four digits.
    pub credit_card: String,
    /// One of ten.
    pub city: String,
    /// One of six.
    pub state: String,
    /// Event time, ms since 1970.
    pub at_ms: i64,
    /// Brings the record to about 200 bytes.
    pub extra: String,
}

/// Something offered until it expires.
#[derive(
    Debug,
    Clone,
    PartialEq,
    Eq,
    serde::Serialize,
    serde::Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize
)]
pub struct Auction {
    /// Counts up from 1000.
    pub id: u64,
    /// A [`Person::id`], perhaps of somebody who registers later.
    pub seller: u64,
    /// 10 to 14.
    pub category: u64,
    /// Lowest bid, cents.
    pub initial_bid: u64,
    /// Event time, ms since 1970.
    pub at_ms: i64,
    /// Last event time at which a bid counts, ms since 1970.
    pub expires_ms: i64,
    /// What is offered.
    pub item_name: String,
    /// More about it.
    pub description: String,
    /// Price below which it is not sold, cents.
    pub reserve: u64,
    /// Brings the record to about 500 bytes.
    pub extra: String,
}

/// An offer to pay a price.
#[derive(
    Debug,
    Clone,
    PartialEq,
    Eq,
    serde::Serialize,
    serde::Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize
)]
pub struct Bid {
    /// An [`Auction::id`], perhaps of one that opens later.
    pub auction: u64,
    /// A [`Person::id`].
    pub bidder: u64,
    /// Cents.
    pub price: u64,
    /// Event time, ms since 1970.
    pub at_ms: i64,
    /// Where the bidder came from.
    pub channel: String,
    /// The page.
    pub url: String,
    /// Brings the record to about 100 bytes.
    pub extra: String,
}

/// Makes the records of the stream at a rate of event time.
#[derive(Debug, Clone, Copy)]
pub struct NexmarkGenerator {
    rate: u64,
}

impl NexmarkGenerator {
    /// `rate` records per second of event time.
    ///
    /// # Panics
    /// If `rate` is 0.
    pub const fn new(rate: u64) -> Self {
        assert!(rate > 0, "event time must go on");
        Self { rate }
    }

    /// Event time of record `n`, ms since 1970.
    pub const fn event_time_ms(self, n: u64) -> i64 {
        FIRST_EVENT_TIME_MS + (n * 1000 / self.rate) as i64
    }

    /// Record `n`.
    pub fn record(self, n: u64) -> Nexmark {
        let mut draw = Draw::of_record(SEED, n);
        match n % ROUND {
            0 => Nexmark::Person(self.person(n, &mut draw)),
            1..=AUCTIONS_PER_ROUND => Nexmark::Auction(self.auction(n, &mut draw)),
            _ => Nexmark::Bid(self.bid(n, &mut draw)),
        }
    }

    fn person(self, n: u64, draw: &mut Draw) -> Person {
        let name = format!("{} {}", one_of(&FIRST_NAMES, draw), one_of(&LAST_NAMES, draw));
        let email = [short_text(draw, 7), "@", short_text(draw, 5), ".com"].concat();
        let mut credit_card = String::with_capacity(19);
        for group in 0..4 {
            credit_card.push_str(if group == 0 { "" } else { " " });
            push_decimal(&mut credit_card, draw.below(10_000), 4);
        }
        let city = one_of(&CITIES, draw);
        let state = one_of(&STATES, draw);
        let texts = [name.as_str(), &email, &credit_card, city, state];
        let current_bytes = 16 + texts.iter().map(|text| text.len()).sum::<usize>();
        Person {
            id: FIRST_ID + last_person(n),
            city: city.to_string(),
            state: state.to_string(),
            at_ms: self.event_time_ms(n),
            extra: padding(draw, current_bytes, 200).to_string(),
            name,
            email,
            credit_card,
        }
    }

    fn auction(self, n: u64, draw: &mut Draw) -> Auction {
        let is_hot = draw.below(4) > 0;
        let seller = if is_hot { hot(last_person(n)) } else { some_person(n, draw) };
        let category = 10 + draw.below(5);
        let initial_bid = draw.amount(6);
        let at_ms = self.event_time_ms(n);
        let open_ms = 2 * (self.event_time_ms(n + 1666) - at_ms);
        let expires_ms = at_ms + 1 + draw.below(open_ms.max(1) as u64) as i64;
        let item_name = short_text(draw, 20);
        let description = short_text(draw, 100);
        let reserve = initial_bid + draw.amount(6);
        let current_bytes = 56 + item_name.len() + description.len();
        Auction {
            id: FIRST_ID + last_auction(n),
            seller: FIRST_ID + seller,
            category,
            initial_bid,
            at_ms,
            expires_ms,
            item_name: item_name.to_string(),
            description: description.to_string(),
            reserve,
            extra: padding(draw, current_bytes, 500).to_string(),
        }
    }

    fn bid(self, n: u64, draw: &mut Draw) -> Bid {
        let is_hot = draw.below(2) > 0;
        let auction = if is_hot { hot(last_auction(n)) } else { some_auction(n, draw) };
        let is_hot = draw.below(4) > 0;
        let bidder = if is_hot { hot(last_person(n)) + 1 } else { some_person(n, draw) };
        let price = draw.amount(6);
        let (channel, url) = channel_and_url(draw);
        let current_bytes = 32 + channel.len() + url.len();
        Bid {
            auction: FIRST_ID + auction,
            bidder: FIRST_ID + bidder,
            price,
            at_ms: self.event_time_ms(n),
            extra: padding(draw, current_bytes, 100).to_string(),
            channel,
            url,
        }
    }
}

fn last_person(n: u64) -> u64 {
    n / ROUND
}

/// Only for auctions and bids: at least one auction exists then.
fn last_auction(n: u64) -> u64 {
    let in_round = (n % ROUND).min(AUCTIONS_PER_ROUND);
    n / ROUND * AUCTIONS_PER_ROUND + in_round - 1
}

fn some_auction(n: u64, draw: &mut Draw) -> u64 {
    let last = last_auction(n);
    let first = last.saturating_sub(OPEN_AUCTIONS);
    first + draw.below(last - first + 1 + AHEAD)
}

fn some_person(n: u64, draw: &mut Draw) -> u64 {
    let count = last_person(n) + 1;
    let active = count.min(ACTIVE_PEOPLE);
    count - active + draw.below(active + AHEAD)
}

fn hot(last: u64) -> u64 {
    last / HOT_EVERY * HOT_EVERY
}

fn one_of<const N: usize>(texts: &[&'static str; N], draw: &mut Draw) -> &'static str {
    texts[draw.below(N as u64) as usize]
}

fn channel_and_url(draw: &mut Draw) -> (String, String) {
    let is_hot = draw.below(2) > 0;
    let hot_count = HOT_CHANNELS.len() as u64;
    let number = if is_hot { draw.below(hot_count) } else { hot_count + draw.below(10_000) };
    let channel = match HOT_CHANNELS.get(number as usize) {
        Some(name) => (*name).to_string(),
        None => {
            let mut name = String::with_capacity(12);
            name.push_str("channel-");
            push_decimal(&mut name, number - hot_count, 1);
            name
        }
    };
    let mut url = String::with_capacity(48);
    url.push_str("https://auction.example/");
    url.push_str(letters(number as usize, 5));
    url.push_str("/item?c=");
    push_decimal(&mut url, number, 1);
    (channel, url)
}

impl Nexmark {
    /// Event time, ms since 1970.
    pub const fn at_ms(&self) -> i64 {
        match self {
            Self::Person(person) => person.at_ms,
            Self::Auction(auction) => auction.at_ms,
            Self::Bid(bid) => bid.at_ms,
        }
    }

    /// A hash of every number and every byte of every text, to compare two generators.
    pub fn content_hash(&self) -> u64 {
        let at = self.at_ms() as u64;
        match self {
            Self::Person(p) => {
                let numbers = fold(hash([0, at]), p.id);
                let name_and_card = fold_texts(numbers, [&p.name, &p.email, &p.credit_card]);
                fold_texts(name_and_card, [&p.city, &p.state, &p.extra])
            }
            Self::Auction(a) => {
                let expires = a.expires_ms as u64;
                let numbers = [1, at, a.id, a.initial_bid, a.reserve, expires, a.seller];
                let numbers = fold(hash(numbers), a.category);
                fold_texts(numbers, [&a.item_name, &a.description, &a.extra])
            }
            Self::Bid(b) => {
                let numbers = hash([2, at, b.auction, b.bidder, b.price]);
                fold_texts(numbers, [&b.channel, &b.url, &b.extra])
            }
        }
    }
}

/// Folds every byte of the texts, and their lengths.
fn fold_texts(hash: u64, texts: [&str; 3]) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3);
    texts
        .into_iter()
        .fold(hash, |hash, text| fold(text.bytes().fold(hash, step), text.len() as u64))
}

impl Generate for NexmarkGenerator {
    type Out = Nexmark;

    fn make(&mut self, n: u64, _due_ns: u64) -> (i64, Nexmark) {
        (self.event_time_ms(n), self.record(n))
    }

    fn describe(&self) -> String {
        format!("Nexmark, {} records per second of event time", self.rate)
    }
}

/// The stream as a source.
pub type NexmarkSource = GeneratorSource<NexmarkGenerator>;

impl NexmarkSource {
    /// The first `count` records (`u64::MAX`: without end), with [`RATE_DEFAULT`] records per
    /// second of event time.
    pub fn first(count: u64) -> Self {
        Self::of(count, NexmarkGenerator::new(RATE_DEFAULT))
    }

    /// The first `count` records, with `rate` records per second of event time.
    ///
    /// # Panics
    /// If `rate` is 0.
    pub fn first_at_rate(count: u64, rate: u64) -> Self {
        Self::of(count, NexmarkGenerator::new(rate))
    }
}

#[cfg(test)]
mod tests;
