//! tokio-uring. It learns of completions by epoll, so that the kernel may not defer them to a wait for the ring; the other flags are those of a node.

use std::rc::Rc;

use tokio_uring::buf::BoundedBuf;
use tokio_uring::fs::File;
use tokio_uring::net::{TcpListener, TcpStream};

use super::announce;
use crate::load::{
    APPEND_DEPTH, APPEND_LEN, Bench, CONNECTION_COUNT, Load, READ_DEPTH, READ_LEN, REQUEST_LEN, RESPONSE_LEN,
    aligned,
};

/// Runs until the meter ends the process.
pub fn run(load: Load, bench: &'static Bench) {
    let mut ring = tokio_uring::uring_builder();
    ring.setup_single_issuer().setup_coop_taskrun();
    let mut builder = tokio_uring::builder();
    builder.entries(1024).uring_builder(&ring);
    match load {
        Load::Read => builder.start(each(READ_DEPTH, |file| read(file, bench), bench)),
        Load::Append => builder.start(each(APPEND_DEPTH, |file| append(file, bench), bench)),
        Load::Serve => builder.start(serve(bench)),
    }
}

async fn each<F: Future<Output = ()> + 'static>(depth: usize, work: impl Fn(Rc<File>) -> F, bench: &Bench) {
    let file = Rc::new(File::from_std(bench.open()));
    let tasks: Vec<_> = (0..depth).map(|_| tokio_uring::spawn(work(file.clone()))).collect();
    for task in tasks {
        task.await.expect("a task of the load");
    }
}

async fn read(file: Rc<File>, bench: &Bench) {
    let (mut memory, range) = aligned(READ_LEN);
    loop {
        let (result, slice) = file.read_at(memory.slice(range.clone()), bench.read_place()).await;
        assert_eq!(result.expect("read"), READ_LEN);
        memory = slice.into_inner();
        bench.meter.count();
    }
}

async fn append(file: Rc<File>, bench: &Bench) {
    let (mut memory, range) = aligned(APPEND_LEN);
    loop {
        let (result, slice) = file.write_at(memory.slice(range.clone()), bench.append_place()).submit().await;
        assert_eq!(result.expect("written"), APPEND_LEN);
        memory = slice.into_inner();
        if bench.is_flush_due() {
            file.sync_data().await.expect("flushed");
        }
        bench.meter.count();
    }
}

async fn serve(bench: &'static Bench) {
    let listener = TcpListener::bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
    announce(listener.local_addr().expect("bound"));
    let mut tasks = Vec::new();
    for _ in 0..CONNECTION_COUNT {
        let (stream, _) = listener.accept().await.expect("the client connects");
        stream.set_nodelay(true).expect("set");
        tasks.push(tokio_uring::spawn(answer(stream, bench)));
    }
    for task in tasks {
        task.await.expect("a task of the load");
    }
}

async fn answer(stream: TcpStream, bench: &Bench) {
    let (mut request, mut response) = (vec![0; REQUEST_LEN], vec![b'a'; RESPONSE_LEN]);
    loop {
        let (result, buffer) = stream.read(request).await;
        assert_eq!(result.expect("received"), REQUEST_LEN);
        request = buffer;
        let (result, buffer) = stream.write_all(response).await;
        result.expect("sent");
        response = buffer;
        bench.meter.count();
    }
}
