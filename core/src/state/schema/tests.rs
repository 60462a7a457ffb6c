//! Tests of schemas: what they say, how they are stored, and what becomes of older values.

mod damage;
mod golden;
mod matrix;
mod migrations;
mod model;
mod types;

use super::*;
use crate::data::record::Record;

/// A number after another, from a seed: enough to make shapes and values of.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn is_one_of(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

/// The migration of values to the same schema, which reads all of them.
fn same(schema: &Schema) -> Migration {
    compatibility(schema, schema).expect("it is the same")
}
