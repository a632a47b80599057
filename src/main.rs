//! The `sexton` program: reads the command line and hands over to the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    sexton::cli::main(std::env::args_os())
}
