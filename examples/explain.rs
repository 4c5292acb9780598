//! What a configuration does at worst, and where its numbers contradict each other.
//!
//! ```sh
//! cargo run --example explain -- buttress.toml
//! ```
//!
//! It starts nothing and asks no server, so a pipeline can run it: it ends with 1 where a finding is an error, and with 2 where
//! the configuration cannot be used at all.

use std::{
    env,
    io::{self, Write},
    process::ExitCode,
};

use buttress::Config;

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    let (Some(path), None) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: explain FILE, where FILE is like buttress.example.toml");
        return ExitCode::from(2);
    };
    match Config::load(path).and_then(|config| config.explain()) {
        Ok(explanation) => {
            // A reader that has read enough changes nothing of what was found, where `println!` would panic.
            let _ = writeln!(io::stdout(), "{explanation}");
            ExitCode::from(u8::from(explanation.has_errors()))
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}
