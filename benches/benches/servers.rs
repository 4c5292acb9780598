//! Adapters and what stands before them, beside drivers by hand, on real servers.

use std::process::ExitCode;

fn main() -> ExitCode {
    buttress_benches::servers()
}
