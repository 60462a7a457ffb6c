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
//! cargo run --release --example joins -- explain
//! cargo run --release --example joins -- simulate --seeds 20
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

fn build(job: &Job) {
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
        .temporal_join(|order, rate| {
            format!("order {} is worth {} cents", order.id, order.amount * rate.cents)
        })
        .name("in cents")
        .sink("values", StdoutSink::text());

    orders
        .key_by(|order| order.id)
        .connect(payments.key_by(|payment| payment.order))
        .interval_join(
            TimeBound::SAME_TIME,
            TimeBound::after(Duration::from_secs(10)),
            |order, payment| {
                format!("order {} was paid after {} ms", order.id, payment.at_ms - order.at_ms)
            },
        )
        .name("paid in time")
        .sink("paid", StdoutSink::text());

    orders
        .key_by(|order| order.id)
        .connect(payments.key_by(|payment| payment.order))
        .co_group(
            Tumbling::new(Duration::from_secs(30)),
            |id: &u64, window: &Window, orders: &[Order], payments: &[Payment]| {
                let (from_s, orders, payments) =
                    (window.start_ms / 1000, orders.len(), payments.len());
                [format!("order {id}, from second {from_s}: {orders} ordered, {payments} paid")]
            },
        )
        .name("per half minute")
        .sink("minutes", StdoutSink::text());
}

fn main() -> ExitCode {
    let job = Job::new("joins");
    build(&job);
    job.main()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_joins_what_belongs_together() {
        let job = Job::new("joins");
        build(&job);
        for seed in 0..20 {
            let report = job.simulate(3, &SimConfig::new(seed)).expect("no mistakes");
            report.outcome.expect("it ends well");
            let text = String::from_utf8(report.stdout).expect("it is text");
            let mut lines: Vec<&str> = text.lines().collect();
            lines.sort_unstable();
            assert_eq!(
                lines,
                [
                    "order 1 is worth 1100 cents",
                    "order 1 was paid after 3000 ms",
                    "order 1, from second 0: 1 ordered, 1 paid",
                    "order 2 is worth 2000 cents",
                    "order 2, from second 0: 1 ordered, 0 paid",
                    "order 2, from second 30: 0 ordered, 1 paid",
                    "order 3 is worth 3600 cents",
                    "order 3 was paid after 1000 ms",
                    "order 3, from second 60: 1 ordered, 1 paid",
                ],
                "seed {seed}"
            );
        }
    }
}
