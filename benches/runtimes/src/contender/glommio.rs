//! glommio, with the memory for I/O that it brings.

use std::rc::Rc;

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::io::{DmaFile, OpenOptions};
use glommio::net::{TcpListener, TcpStream};
use glommio::{LocalExecutorBuilder, Placement};

use super::announce;
use crate::load::{
    APPEND_DEPTH, APPEND_LEN, Bench, CONNECTION_COUNT, Load, READ_DEPTH, READ_LEN, REQUEST_LEN, RESPONSE_LEN,
    fill,
};

/// Runs until the meter ends the process, which is pinned already.
pub fn run(load: Load, bench: &'static Bench) {
    let executor = LocalExecutorBuilder::new(Placement::Unbound).make().expect("rings");
    match load {
        Load::Read => executor.run(each(READ_DEPTH, |file| read(file, bench), bench)),
        Load::Append => executor.run(each(APPEND_DEPTH, |file| append(file, bench), bench)),
        Load::Serve => executor.run(serve(bench)),
    }
}

async fn each<F: Future<Output = ()> + 'static>(
    depth: usize,
    work: impl Fn(Rc<DmaFile>) -> F,
    bench: &Bench,
) {
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).dma_open(&bench.path).await;
    let file = Rc::new(file.expect("the file was made for this"));
    let tasks: Vec<_> = (0..depth).map(|_| glommio::spawn_local(work(file.clone()))).collect();
    for task in tasks {
        task.await;
    }
}

async fn read(file: Rc<DmaFile>, bench: &Bench) {
    loop {
        let bytes = file.read_at_aligned(bench.read_place(), READ_LEN).await.expect("read");
        assert_eq!(bytes.len(), READ_LEN);
        drop(bytes);
        bench.meter.count();
    }
}

async fn append(file: Rc<DmaFile>, bench: &Bench) {
    let mut buffer = file.alloc_dma_buffer(APPEND_LEN);
    fill(buffer.as_bytes_mut());
    let buffer = Rc::new(buffer);
    loop {
        let written = file.write_rc_at(buffer.clone(), bench.append_place()).await.expect("written");
        assert_eq!(written, APPEND_LEN);
        if bench.is_flush_due() {
            file.fdatasync().await.expect("flushed");
        }
        bench.meter.count();
    }
}

async fn serve(bench: &'static Bench) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    announce(listener.local_addr().expect("bound"));
    let mut tasks = Vec::new();
    for _ in 0..CONNECTION_COUNT {
        let stream = listener.accept().await.expect("the client connects");
        stream.set_nodelay(true).expect("set");
        tasks.push(glommio::spawn_local(answer(stream, bench)));
    }
    for task in tasks {
        task.await;
    }
}

async fn answer(mut stream: TcpStream, bench: &Bench) {
    let (mut request, response) = ([0; REQUEST_LEN], [b'a'; RESPONSE_LEN]);
    loop {
        assert_eq!(stream.read(&mut request).await.expect("received"), REQUEST_LEN);
        stream.write_all(&response).await.expect("sent");
        bench.meter.count();
    }
}
