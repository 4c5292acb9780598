//! Prints the heap allocations a call makes, row by row, for the bench that times the same rows.
//!
//! Linking `allocation_counter` replaces the process's allocator, hence a program of its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    buttress_benches::count_allocations(|run| {
        let counted = allocation_counter::measure(run);
        (counted.count_total, counted.bytes_total)
    })
}
