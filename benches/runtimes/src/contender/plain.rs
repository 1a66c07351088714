//! No runtime: a ring and a loop. What the kernel takes, so what a runtime can be measured by.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::os::fd::AsRawFd;

use io_uring::{opcode, squeue, types};

use super::announce;
use crate::load::{
    APPEND_DEPTH, APPEND_LEN, Bench, CONNECTION_COUNT, Load, READ_DEPTH, READ_LEN, REQUEST_LEN, RESPONSE_LEN,
    aligned,
};
use crate::ring::Ring;

/// The entry that flushes; the others are told by their slot.
const FLUSH: u64 = u64::MAX;

/// IORING_RECVSEND_POLL_FIRST: nothing has come yet, so don't try before it has.
const POLL_FIRST: u16 = 1;

/// MSG_WAITALL | MSG_NOSIGNAL of send(2).
const SEND_FLAGS: i32 = 0x100 | 0x4000;

static RESPONSE: [u8; RESPONSE_LEN] = [b'a'; RESPONSE_LEN];

/// Runs until the meter ends the process.
pub fn run(load: Load, bench: &'static Bench) {
    match load {
        Load::Read => read(bench),
        Load::Append => append(bench),
        Load::Serve => serve(bench),
    }
}

fn read(bench: &Bench) {
    let file = bench.open();
    let mut slots: Vec<_> = (0..READ_DEPTH).map(|_| aligned(READ_LEN)).collect();
    let mut ring = Ring::new().expect("a ring");
    for slot in 0..READ_DEPTH {
        push_read(&mut ring, &file, &mut slots, slot, bench);
    }
    let mut completions = Vec::new();
    loop {
        ring.wait(&mut completions).expect("completions");
        for &(slot, result) in &completions {
            assert_eq!(result, READ_LEN as i32);
            push_read(&mut ring, &file, &mut slots, slot as usize, bench);
            bench.meter.count();
        }
    }
}

type Slot = (Vec<u8>, Range<usize>);

fn push_read(ring: &mut Ring, file: &File, slots: &mut [Slot], slot: usize, bench: &Bench) {
    let (memory, range) = &mut slots[slot];
    let bytes = memory[range.clone()].as_mut_ptr();
    let entry = opcode::Read::new(types::Fd(file.as_raw_fd()), bytes, READ_LEN as u32);
    let entry = entry.offset(bench.read_place()).build().user_data(slot as u64);
    // SAFETY: a slot has one read in flight, and lives as long as the process.
    unsafe { ring.push(&entry) };
}

fn append(bench: &Bench) {
    let file = bench.open();
    let slots: Vec<_> = (0..APPEND_DEPTH).map(|_| aligned(APPEND_LEN)).collect();
    let mut ring = Ring::new().expect("a ring");
    for slot in 0..APPEND_DEPTH {
        push_append(&mut ring, &file, &slots, slot, bench);
    }
    let (mut completions, mut flushing) = (Vec::new(), Vec::new());
    loop {
        ring.wait(&mut completions).expect("completions");
        for &(of, result) in &completions {
            let slot = if of == FLUSH {
                assert_eq!(result, 0);
                flushing.remove(0)
            } else {
                assert_eq!(result, APPEND_LEN as i32);
                if bench.is_flush_due() {
                    // As in the other contenders, who flushes appends again when that is done; the others go on.
                    flushing.push(of as usize);
                    push_flush(&mut ring, &file);
                    continue;
                }
                of as usize
            };
            push_append(&mut ring, &file, &slots, slot, bench);
            bench.meter.count();
        }
    }
}

fn push_append(ring: &mut Ring, file: &File, slots: &[Slot], slot: usize, bench: &Bench) {
    let (memory, range) = &slots[slot];
    let bytes = memory[range.clone()].as_ptr();
    let entry = opcode::Write::new(types::Fd(file.as_raw_fd()), bytes, APPEND_LEN as u32);
    let entry = entry.offset(bench.append_place()).build().user_data(slot as u64);
    // SAFETY: nobody writes to a slot, and it lives as long as the process.
    unsafe { ring.push(&entry) };
}

fn push_flush(ring: &mut Ring, file: &File) {
    let entry = opcode::Fsync::new(types::Fd(file.as_raw_fd())).flags(types::FsyncFlags::DATASYNC);
    // SAFETY: it points to nothing.
    unsafe { ring.push(&entry.build().user_data(FLUSH)) };
}

fn serve(bench: &Bench) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    announce(listener.local_addr().expect("bound"));
    let mut ring = Ring::new().expect("a ring");
    let mut requests = vec![[0; REQUEST_LEN]; CONNECTION_COUNT];
    let mut sockets = Vec::new();
    for request in &mut requests {
        let (socket, _) = listener.accept().expect("the client connects");
        socket.set_nodelay(true).expect("set");
        push_receive(&mut ring, &socket, request, sockets.len());
        sockets.push(socket);
    }
    let mut completions = Vec::new();
    loop {
        ring.wait(&mut completions).expect("completions");
        for &(of, result) in &completions {
            let index = of as usize;
            assert_eq!(result, REQUEST_LEN as i32);
            push_send(&mut ring, &sockets[index]);
            push_receive(&mut ring, &sockets[index], &mut requests[index], index);
            bench.meter.count();
        }
    }
}

fn push_receive(ring: &mut Ring, socket: &TcpStream, request: &mut [u8; REQUEST_LEN], index: usize) {
    let entry = opcode::Recv::new(types::Fd(socket.as_raw_fd()), request.as_mut_ptr(), REQUEST_LEN as u32)
        .ioprio(POLL_FIRST);
    // SAFETY: a connection's request is asked for once at a time, and its memory lives as long as the process.
    unsafe { ring.push(&entry.build().user_data(index as u64)) };
}

/// Sends the response; that completes only when it fails, and the assertion on a request's length sees it.
fn push_send(ring: &mut Ring, socket: &TcpStream) {
    let entry = opcode::Send::new(types::Fd(socket.as_raw_fd()), RESPONSE.as_ptr(), RESPONSE_LEN as u32);
    let entry = entry.flags(SEND_FLAGS).build().user_data(u64::MAX).flags(squeue::Flags::SKIP_SUCCESS);
    // SAFETY: the response is static.
    unsafe { ring.push(&entry) };
}
