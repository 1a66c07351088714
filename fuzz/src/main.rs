//! One target, chosen by name: under libFuzzer when that is built in (`cargo xtask fuzz`), else on files.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
mod fuzzer {
    use std::sync::OnceLock;

    use fuzz::Target;

    /// The command line belongs to libFuzzer.
    const VARIABLE: &str = "BASALT_FUZZ_TARGET";

    static TARGET: OnceLock<Target> = OnceLock::new();

    fn choose() -> Target {
        let name = std::env::var(VARIABLE).unwrap_or_default();
        Target::find(&name).unwrap_or_else(|| panic!("{VARIABLE} names no target: {name:?}"))
    }

    libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
        (TARGET.get_or_init(choose).run)(bytes);
    });
}

#[cfg(not(fuzzing))]
fn main() -> std::process::ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let target = arguments.next().and_then(|name| fuzz::Target::find(name.to_str()?));
    let Some(target) = target else {
        let names: Vec<&str> = fuzz::TARGETS.iter().map(|target| target.name).collect();
        eprintln!("usage: fuzz TARGET FILE...\ntargets: {}", names.join(" "));
        return std::process::ExitCode::FAILURE;
    };
    for path in arguments {
        match std::fs::read(&path) {
            Ok(bytes) => (target.run)(&bytes),
            Err(error) => {
                eprintln!("{}: {error}", path.display());
                return std::process::ExitCode::FAILURE;
            }
        }
    }
    std::process::ExitCode::SUCCESS
}
