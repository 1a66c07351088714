//! monoio, with the ring flags of a node.

use std::rc::Rc;

use io_uring_06::IoUring;
use monoio::buf::{IoBuf, IoBufMut};
use monoio::fs::File;
use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::{TcpListener, TcpStream};
use monoio::{IoUringDriver, RuntimeBuilder};

use super::announce;
use crate::load::{
    APPEND_DEPTH, APPEND_LEN, Bench, CONNECTION_COUNT, Load, READ_DEPTH, READ_LEN, REQUEST_LEN, RESPONSE_LEN,
    aligned,
};

/// Runs until the meter ends the process.
pub fn run(load: Load, bench: &'static Bench) {
    let mut ring = IoUring::builder();
    ring.setup_single_issuer().setup_defer_taskrun();
    let builder = RuntimeBuilder::<IoUringDriver>::new().with_entries(1024).uring_builder(ring);
    let mut runtime = builder.build().expect("a ring");
    match load {
        Load::Read => runtime.block_on(each(READ_DEPTH, |file| read(file, bench), bench)),
        Load::Append => runtime.block_on(each(APPEND_DEPTH, |file| append(file, bench), bench)),
        Load::Serve => runtime.block_on(serve(bench)),
    }
}

async fn each<F: Future<Output = ()> + 'static>(depth: usize, work: impl Fn(Rc<File>) -> F, bench: &Bench) {
    let file = Rc::new(File::from_std(bench.open()).expect("registered"));
    let tasks: Vec<_> = (0..depth).map(|_| monoio::spawn(work(file.clone()))).collect();
    for task in tasks {
        task.await;
    }
}

async fn read(file: Rc<File>, bench: &Bench) {
    let (mut memory, range) = aligned(READ_LEN);
    loop {
        let (result, slice) = file.read_at(memory.slice_mut(range.clone()), bench.read_place()).await;
        assert_eq!(result.expect("read"), READ_LEN);
        memory = slice.into_inner();
        bench.meter.count();
    }
}

async fn append(file: Rc<File>, bench: &Bench) {
    let (mut memory, range) = aligned(APPEND_LEN);
    loop {
        let (result, slice) = file.write_at(memory.slice(range.clone()), bench.append_place()).await;
        assert_eq!(result.expect("written"), APPEND_LEN);
        memory = slice.into_inner();
        if bench.is_flush_due() {
            file.sync_data().await.expect("flushed");
        }
        bench.meter.count();
    }
}

async fn serve(bench: &'static Bench) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    announce(listener.local_addr().expect("bound"));
    let mut tasks = Vec::new();
    for _ in 0..CONNECTION_COUNT {
        let (stream, _) = listener.accept().await.expect("the client connects");
        stream.set_nodelay(true).expect("set");
        tasks.push(monoio::spawn(answer(stream, bench)));
    }
    for task in tasks {
        task.await;
    }
}

async fn answer(mut stream: TcpStream, bench: &Bench) {
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
