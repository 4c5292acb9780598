//! Time, allocations and two-thread throughput of a call through each layer and its peers.

use std::process::ExitCode;

fn main() -> ExitCode {
    buttress_benches::calls(env!("CARGO_BIN_EXE_count-allocations"))
}
