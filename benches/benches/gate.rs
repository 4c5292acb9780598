//! Instructions a call through our hot paths, under callgrind, for `cargo xtask ci instructions`.

use std::process::ExitCode;

fn main() -> ExitCode {
    buttress_benches::gate()
}
