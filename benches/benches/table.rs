//! Every layer and adapter beside its peers, by every measure, in one table.

use std::process::ExitCode;

fn main() -> ExitCode {
    buttress_benches::table(env!("CARGO_BIN_EXE_count-allocations"))
}
