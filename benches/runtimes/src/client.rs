//! The client of the TCP load: 64 connections on a bare ring, each with one request at a time.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use io_uring::{opcode, squeue, types};
use rustix::io::Errno;

use crate::load::{CONNECTION_COUNT, REQUEST_LEN, RESPONSE_LEN};
use crate::meter::thread_cpu;
use crate::ring::Ring;

static REQUEST: [u8; REQUEST_LEN] = [b'r'; REQUEST_LEN];

/// MSG_WAITALL of recv(2): complete when the response is.
const WAIT_ALL: i32 = 0x100;

/// MSG_NOSIGNAL of send(2).
const NO_SIGNAL: i32 = 0x4000;

/// The entry that sends; it completes only when it fails.
const SEND: u64 = u64::MAX;

struct Connection {
    socket: TcpStream,
    response: Vec<u8>,
}

/// Keeps a server busy until it ends; the part of that time that this thread was on a processor. When it is near 1, the client was what limited the rate.
pub fn run(server: SocketAddr) -> io::Result<f64> {
    let mut connections = Vec::new();
    for _ in 0..CONNECTION_COUNT {
        let socket = TcpStream::connect(server)?;
        socket.set_nodelay(true)?;
        connections.push(Connection { socket, response: vec![0; RESPONSE_LEN] });
    }
    let mut ring = Ring::new()?;
    let (began, cpu) = (Instant::now(), thread_cpu());
    for (index, connection) in connections.iter_mut().enumerate() {
        ask(&mut ring, connection, index);
    }
    let mut completions = Vec::new();
    let mut open_count = connections.len();
    while open_count > 0 {
        ring.wait(&mut completions)?;
        for (of, result) in completions.iter().filter(|(of, _)| *of != SEND) {
            let index = *of as usize;
            match *result {
                n if n == RESPONSE_LEN as i32 => ask(&mut ring, &mut connections[index], index),
                // The server has ended, perhaps in the middle of a response.
                n if n >= 0 => open_count -= 1,
                n if n == -Errno::CONNRESET.raw_os_error() => open_count -= 1,
                n => return Err(io::Error::from_raw_os_error(-n)),
            }
        }
    }
    Ok(share(thread_cpu() - cpu, began.elapsed()))
}

fn share(cpu: Duration, elapsed: Duration) -> f64 {
    cpu.as_secs_f64() / elapsed.as_secs_f64()
}

fn ask(ring: &mut Ring, connection: &mut Connection, index: usize) {
    let socket = types::Fd(connection.socket.as_raw_fd());
    let send = opcode::Send::new(socket, REQUEST.as_ptr(), REQUEST_LEN as u32).flags(NO_SIGNAL).build();
    let send = send.user_data(SEND).flags(squeue::Flags::SKIP_SUCCESS);
    let response = connection.response.as_mut_ptr();
    let receive = opcode::Recv::new(socket, response, RESPONSE_LEN as u32).flags(WAIT_ALL).build();
    let receive = receive.user_data(index as u64);
    // SAFETY: the request is static.
    unsafe { ring.push(&send) };
    // SAFETY: the response's memory belongs to the connection, is asked for once at a time, and outlives the ring's last wait: `run` leaves early only
    // with an error, upon which the process ends.
    unsafe { ring.push(&receive) };
}
