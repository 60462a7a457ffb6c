//! Joins by event time: orders with their payments, and with the exchange rate of their moment.
//!
//! ```text
//! rates   ──────────────────────────────┐
//! orders ──┬── temporal_join ◄──────────┘   each order at the rate as of its time
//!          ├── interval_join ◄── payments   paid within ten seconds
//!          └── co_group      ◄── payments   per half minute: both, also if one is missing
//! ```
//!
//! ```text
//! cargo run --release --example joins
//! ```

use std::process::ExitCode;
use std::time::Duration;

use millstream::prelude::*;

/// Somebody ordered something.
#[derive(Debug, Clone, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Order {
    id: u64,
    currency: String,
    amount: u64,
    at_ms: i64,
}

/// Somebody paid for an order.
#[derive(Debug, Clone, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Payment {
    order: u64,
    at_ms: i64,
}

/// What a currency is worth from now on, in cents.
#[derive(Debug, Clone, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Rate {
    currency: String,
    cents: u64,
    at_ms: i64,
}

fn orders() -> Vec<Order> {
    let order = |(id, currency, amount, seconds): (u64, &str, u64, i64)| Order {
        id,
        currency: currency.to_string(),
        amount,
        at_ms: seconds * 1000,
    };
    [(1, "EUR", 10, 5), (2, "USD", 20, 20), (3, "EUR", 30, 70)].map(order).to_vec()
}

fn payments() -> Vec<Payment> {
    [(1, 8), (2, 45), (3, 71)].map(|(order, s)| Payment { order, at_ms: s * 1000 }).to_vec()
}

fn rates() -> Vec<Rate> {
    let rate = |(currency, cents, seconds): (&str, u64, i64)| Rate {
        currency: currency.to_string(),
        cents,
        at_ms: seconds * 1000,
    };
    [("EUR", 110, 0), ("USD", 100, 0), ("EUR", 120, 60)].map(rate).to_vec()
}

fn main() -> ExitCode {
    let (values, paid, minutes) = (Collected::new(), Collected::new(), Collected::new());
    let job = Job::new("joins");
    let orders = job
        .source("orders", VecSource::from_vec(orders()))
        .watermark(Monotonic::new(), |order| order.at_ms)
        .shared();
    let payments = job
        .source("payments", VecSource::from_vec(payments()))
        .watermark(Monotonic::new(), |payment| payment.at_ms)
        .shared();
    let rates = job
        .source("rates", VecSource::from_vec(rates()))
        .watermark(Monotonic::new(), |rate| rate.at_ms);

    orders
        .key_by(|order| order.currency.clone())
        .connect(rates.key_by(|rate| rate.currency.clone()))
        .temporal_join(|order, rate| (order.id, order.amount * rate.cents))
        .name("in cents")
        .sink("values", values.sink());

    orders
        .key_by(|order| order.id)
        .connect(payments.key_by(|payment| payment.order))
        .interval_join(
            TimeBound::SAME_TIME,
            TimeBound::after(Duration::from_secs(10)),
            |order, payment| (order.id, payment.at_ms - order.at_ms),
        )
        .name("paid in time")
        .sink("paid", paid.sink());

    orders
        .key_by(|order| order.id)
        .connect(payments.key_by(|payment| payment.order))
        .co_group(
            Tumbling::new(Duration::from_secs(30)),
            |id: &u64, window: &Window, orders: &[Order], payments: &[Payment]| {
                [(*id, window.start_ms, orders.len(), payments.len())]
            },
        )
        .name("per half minute")
        .sink("minutes", minutes.sink());
    let exit_code = job.main();

    let (mut values, mut paid, mut minutes) = (values.values(), paid.values(), minutes.values());
    if !values.is_empty() {
        // In order, and once each however many seeds were simulated.
        values.sort_unstable();
        values.dedup();
        paid.sort_unstable();
        paid.dedup();
        minutes.sort_unstable();
        minutes.dedup();
        assert_eq!(values, [(1, 1_100), (2, 2_000), (3, 3_600)]);
        assert_eq!(paid, [(1, 3_000), (3, 1_000)], "order 2 was paid after 25 seconds");
        assert_eq!(minutes, [(1, 0, 1, 1), (2, 0, 1, 0), (2, 30_000, 0, 1), (3, 60_000, 1, 1)]);
        eprintln!("values {values:?}\npaid in time {paid:?}\nper half minute {minutes:?}");
    }
    exit_code
}
