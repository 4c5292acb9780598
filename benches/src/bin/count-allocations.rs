//! Prints the heap allocations a call makes, row by row, for the bench that times the same rows.
//!
//! Linking `allocation_counter` replaces the process's allocator, hence a program of its own.

use std::process::ExitCode;

use buttress_benches::Counted;

fn main() -> ExitCode {
    buttress_benches::count_allocations(|run| {
        let counted = allocation_counter::measure(run);
        Counted { count: counted.count_total, bytes: counted.bytes_total, held: counted.bytes_current }
    })
}
