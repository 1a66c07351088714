//! Claims of the mesh, each on real threads with a runtime per core.

use std::cell::RefCell;
use std::future::pending;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use compio::runtime::Runtime;
use compio::time::{sleep, timeout};
use futures_util::future::{join, join_all};

use super::*;

/// The state of a core in these tests.
struct State {
    core: CoreId,
    handle: MeshHandle<State>,
    seen: RefCell<Vec<u64>>,
}

/// The receiving loop of a seat that is open at once.
fn serve(handle: &MeshHandle<State>, state: Rc<State>) -> Serve<State> {
    handle.open(state);
    handle.serve()
}

fn cores(count: usize) -> impl Iterator<Item = CoreId> {
    (0..count).map(CoreId::new)
}

/// Runs `work` on every core of a mesh of `core_count`; all serve until the last has finished. Answers its results.
fn on_cores<R, F>(core_count: usize, lane_len: usize, work: F) -> Vec<R>
where
    R: Send + 'static,
    F: AsyncFn(Rc<State>) -> R + Send + Sync + 'static,
{
    let mesh = Mesh::<State>::new(core_count, lane_len);
    let work = Arc::new(work);
    let (finished, finishes) = mpsc::channel();
    let mut ends = Vec::new();
    let threads: Vec<_> = cores(core_count)
        .map(|core| {
            let (mesh, work, finished) = (mesh.clone(), work.clone(), finished.clone());
            let (end, ended) = oneshot::channel::<()>();
            ends.push(end);
            thread::spawn(move || {
                Runtime::new().expect("a runtime").block_on(async {
                    let handle = mesh.handle(core);
                    let state = Rc::new(State { core, handle: handle.clone(), seen: RefCell::default() });
                    let _serving = compio::runtime::spawn(serve(&handle, state.clone()));
                    let result = work(state).await;
                    finished.send(()).expect("the test waits");
                    let _ = ended.await;
                    result
                })
            })
        })
        .collect();
    for _ in 0..core_count {
        finishes.recv_timeout(Duration::from_secs(60)).expect("every core finishes its work");
    }
    drop(ends);
    threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
}

#[test]
fn a_call_runs_on_the_target_and_its_result_comes_back() {
    let results = on_cores(3, 8, async |state| {
        let mut results = Vec::new();
        for core in cores(3) {
            let here = state.core;
            let call = state.handle.call(core, move |there: Rc<State>| async move { (here, there.core) });
            results.push(call.await.expect("all serve"));
        }
        results
    });
    for (here, results) in cores(3).zip(results) {
        assert_eq!(results, cores(3).map(|core| (here, core)).collect::<Vec<_>>());
    }
}

#[test]
fn a_call_to_the_own_core_runs_in_place() {
    let figures = on_cores(1, 1, async |state| {
        let sum =
            state.handle.call(state.core, |state: Rc<State>| async move { state.core.index() + 41 }).await;
        assert_eq!(sum, Ok(41));
        state.handle.local.shared.seats[0].calls.load(Ordering::Relaxed)
    });
    assert_eq!(figures, [0], "nothing went through a lane");
}

#[test]
fn calls_of_one_pair_start_in_the_order_they_were_made() {
    const COUNT: u64 = 5_000;
    // The lane is far shorter than what is sent at once, so that most calls wait for room.
    let seen = on_cores(2, 4, async |state| {
        if state.core == CoreId::new(0) {
            let calls = (0..COUNT).map(|n| {
                state.handle.call(CoreId::new(1), move |there: Rc<State>| {
                    there.seen.borrow_mut().push(n);
                    async {}
                })
            });
            assert!(join_all(calls).await.into_iter().all(|result| result.is_ok()));
        }
        let there =
            state.handle.call(CoreId::new(1), |there: Rc<State>| async move { there.seen.borrow().clone() });
        there.await.expect("all serve")
    });
    assert_eq!(seen[0], (0..COUNT).collect::<Vec<_>>());
}

#[test]
fn two_cores_that_fill_each_others_lanes_go_on() {
    const COUNT: u64 = 20_000;
    let sums = on_cores(2, 1, async |state| {
        let other = CoreId::new(1 - state.core.index());
        let calls = (0..COUNT).map(|n| state.handle.call(other, move |_: Rc<State>| async move { n }));
        let waits = |state: &State| state.handle.local.seat().waits.load(Ordering::Relaxed);
        let sum = join_all(calls).await.into_iter().map(|result| result.expect("both serve")).sum::<u64>();
        (sum, waits(&state) > 0)
    });
    assert_eq!(sums, [(COUNT * (COUNT - 1) / 2, true); 2], "all replies came, and some messages had to wait");
}

#[test]
fn many_cores_call_each_other_at_once() {
    const CORES: usize = 8;
    const ROUNDS: usize = 300;
    let counts = on_cores(CORES, 2, async |state| {
        for _ in 0..ROUNDS {
            let calls = cores(CORES).map(|core| {
                let there = state.handle.call(core, move |there: Rc<State>| async move { there.core });
                async move { there.await == Ok(core) }
            });
            assert!(join_all(calls).await.into_iter().all(|is_right| is_right));
        }
        state.handle.local.waiting_count.get()
    });
    assert_eq!(counts, [0; CORES], "no message is left behind");
}

#[test]
fn a_called_core_may_call_on() {
    let results = on_cores(3, 1, async |state| {
        let calls = (0..500_u64).map(|n| {
            state.handle.call(CoreId::new(1), move |home: Rc<State>| async move {
                let catalog = home.handle.call(CoreId::new(2), move |_: Rc<State>| async move { n + 1 });
                catalog.await.expect("all serve") * 2
            })
        });
        join_all(calls).await.into_iter().map(|result| result.expect("all serve")).sum::<u64>()
    });
    assert_eq!(results, [(1..=500).map(|n| n * 2).sum::<u64>(); 3]);
}

#[test]
fn a_slow_call_does_not_hold_up_those_behind_it() {
    on_cores(2, 4, async |state| {
        let other = CoreId::new(1 - state.core.index());
        let slow = state.handle.call(other, |_: Rc<State>| async { sleep(Duration::from_secs(30)).await });
        let quick = async {
            for n in 0..100 {
                assert_eq!(state.handle.call(other, move |_: Rc<State>| async move { n }).await, Ok(n));
            }
        };
        assert!(
            timeout(Duration::from_secs(10), join(slow, quick)).await.is_err(),
            "only the slow one is left"
        );
    });
}

#[test]
fn a_caller_that_gives_up_while_waiting_for_room_takes_its_message_with_it() {
    let mesh = Mesh::<State>::new(2, 1);
    Runtime::new().expect("a runtime").block_on(async {
        let handle = mesh.handle(CoreId::new(0));
        let call = |n: u64| {
            handle.call(CoreId::new(1), move |there: Rc<State>| {
                there.seen.borrow_mut().push(n);
                async {}
            })
        };
        // Nobody serves core 1 yet: the first message fills the lane, the others wait in the outbox.
        let calls: Vec<_> = (0..3).map(call).collect();
        assert!(timeout(Duration::from_millis(20), join_all(calls)).await.is_err());
        assert_eq!(mesh.figures(CoreId::new(1)).queued, 1);
        assert_eq!(mesh.figures(CoreId::new(0)), MeshFigures { calls: 3, waits: 2, queued: 0 });
        let there = mesh.handle(CoreId::new(1));
        let state = Rc::new(State { core: CoreId::new(1), handle: there.clone(), seen: RefCell::default() });
        let here = Rc::new(State { core: CoreId::new(0), handle: handle.clone(), seen: RefCell::default() });
        let _serving = [
            compio::runtime::spawn(serve(&there, state.clone())),
            compio::runtime::spawn(serve(&handle, here)),
        ];
        assert_eq!(call(9).await, Ok(()));
        assert_eq!(*state.seen.borrow(), [0, 9], "the calls 1 and 2 were taken back");
    });
}

#[test]
fn calls_to_a_core_that_opens_later_wait_for_it() {
    let results = on_cores(2, 2, async |state| {
        if state.core == CoreId::new(0) {
            // Keeps core 0 from serving the mesh for a while: the thread itself sleeps.
            thread::sleep(Duration::from_millis(100));
        }
        state.handle.call(CoreId::new(0), |there: Rc<State>| async move { there.core }).await
    });
    assert_eq!(results, [Ok(CoreId::new(0)); 2]);
}

#[test]
fn a_core_that_opens_gets_replies_at_once_and_calls_when_it_is_open() {
    let results = on_cores_that_open(2, async |handle: MeshHandle<State>| {
        if handle.here() == CoreId::new(1) {
            let answer = handle.call(CoreId::new(0), |there: Rc<State>| async move { there.core });
            assert_eq!(timeout(Duration::from_secs(10), answer).await, Ok(Ok(CoreId::new(0))));
        }
    });
    assert_eq!(results, [Ok(CoreId::new(1)), Ok(CoreId::new(0))]);
}

/// Serves two cores while `open` runs, opens them after, and answers what each hears from the other.
fn on_cores_that_open<F>(core_count: usize, open: F) -> Vec<Result<CoreId, MeshClosed>>
where
    F: AsyncFn(MeshHandle<State>) + Send + Sync + 'static,
{
    let mesh = Mesh::<State>::new(core_count, 1);
    let open = Arc::new(open);
    let (finished, finishes) = mpsc::channel();
    let mut ends = Vec::new();
    let threads: Vec<_> = cores(core_count)
        .map(|core| {
            let (mesh, open, finished) = (mesh.clone(), open.clone(), finished.clone());
            let (end, ended) = oneshot::channel::<()>();
            ends.push(end);
            thread::spawn(move || {
                Runtime::new().expect("a runtime").block_on(async {
                    let handle = mesh.handle(core);
                    let _serving = compio::runtime::spawn(handle.serve());
                    let other = CoreId::new(1 - core.index());
                    let ask = handle.call(other, |there: Rc<State>| async move { there.core });
                    let opening = async {
                        open(handle.clone()).await;
                        handle.open(Rc::new(State {
                            core,
                            handle: handle.clone(),
                            seen: RefCell::default(),
                        }));
                    };
                    let (answer, ()) = join(ask, opening).await;
                    finished.send(()).expect("the test waits");
                    let _ = ended.await;
                    answer
                })
            })
        })
        .collect();
    for _ in 0..core_count {
        finishes.recv_timeout(Duration::from_secs(60)).expect("every core finishes its work");
    }
    drop(ends);
    threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
}

#[test]
fn calls_to_a_core_that_has_closed_fail_whether_queued_running_or_new() {
    let mesh = Mesh::<State>::new(2, 1);
    Runtime::new().expect("a runtime").block_on(async {
        let (handle, there) = (mesh.handle(CoreId::new(0)), mesh.handle(CoreId::new(1)));
        let state = Rc::new(State { core: CoreId::new(1), handle: there.clone(), seen: RefCell::default() });
        let here = Rc::new(State { core: CoreId::new(0), handle: handle.clone(), seen: RefCell::default() });
        let _serving_here = compio::runtime::spawn(serve(&handle, here));
        let serving_there = serve(&there, state);
        let forever = || handle.call(CoreId::new(1), |_: Rc<State>| pending::<()>());
        let close = async {
            sleep(Duration::from_millis(20)).await;
            drop(serving_there);
        };
        // On the lane, and behind it.
        let (queued, waiting, ()) = futures_util::join!(forever(), forever(), close);
        assert_eq!((queued, waiting), (Err(MeshClosed), Err(MeshClosed)));
        assert_eq!(forever().await, Err(MeshClosed));
        assert_eq!(
            there.call(CoreId::new(1), |_: Rc<State>| async {}).await,
            Err(MeshClosed),
            "also to itself"
        );
    });
}

#[test]
fn a_call_that_runs_while_its_core_ends_fails() {
    let mesh = Mesh::<State>::new(2, 4);
    let (started, starts) = mpsc::channel();
    let (end, ended) = oneshot::channel::<()>();
    let target = thread::spawn({
        let mesh = mesh.clone();
        move || {
            Runtime::new().expect("a runtime").block_on(async {
                let there = mesh.handle(CoreId::new(1));
                let state =
                    Rc::new(State { core: CoreId::new(1), handle: there.clone(), seen: RefCell::default() });
                let _serving = compio::runtime::spawn(serve(&there, state));
                let _ = ended.await;
            });
        }
    });
    Runtime::new().expect("a runtime").block_on(async {
        let handle = mesh.handle(CoreId::new(0));
        let here = Rc::new(State { core: CoreId::new(0), handle: handle.clone(), seen: RefCell::default() });
        let _serving = compio::runtime::spawn(serve(&handle, here));
        let call = handle.call(CoreId::new(1), move |_: Rc<State>| {
            started.send(()).expect("the test waits");
            pending::<()>()
        });
        let close = async {
            while starts.try_recv().is_err() {
                sleep(Duration::from_millis(5)).await;
            }
            drop(end);
        };
        let (result, ()) = timeout(Duration::from_secs(10), join(call, close)).await.expect("the call ends");
        assert_eq!(result, Err(MeshClosed));
    });
    target.join().expect("no panic");
}

#[test]
fn the_observer_calls_every_core_and_is_none() {
    let mesh = Mesh::<State>::new(2, 4);
    let (end, ended) = oneshot::channel::<()>();
    let core = thread::spawn({
        let mesh = mesh.clone();
        move || {
            Runtime::new().expect("a runtime").block_on(async {
                let handle = mesh.handle(CoreId::new(1));
                let state =
                    Rc::new(State { core: CoreId::new(1), handle: handle.clone(), seen: RefCell::default() });
                let _serving = compio::runtime::spawn(serve(&handle, state));
                let _ = ended.await;
            });
        }
    });
    Runtime::new().expect("a runtime").block_on(async {
        let observer = mesh.observer();
        assert_eq!(observer.core_count(), 2);
        let _serving = compio::runtime::spawn(observer.serve());
        assert_eq!(
            observer.call(CoreId::new(1), |state: Rc<State>| async move { state.core }).await,
            Ok(CoreId::new(1))
        );
        let hung = observer.call(CoreId::new(0), |_: Rc<State>| async {});
        assert!(timeout(Duration::from_millis(50), hung).await.is_err(), "core 0 does not serve");
    });
    drop(end);
    core.join().expect("no panic");
}

#[test]
#[should_panic(expected = "taken once")]
fn a_seat_is_taken_once() {
    let mesh = Mesh::<State>::new(1, 1);
    let _first = mesh.handle(CoreId::new(0));
    let _second = mesh.handle(CoreId::new(0));
}
