//! Runs simulated worlds: `sim (seeds START COUNT JOBS | seed SEED | bugs START COUNT JOBS | bug NAME START COUNT)`. `cargo xtask sim` is the way to call it.

#![expect(clippy::print_stdout, reason = "what it finds is for the reader")]

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use engine::sim::{Bug, Fault, Options, Outcome, run};

/// From so many seeds on every kind of fault must have been seen.
const SEEDS_FOR_ALL_FAULTS: u64 = 200;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    // A panic is told with its seed, once.
    std::panic::set_hook(Box::new(|_| {}));
    let succeeded = match words[..] {
        ["seeds", start, count, jobs] => run_seeds(number(start), number(count), number(jobs)),
        ["seed", seed] => replay(number(seed)),
        ["bugs", start, count, jobs] => run_bugs(&Bug::ALL, number(start), number(count), number(jobs)),
        ["bug", name, start, count] => match Bug::ALL.into_iter().find(|bug| format!("{bug:?}") == name) {
            Some(bug) => run_bugs(&[bug], number(start), number(count), 1),
            None => {
                println!("no bug is called {name}; there are {:?}", Bug::ALL);
                false
            }
        },
        _ => {
            println!(
                "usage: sim (seeds START COUNT JOBS | seed SEED | bugs START COUNT JOBS | bug NAME START COUNT)"
            );
            false
        }
    };
    if succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn number(text: &str) -> u64 {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.unwrap_or_else(|_| {
        println!("{text} is not a number");
        std::process::exit(2)
    })
}

/// Runs a seed; a panic is a verdict too.
fn run_caught(seed: u64, options: &Options) -> Outcome {
    catch_unwind(AssertUnwindSafe(|| run(seed, options))).unwrap_or_else(|payload| {
        let message = payload.downcast_ref::<String>().map(String::as_str);
        let message = message.or(payload.downcast_ref::<&str>().copied()).unwrap_or("no message");
        Outcome {
            seed,
            trace_hash: 0,
            ops: 0,
            acknowledged: 0,
            crashes: 0,
            faults: BTreeMap::new(),
            verdict: Err(format!("panic: {message}")),
        }
    })
}

fn replay(seed: u64) -> bool {
    let is_told = std::env::var_os("SIM_TRACE").is_some();
    let outcome = run_caught(seed, &Options { bug: None, is_told });
    println!("{outcome:#?}");
    if let Err(what) = &outcome.verdict {
        println!("FAILED: {what}");
    }
    outcome.verdict.is_ok()
}

#[derive(Default)]
struct Total {
    seeds: u64,
    ops: u64,
    acknowledged: u64,
    crashes: u64,
    failures: u64,
    faults: BTreeMap<Fault, (u64, u64)>,
}

impl Total {
    fn add(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        self.ops += outcome.ops;
        self.acknowledged += outcome.acknowledged;
        self.crashes += outcome.crashes;
        self.failures += u64::from(outcome.verdict.is_err());
        for (fault, times) in &outcome.faults {
            let (seeds, all) = self.faults.entry(*fault).or_default();
            *seeds += 1;
            *all += times;
        }
    }
}

fn run_seeds(start: u64, count: u64, jobs: u64) -> bool {
    let began = Instant::now();
    let next = AtomicU64::new(0);
    let total = Mutex::new(Total::default());
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    if i >= count {
                        return;
                    }
                    let outcome = run_caught(start.wrapping_add(i), &Options::default());
                    let mut total = total.lock().expect("no holder panics");
                    total.add(&outcome);
                    if let Err(what) = &outcome.verdict {
                        println!("FAILED, replay with: cargo xtask sim --seed {:#x}    {what}", outcome.seed);
                    }
                    if total.seeds.is_multiple_of(100) {
                        println!("{} of {count} seeds, {} failed", total.seeds, total.failures);
                    }
                }
            });
        }
    });
    let total = total.into_inner().expect("no holder panics");
    println!(
        "{} seeds, {} requests, {} acknowledged changes, {} crashes, {:.1} s",
        total.seeds,
        total.ops,
        total.acknowledged,
        total.crashes,
        began.elapsed().as_secs_f64()
    );
    let is_complete = tell_faults(&total);
    total.failures == 0 && is_complete
}

/// How often each kind was seen; whether none is missing, where enough seeds were run to ask.
fn tell_faults(total: &Total) -> bool {
    println!("{:<20} {:>8} {:>10}", "fault", "seeds", "times");
    let mut missing = 0;
    for fault in Fault::ALL {
        let (seeds, times) = total.faults.get(&fault).copied().unwrap_or_default();
        println!("{:<20} {seeds:>8} {times:>10}", format!("{fault:?}"));
        missing += u64::from(seeds == 0);
    }
    if missing > 0 && total.seeds >= SEEDS_FOR_ALL_FAULTS {
        println!("FAILED: {missing} kinds of fault were never seen");
        return false;
    }
    true
}

/// Each bug must be caught within `count` seeds.
fn run_bugs(bugs: &[Bug], start: u64, count: u64, jobs: u64) -> bool {
    let next = AtomicU64::new(0);
    let missed = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                while let Some(bug) = bugs.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                    let options = Options { bug: Some(*bug), is_told: false };
                    let caught = (0..count).find_map(|i| {
                        let outcome = run_caught(start.wrapping_add(i), &options);
                        outcome.verdict.err().map(|what| (i + 1, what))
                    });
                    let bug = format!("{bug:?}");
                    match caught {
                        Some((seeds, what)) => println!("{bug:<22} caught by seed {seeds:>4}: {what}"),
                        None => {
                            missed.fetch_add(1, Ordering::Relaxed);
                            println!("{bug:<22} FAILED: not caught in {count} seeds");
                        }
                    }
                }
            });
        }
    });
    missed.into_inner() == 0
}
