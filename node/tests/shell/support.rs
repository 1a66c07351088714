//! A node in this process with a service that does as it is told, and clients for it.
//!
//! A request is a line: `echo N` (then N bytes, which come back), `send N` (N bytes of a pattern), `sleep MS` (as a request
//! in flight), `hang MS` (the thread itself sleeps), `core` (which one serves), `cpus` (where it may run), `bye`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use node::boot::Boot;
use node::config::{Auto, ByteSize, Config};
use node::metrics::{Family, Kind, OperationIndex, Sample};
use node::server::{ServerError, Stopper};
use node::signals::Request;
use node::{CoreContext, CoreId, Patience, Server, Service, Stream};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tempfile::TempDir;

/// The service of these tests.
pub struct Obedient {
    context: CoreContext<Obedient>,
}

static ECHOES: Family = Family { name: "test_echoes_total", help: "Echoes.", kind: Kind::Counter };

impl Service for Obedient {
    const OPERATIONS: &'static [&'static str] = &["Echo", "Other"];

    async fn serve_connection(self: Rc<Self>, mut stream: Stream) {
        loop {
            stream.allow(Patience::Idle);
            let line = match line(&mut stream).await {
                Ok(Some(line)) => line,
                Ok(None) => return stream.close().await,
                Err(error) => {
                    let _ = stream.write_all(format!("error {:?}\n", error.kind()).as_bytes()).await;
                    return stream.close().await;
                }
            };
            stream.allow(Patience::Body);
            let (name, number) = line.split_once(' ').unwrap_or((&line, "0"));
            let Ok(()) = self.obey(&mut stream, name, number.parse().unwrap_or(0)).await else { return };
            let operation = OperationIndex(usize::from(name != "echo"));
            self.context.core_metrics().count_request(operation, 200, Duration::from_micros(120));
            if name == "bye" || stream.is_ending() {
                return stream.close().await;
            }
            stream.shrink();
        }
    }

    fn samples(&self) -> Vec<Sample> {
        let value = self.context.core_metrics().requests(OperationIndex(0), 2) as f64;
        vec![Sample { family: &ECHOES, labels: vec![("core", self.context.core.to_string())], value }]
    }
}

impl Obedient {
    pub fn new(context: CoreContext<Obedient>) -> Self {
        Obedient { context }
    }

    pub fn core(&self) -> CoreId {
        self.context.core
    }

    async fn obey(&self, stream: &mut Stream, name: &str, number: usize) -> std::io::Result<()> {
        let answer = match name {
            "echo" => return echo(stream, number).await,
            "send" => return stream.write_all(&pattern(number)).await,
            "sleep" => {
                compio::time::sleep(Duration::from_millis(number as u64)).await;
                "slept".to_owned()
            }
            "hang" => {
                thread::sleep(Duration::from_millis(number as u64));
                "hung".to_owned()
            }
            "core" => self.context.core.to_string(),
            "cpus" => allowed_cpus(),
            _ => name.to_owned(),
        };
        stream.buffer(answer.as_bytes())?;
        stream.write_all(b"\n").await
    }
}

async fn echo(stream: &mut Stream, mut rest: usize) -> std::io::Result<()> {
    while rest > 0 {
        if stream.plaintext().is_empty() && stream.fill().await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let piece = stream.plaintext()[..rest.min(stream.plaintext().len())].to_vec();
        stream.consume(piece.len());
        rest -= piece.len();
        stream.write_all(&piece).await?;
    }
    Ok(())
}

async fn line(stream: &mut Stream) -> std::io::Result<Option<String>> {
    loop {
        if let Some(end) = stream.plaintext().iter().position(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(&stream.plaintext()[..end]).into_owned();
            stream.consume(end + 1);
            return Ok(Some(line));
        }
        if stream.fill().await? == 0 {
            return Ok(None);
        }
    }
}

fn allowed_cpus() -> String {
    let set = rustix::thread::sched_getaffinity(None).expect("the kernel says");
    let cpus = (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu));
    cpus.map(|cpu| cpu.to_string()).collect::<Vec<_>>().join(",")
}

/// Bytes that show where they belong.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index % 251) as u8).collect()
}

/// A running node.
pub struct Node {
    _directory: TempDir,
    pub boot: Boot,
    pub address: SocketAddr,
    pub insecure: SocketAddr,
    pub admin: SocketAddr,
    pub stopper: Stopper,
    running: Option<JoinHandle<Result<(), ServerError>>>,
}

impl Node {
    /// One core, default limits.
    pub fn start() -> Node {
        Node::start_with(vec![None], |_| {})
    }

    /// A core per entry of `cpus`, and settings as `change` makes them.
    pub fn start_with(cpus: Vec<Option<usize>>, change: impl FnOnce(&mut Config)) -> Node {
        let directory = tempfile::tempdir().expect("a directory");
        let mut config = Config::default();
        config.node.data_dir = directory.path().join("data");
        config.node.listen = vec!["127.0.0.1:0".parse().expect("an address")];
        config.node.insecure_http = config.node.listen.clone();
        config.node.admin_listen = config.node.listen[0];
        config.store.device_size = Auto::Set(ByteSize(4 << 20));
        change(&mut config);
        let boot = Boot::prepare(&config).expect("a first start");
        let open = |context| async { Ok(Rc::new(Obedient::new(context))) };
        let server = Server::start_on(&config, &boot, cpus, open).expect("the node starts");
        let (address, insecure) = (server.addresses[0], server.insecure_addresses[0]);
        let (admin, stopper) = (server.admin_address, server.stopper());
        let running = Some(thread::spawn(move || server.run()));
        Node { _directory: directory, boot, address, insecure, admin, stopper, running }
    }

    /// Asks the node to end, without waiting.
    pub fn terminate(&self) {
        assert!(self.stopper.request(Request::Terminate));
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> Result<(), ServerError> {
        self.running.take().expect("waited for once").join().expect("the supervisor does not panic")
    }

    /// A TLS client's configuration that trusts the node's CA.
    pub fn client_config(&self) -> ClientConfig {
        client_config(&self.boot, &[&rustls::version::TLS13, &rustls::version::TLS12])
    }

    /// A connection with TLS, its handshake done.
    pub fn connect(&self) -> Client {
        connect(self.address, self.client_config().into()).expect("the handshake succeeds")
    }

    /// A connection without TLS.
    pub fn connect_plain(&self) -> TcpStream {
        tcp(self.insecure)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            // Twice: at once.
            self.stopper.request(Request::Terminate);
            self.stopper.request(Request::Terminate);
            let _ = running.join();
        }
    }
}

pub type Client = StreamOwned<ClientConnection, TcpStream>;

pub fn client_config(boot: &Boot, versions: &[&'static rustls::SupportedProtocolVersion]) -> ClientConfig {
    let ca = boot.local_certificate.as_ref().expect("it is the generated one").ca_path();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).expect("a certificate")).expect("a CA");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

pub fn tcp(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).expect("the node listens");
    // A test that waits longer has failed.
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    socket.set_nodelay(true).expect("set");
    socket
}

pub fn connect(address: SocketAddr, config: Arc<ClientConfig>) -> std::io::Result<Client> {
    let name = ServerName::try_from("localhost").expect("a name");
    let connection = ClientConnection::new(config, name).expect("a client");
    let mut client = StreamOwned::new(connection, tcp(address));
    client.conn.complete_io(&mut client.sock)?;
    Ok(client)
}

/// Sends a line and reads one.
pub fn ask(stream: &mut (impl Read + Write), line: &str) -> String {
    writeln!(stream, "{line}").expect("sent");
    stream.flush().expect("sent");
    read_line(stream)
}

pub fn read_line(stream: &mut impl Read) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte).expect("a line comes") == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    String::from_utf8(line).expect("text")
}

/// The rest of what the node sends.
pub fn read_to_end(stream: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).map(|_| rest)
}

/// The answer of the admin listener: status and body.
pub fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut socket = tcp(address);
    write!(socket, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").expect("sent");
    let text = String::from_utf8(read_to_end(&mut socket).expect("an answer")).expect("text");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    (head[9..12].parse().expect("a status"), body.to_owned())
}

/// The value of a metric line that begins with `name`.
pub fn metric(address: SocketAddr, name: &str) -> f64 {
    let (status, text) = get(address, "/metrics");
    assert_eq!(status, 200);
    let line = text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
    line.unwrap_or_else(|| panic!("{text} lacks {name}"))
        .rsplit(' ')
        .next()
        .expect("a value")
        .parse()
        .expect("a number")
}
