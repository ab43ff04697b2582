//! Decoding is total: whatever comes, split however, is packets or an end, within the budget.

mod decoding;
mod mutation;
mod stream;
