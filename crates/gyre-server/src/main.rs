//! The program `gyre`.

fn main() -> std::process::ExitCode {
    gyre_server::cli::main()
}
