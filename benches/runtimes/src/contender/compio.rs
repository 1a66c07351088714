//! compio, with the ring flags of a node.

use compio::BufResult;
use compio::buf::{IntoInner, IoBuf};
use compio::fs::{File, OpenOptions};
use compio::io::{AsyncRead, AsyncReadAt, AsyncWriteAt, AsyncWriteExt};
use compio::net::{TcpListener, TcpStream};
use compio::runtime::{Runtime, RuntimeBuilder};
use compio_driver::ProactorBuilder;

use super::announce;
use crate::load::{
    APPEND_DEPTH, APPEND_LEN, Bench, CONNECTION_COUNT, Load, READ_DEPTH, READ_LEN, REQUEST_LEN, RESPONSE_LEN,
    aligned, direct_flag,
};

/// Runs until the meter ends the process.
pub fn run(load: Load, bench: &'static Bench) {
    let runtime = runtime();
    match load {
        Load::Read => runtime.block_on(each(READ_DEPTH, |file| read(file, bench), bench)),
        Load::Append => runtime.block_on(each(APPEND_DEPTH, |file| append(file, bench), bench)),
        Load::Serve => runtime.block_on(serve(bench)),
    }
}

fn runtime() -> Runtime {
    let mut ring = ProactorBuilder::new();
    ring.capacity(2048).cqsize(16 * 1024).single_issuer(true).defer_taskrun(true);
    RuntimeBuilder::new().with_proactor(ring).build().expect("a ring")
}

async fn each<F: Future<Output = ()> + 'static>(depth: usize, work: impl Fn(File) -> F, bench: &Bench) {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(direct_flag());
    let file = options.open(&bench.path).await.expect("the file was made for this");
    let tasks: Vec<_> = (0..depth).map(|_| compio::runtime::spawn(work(file.clone()))).collect();
    for task in tasks {
        task.await.expect("a task of the load");
    }
}

async fn read(file: File, bench: &Bench) {
    let (mut memory, range) = aligned(READ_LEN);
    loop {
        let BufResult(result, slice) = file.read_at(memory.slice(range.clone()), bench.read_place()).await;
        assert_eq!(result.expect("read"), READ_LEN);
        memory = slice.into_inner();
        bench.meter.count();
    }
}

async fn append(file: File, bench: &Bench) {
    let (mut memory, range) = aligned(APPEND_LEN);
    loop {
        let slice = memory.slice(range.clone());
        let BufResult(result, slice) = (&file).write_at(slice, bench.append_place()).await;
        assert_eq!(result.expect("written"), APPEND_LEN);
        memory = slice.into_inner();
        if bench.is_flush_due() {
            file.sync_data().await.expect("flushed");
        }
        bench.meter.count();
    }
}

async fn serve(bench: &'static Bench) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    announce(listener.local_addr().expect("bound"));
    let mut tasks = Vec::new();
    for _ in 0..CONNECTION_COUNT {
        let (stream, _) = listener.accept().await.expect("the client connects");
        stream.set_nodelay(true).expect("set");
        tasks.push(compio::runtime::spawn(answer(stream, bench)));
    }
    for task in tasks {
        task.await.expect("a task of the load");
    }
}

async fn answer(mut stream: TcpStream, bench: &Bench) {
    let (mut request, mut response) = (vec![0; REQUEST_LEN], vec![b'a'; RESPONSE_LEN]);
    loop {
        let BufResult(result, buffer) = stream.read(request).await;
        assert_eq!(result.expect("received"), REQUEST_LEN);
        request = buffer;
        let BufResult(result, buffer) = stream.write_all(response).await;
        result.expect("sent");
        response = buffer;
        bench.meter.count();
    }
}
