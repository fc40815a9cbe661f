//! The `myriad-loadgen` command.

fn main() {}
