//! A record of one of two inputs.

/// What an operator with two inputs takes: a record of the first or of the second.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Either<A, B> {
    /// Of the first input.
    Left(A),
    /// Of the second input.
    Right(B),
}
