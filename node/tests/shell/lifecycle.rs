//! Start and end of a node.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use node::boot::Boot;
use node::config::{Auto, ByteSize, Config, Period};
use node::{CoreContext, CoreId, Server};

use super::support::{Node, Obedient, ask, get, read_line, read_to_end};

#[test]
fn a_drain_ends_idle_connections_at_once_and_lets_requests_finish() {
    let mut node = Node::start();
    let mut idle = node.connect();
    assert_eq!(ask(&mut idle, "well"), "well");
    let mut busy = node.connect();
    busy.write_all(b"sleep 1500\n").expect("sent");
    thread::sleep(Duration::from_millis(200));
    let begin = Instant::now();
    node.terminate();
    assert_eq!(read_to_end(&mut idle).expect("an orderly end"), b"");
    assert!(begin.elapsed() < Duration::from_secs(1), "the idle one ended after {:?}", begin.elapsed());
    assert_eq!(get(node.admin, "/healthz"), (503, "ending\n".to_owned()));
    assert_eq!(read_line(&mut busy), "slept");
    assert_eq!(read_to_end(&mut busy).expect("an orderly end"), b"");
    node.wait().expect("an orderly end");
    assert!(begin.elapsed() >= Duration::from_millis(1200), "it didn't wait for the request");
}

#[test]
fn a_draining_node_takes_no_new_connections() {
    let mut node = Node::start();
    let mut busy = node.connect();
    busy.write_all(b"sleep 800\n").expect("sent");
    thread::sleep(Duration::from_millis(200));
    node.terminate();
    thread::sleep(Duration::from_millis(300));
    let refused = TcpStream::connect(node.address).expect_err("nobody listens");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert_eq!(read_line(&mut busy), "slept");
    node.wait().expect("an orderly end");
}

#[test]
fn requests_that_do_not_finish_in_time_are_cut_off() {
    let mut node = Node::start_with(vec![None], |config| {
        config.shutdown.drain_timeout = Period(Duration::from_millis(500))
    });
    let mut busy = node.connect();
    busy.write_all(b"sleep 60000\n").expect("sent");
    thread::sleep(Duration::from_millis(200));
    let begin = Instant::now();
    node.terminate();
    node.wait().expect("an end all the same");
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    assert!(read_to_end(&mut busy).is_err(), "cut off: no close_notify");
}

#[test]
fn a_second_signal_ends_the_node_at_once() {
    let mut node = Node::start();
    let mut busy = node.connect();
    busy.write_all(b"sleep 60000\n").expect("sent");
    thread::sleep(Duration::from_millis(200));
    node.terminate();
    thread::sleep(Duration::from_millis(200));
    node.terminate();
    let begin = Instant::now();
    node.wait().expect("an end");
    assert!(begin.elapsed() < Duration::from_secs(2));
}

#[test]
fn each_core_is_pinned_to_its_cpu_and_serves() {
    let usable = node::config::CpuList::Auto.resolve().expect("the kernel says");
    let node = Node::start_with(usable.iter().map(|cpu| Some(*cpu)).collect(), |_| {});
    let mut serving = std::collections::HashSet::new();
    for _ in 0..64 {
        let mut client = node.connect_plain();
        let core: usize = ask(&mut client, "core").parse().expect("a number");
        assert_eq!(ask(&mut client, "cpus"), usable[core].to_string());
        serving.insert(core);
    }
    assert_eq!(serving.len(), usable.len(), "every core serves some of 64 connections");
}

fn config(directory: &std::path::Path) -> Config {
    let mut config = Config::default();
    config.node.data_dir = directory.to_owned();
    config.node.listen = vec!["127.0.0.1:0".parse().expect("an address")];
    config.node.admin_listen = config.node.listen[0];
    config.store.device_size = Auto::Set(ByteSize(4 << 20));
    config
}

#[test]
fn a_core_that_cannot_open_is_named_with_its_reason() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = config(directory.path());
    let boot = Boot::prepare(&config).expect("a first start");
    let open = |context: CoreContext<Obedient>| async move {
        if context.core == CoreId::new(1) {
            Err("no such luck".into())
        } else {
            Ok(Rc::new(Obedient::new(context)))
        }
    };
    let error =
        Server::start_on(&config, &boot, vec![None; 2], open).err().expect("core 1 fails").to_string();
    assert_eq!(error, "core 1 cannot open the store: no such luck");
}

#[test]
fn cores_may_call_each_other_while_they_open() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = config(directory.path());
    let boot = Boot::prepare(&config).expect("a first start");
    let open = |context: CoreContext<Obedient>| async move {
        if context.core != CoreId::new(0) {
            let mesh = context.mesh.clone();
            let answer = mesh.call(CoreId::new(0), |there: Rc<Obedient>| async move { there.core() }).await?;
            assert_eq!(answer, CoreId::new(0));
        }
        Ok(Rc::new(Obedient::new(context)))
    };
    let server = Server::start_on(&config, &boot, vec![None; 3], open).expect("all open");
    let stopper = server.stopper();
    stopper.request(node::signals::Request::Terminate);
    server.run().expect("an orderly end");
}

#[test]
fn a_cpu_that_is_not_there_is_refused_before_anything_starts() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut config = config(directory.path());
    config.node.cores = "1000".parse().expect("a list");
    let boot = Boot::prepare(&config).expect("a first start");
    let open = |context: CoreContext<Obedient>| async { Ok(Rc::new(Obedient::new(context))) };
    let error = Server::start(&config, &boot, open).err().expect("no such CPU").to_string();
    assert!(error.contains("CPU 1000") && error.contains("--cores"), "{error}");
}
