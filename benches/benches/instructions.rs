//! Instructions a call through each layer and its peers, under callgrind.

use std::process::ExitCode;

fn main() -> ExitCode {
    buttress_benches::instructions()
}
