//! The `sexton` program: reads the command line and hands over to the library.

use std::process::ExitCode;

/// glibc's allocator takes a lock for each heap, and a heap for each thread keeps what a moment needed for ever. With one heap for all,
/// as the unit asked it for, a thousand jobs that were due at once waited for that lock most of their time; a thousand starts took
/// three times as long (docs/performance.md). It serves the C in the program as well (SQLite, libpq), takes small pages only, because with
/// large ones a daemon held 97 MB where it holds 48, and is of its second version, which keeps less of what was freed than the third.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    sexton::cli::main(std::env::args_os())
}
