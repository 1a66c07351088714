//! A life of a store, decided by its seed: sessions of clients that end in crashes or in order, and a last look.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use super::audit::{Left, audit};
use super::bugs::{self, Bug};
use super::chance::Chance;
use super::check::check_all;
use super::device::{Crash, Device};
use super::executor::{Executor, Stop};
use super::faults::{Fault, FaultPlan, Faults};
use super::machine::{self, Background, Machine};
use super::oracle::Oracle;
use super::trace::Trace;
use super::workload::{BUCKETS, Client, create_bucket};

/// Client tasks of a session.
const CLIENTS: u64 = 4;

/// How a world is run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// A bug that the engine has.
    pub bug: Option<Bug>,
    /// Every event goes to the standard error output.
    pub is_told: bool,
}

/// What came of a world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// The hash of all that happened.
    pub trace_hash: u64,
    /// Requests answered.
    pub ops: u64,
    /// Of those, changes acknowledged.
    pub acknowledged: u64,
    /// Ends of a process that were not in order.
    pub crashes: u64,
    /// How often each fault was seen.
    pub faults: BTreeMap<Fault, u64>,
    /// What was found wrong first.
    pub verdict: Result<(), String>,
}

/// Runs the world of a seed.
pub fn run(seed: u64, options: &Options) -> Outcome {
    bugs::plant(options.bug);
    let mut world = World::new(seed, options);
    let verdict = world.live();
    bugs::plant(None);
    let (ops, acknowledged) = world.oracle.counts();
    Outcome {
        seed,
        trace_hash: world.trace.hash(),
        ops,
        acknowledged,
        crashes: world.crashes,
        faults: world.faults.counts(),
        verdict,
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Tasks and timers hold the executor, which holds them.
        self.executor.kill();
    }
}

struct World {
    chance: Chance,
    executor: Executor,
    trace: Trace,
    faults: Rc<Faults>,
    devices: Vec<Device>,
    oracle: Rc<Oracle>,
    crashes: u64,
}

/// How a session goes.
struct Session {
    devices: Vec<Device>,
    /// Requests of each client.
    requests: u64,
    /// Whether the store must open.
    is_calm: bool,
    /// Whether everything is looked at again before the end.
    looks_back: bool,
    background: Background,
}

impl Session {
    /// How it leaves the devices.
    fn left(&self) -> Left {
        match (self.is_calm, self.background) {
            (true, Background::None) => Left::Settled,
            _ => Left::Torn,
        }
    }
}

/// How a session ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Served,
    NotOpened,
}

impl World {
    fn new(seed: u64, options: &Options) -> Self {
        let mut chance = Chance::new(seed);
        let plan = FaultPlan::choose(&mut chance);
        let trace = Trace::new(options.is_told);
        trace.add(&format!("{plan:?}"), &[], &[]);
        let executor = Executor::new(chance.fork());
        let faults = Rc::new(Faults::new(plan.clone(), chance.fork()));
        let capacity = machine::capacity(&plan);
        let devices: Vec<Device> = (0..plan.device_count)
            .map(|index| Device::new(index, capacity, &executor, &faults, &trace, chance.fork()))
            .collect();
        let oracle = Rc::new(Oracle::new(&executor, &faults, &trace, chance.fork()));
        World { chance, executor, trace, faults, devices, oracle, crashes: 0 }
    }

    fn live(&mut self) -> Result<(), String> {
        self.format()?;
        for _ in 0..2 + self.chance.below(4) {
            if self.chance.below(8) == 0 {
                self.faults.saw(Fault::LostPointers);
                self.devices.iter().for_each(Device::lose_checkpoint_area);
            }
            let absent = self.faults.plan.choose_absent(&mut self.chance);
            if let Some(absent) = absent {
                self.rest()?;
                self.faults.saw(Fault::AbsentDevice);
                let mut devices = self.devices.clone();
                devices.remove(absent);
                self.serve(devices, None)?;
            } else {
                let ailing = self.faults.plan.choose_ailing(&mut self.chance);
                self.serve(self.devices.clone(), ailing)?;
            }
        }
        self.rest()
    }

    fn format(&mut self) -> Result<(), String> {
        let result = Rc::new(RefCell::new(None));
        let (out, devices, plan) = (result.clone(), self.devices.clone(), self.faults.plan.clone());
        let mut chance = self.chance.fork();
        self.executor.spawn(async move {
            let formatted = machine::format(&devices, &plan, &mut chance).await;
            *out.borrow_mut() = Some(formatted);
        });
        self.executor.run_until(|| result.borrow().is_some());
        match result.take() {
            Some(Ok(())) => Ok(()),
            other => Err(format!("format: {other:?}")),
        }
    }

    /// A session of clients.
    fn serve(&mut self, mut devices: Vec<Device>, ailing: Option<usize>) -> Result<(), String> {
        let left = (self.chance.below(4) > 0).then(|| 1 + self.chance.below(1500));
        self.faults.begin_session(ailing, left);
        let rotation = self.chance.below(devices.len() as u64) as usize;
        devices.rotate_left(rotation);
        let requests = 5 + self.chance.below(50);
        let looks_back = self.chance.below(3) == 0;
        let background = Background::Upkeep;
        self.session(Session { devices, requests, is_calm: false, looks_back, background })
    }

    /// A session in which nothing goes wrong and nobody changes anything: afterwards all copies are the same where they must be.
    fn rest(&mut self) -> Result<(), String> {
        self.faults.calm();
        let devices = self.devices.clone();
        let background = if self.chance.below(2) == 0 { Background::Upkeep } else { Background::None };
        self.session(Session { devices, requests: 0, is_calm: true, looks_back: false, background })
    }

    /// Checks what is on the devices, all of them, and changes nothing.
    fn audit(&mut self, left: Left) -> Result<(), String> {
        self.faults.calm();
        let result = Rc::new(RefCell::new(None));
        let (out, devices, victim) = (result.clone(), self.devices.clone(), self.faults.plan.victim);
        self.executor.spawn(async move {
            let audited = audit(devices, victim, left).await;
            *out.borrow_mut() = Some(audited);
        });
        self.executor.run_until(|| result.borrow().is_some());
        self.executor.kill();
        result.take().unwrap_or(Err("fsck does not end".to_owned()))
    }

    fn session(&mut self, session: Session) -> Result<(), String> {
        self.trace.add("session", &[session.devices.len() as u64, session.requests], &[]);
        self.oracle.restart();
        let left = session.left();
        let end = Rc::new(Cell::new(None));
        let (out, oracle, chance) = (end.clone(), self.oracle.clone(), self.chance.fork());
        self.executor.spawn(async move { out.set(Some(process(oracle, session, chance).await)) });
        let stop = self.executor.run_until(|| end.get().is_some());
        self.executor.kill();
        if let Some(failure) = self.oracle.failure() {
            return Err(failure);
        }
        match stop {
            Stop::Deadlock | Stop::Livelock => return Err(format!("{stop:?}")),
            Stop::Over if end.get() == Some(End::Served) && self.chance.below(2) == 0 => {
                self.faults.saw(Fault::CleanRestart);
                // Of writes that nobody waited for any more, some may still come.
                self.devices.iter().for_each(|device| device.crash(Crash::Kill));
            }
            Stop::Over | Stop::Halted => self.crash(),
        }
        self.audit(left)
    }

    fn crash(&mut self) {
        self.crashes += 1;
        let (crash, fault) = match self.chance.below(3) {
            0 => (Crash::Kill, Fault::Killed),
            _ => (Crash::PowerCut, Fault::PowerCut),
        };
        self.faults.saw(fault);
        self.devices.iter().for_each(|device| device.crash(crash));
    }
}

/// The process of a session.
async fn process(oracle: Rc<Oracle>, session: Session, mut chance: Chance) -> End {
    let executor = oracle.executor.clone();
    let opened =
        Machine::open(&session.devices, &executor, &oracle.faults, session.background, &mut chance).await;
    let machine = match opened {
        Ok(machine) => Rc::new(machine),
        Err(error) => {
            if session.is_calm || !oracle.excuses(error) {
                oracle.fail(format!("the store does not open: {error:?}"));
            }
            return End::NotOpened;
        }
    };
    oracle.faults.opened();
    if !machine.takes_writes() {
        oracle.decide_nothing();
    }
    if let Err(error) = machine.set_up().await
        && oracle.answer::<()>("set up", b"", &Err(error)) != super::model::Answer::Open
    {
        return End::Served;
    }
    check_all(&oracle, &machine, chance.below(2) as usize).await;
    if session.requests == 0 || oracle.executor.is_halted() {
        return End::Served;
    }
    for name in BUCKETS {
        let is_there = oracle.model.borrow_mut().bucket(name).is_there.certain() == Some(&true);
        if !is_there {
            create_bucket(&oracle, &machine, name).await;
        }
    }
    run_clients(&oracle, &machine, session.requests, &mut chance).await;
    while !machine.is_idle() {
        executor.sleep(100_000).await;
    }
    if session.looks_back {
        check_all(&oracle, &machine, chance.below(2) as usize).await;
    }
    machine.stop();
    End::Served
}

async fn run_clients(oracle: &Rc<Oracle>, machine: &Rc<Machine>, requests: u64, chance: &mut Chance) {
    let running = Rc::new(Cell::new(CLIENTS));
    for number in 0..CLIENTS {
        let client = Client::new(number, machine, oracle, chance.fork());
        let running = running.clone();
        oracle.executor.spawn(async move {
            client.run(requests).await;
            running.set(running.get() - 1);
        });
    }
    while running.get() > 0 {
        oracle.executor.sleep(100_000).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_is_the_same_world_and_another_seed_is_another() {
        let options = Options::default();
        let outcome = run(5, &options);
        assert_eq!(run(5, &options), outcome);
        assert_ne!(run(6, &options).trace_hash, outcome.trace_hash);
    }

    #[test]
    fn a_few_worlds_are_lived_without_a_wrong_answer() {
        for seed in 0..8 {
            let outcome = run(seed, &Options::default());
            assert_eq!(outcome.verdict, Ok(()), "seed {seed}");
            assert!(outcome.acknowledged > 0, "seed {seed} did something");
        }
    }

    #[test]
    fn a_planted_bug_is_caught_and_is_gone_afterwards() {
        let options = Options { bug: Some(Bug::UsageNotReduced), is_told: false };
        assert!((0..8).any(|seed| run(seed, &options).verdict.is_err()));
        assert!(!bugs::is_planted(Bug::UsageNotReduced));
    }
}
