//! A minute of ten times the load, without protection and with it: `cargo run --release --example simulation`

#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]

mod scenario;

use self::scenario::{BEGINS, ENDS, naive, protected};

fn main() {
    for (stack, report) in
        [("a timeout and three retries", naive(1)), ("the layers of Buttress", protected(1))]
    {
        println!("{stack}:\n{report}");
        println!("goodput in the overload: {:.0} calls a second", report.during(BEGINS..ENDS).goodput());
        match report.recovery(ENDS, 0.95) {
            Some(took) => println!("95 % are answered again {took:?} after it\n"),
            None => println!("it does not come back\n"),
        }
    }
}
