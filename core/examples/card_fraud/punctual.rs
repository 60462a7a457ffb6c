//! Puts payments aside that the bank was told of too late.
//!
//! An operator of our own: one method, and a side output.

use millstream::prelude::*;

use super::records::Payment;

/// Payments that were received too late.
pub const LATE: OutputTag<Payment> = OutputTag::new("late");

/// Hands punctual payments on, and others to [`LATE`].
///
/// Windows put late records aside as well, by the watermark. Which records those are depends on how
/// fast the files are read beside each other; this does not.
#[derive(Debug, Clone)]
pub struct Punctual;

impl Operator for Punctual {
    type In = Payment;
    type Out = Payment;

    fn on_row(
        &mut self,
        row: Row<Payment>,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<Payment>,
    ) {
        if row.value.is_late() {
            ctx.env().count_late();
            ctx.side_output(LATE, row.value);
        } else {
            out.emit(row);
        }
    }
}
