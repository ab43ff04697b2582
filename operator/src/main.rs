//! The command `penstock-operator`.

fn main() {}
