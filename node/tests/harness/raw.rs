//! A client that sends any bytes over TLS and reads HTTP answers: for requests that no SDK would make.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::sign::{self, EMPTY_SHA256, Signer};
use super::{Credentials, Node};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection to a node.
pub struct Connection {
    tls: BufReader<StreamOwned<ClientConnection, TcpStream>>,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// Lowercase names and values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The code of the error document; empty when there is none.
    pub fn code(&self) -> String {
        self.element("Code").unwrap_or_default()
    }

    /// The text of the first element of that name.
    pub fn element(&self, name: &str) -> Option<String> {
        let text = self.text();
        let rest = text.split_once(&format!("<{name}>"))?.1;
        Some(rest.split_once(&format!("</{name}>"))?.0.to_owned())
    }

    /// Status and code together.
    pub fn verdict(&self) -> (u16, String) {
        (self.status, self.code())
    }
}

impl Connection {
    /// Connects to a node, trusting its authority.
    pub fn open(node: &Node) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&node.ca()).expect("a certificate")).expect("an authority");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions that the provider has")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = "127.0.0.1".try_into().expect("an address");
        let client = ClientConnection::new(Arc::new(config), name).expect("a client");
        let socket = TcpStream::connect(node.endpoint()).expect("connecting");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        Connection { tls: BufReader::new(StreamOwned::new(client, socket)) }
    }

    /// Sends bytes.
    pub fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).expect("sending");
    }

    /// Sends bytes to a node that may not want them.
    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.tls.get_mut().write_all(bytes)?;
        self.tls.get_mut().flush()
    }

    /// Says that no more will be sent, and goes on reading.
    pub fn finish_sending(&mut self) {
        let stream = self.tls.get_mut();
        stream.conn.send_close_notify();
        stream.flush().expect("sending the goodbye");
        stream.sock.shutdown(std::net::Shutdown::Write).expect("ending the sending side");
    }

    /// Reads an answer to a request of that method.
    pub fn receive(&mut self, method: &str) -> Response {
        self.try_receive(method).expect("an answer")
    }

    /// Reads an answer, and pauses after each 64 KiB of its body.
    pub fn receive_slowly(&mut self, method: &str, pause: impl Fn()) -> Response {
        self.try_receive_slowly(method, pause).expect("an answer")
    }

    /// Reads an answer, if one comes.
    pub fn try_receive(&mut self, method: &str) -> io::Result<Response> {
        self.try_receive_slowly(method, || ())
    }

    fn try_receive_slowly(&mut self, method: &str, pause: impl Fn()) -> io::Result<Response> {
        let status_line = self.line()?;
        let status = status_line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or(io::ErrorKind::InvalidData)?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut response = Response { status, headers, body: Vec::new() };
        let len = response.header("content-length").map_or(0, |len| len.parse().expect("a length"));
        if method != "HEAD" && status != 304 {
            response.body.resize(len, 0);
            for piece in response.body.chunks_mut(64 * 1024) {
                self.tls.read_exact(piece)?;
                pause();
            }
        }
        Ok(response)
    }

    /// Waits for the node to end the connection; whether it does so without sending more.
    pub fn is_at_end(&mut self) -> bool {
        match self.tls.read(&mut [0]) {
            Ok(count) => count == 0,
            // Without the goodbye of TLS it is an end, too; but not when we are who loses patience.
            Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.tls.read_line(&mut line)?;
        if !line.ends_with("\r\n") {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        line.truncate(line.len() - 2);
        Ok(line)
    }
}

/// A request to be signed and sent.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: String,
    /// The path on the wire.
    pub path: String,
    /// The query on the wire.
    pub query: String,
    /// Headers beside those of the signature; lowercase names.
    pub headers: Vec<(String, String)>,
    /// What follows the head.
    pub body: Vec<u8>,
    /// `x-amz-content-sha256`.
    pub payload: String,
    /// What the client's clock is off by.
    pub skew_seconds: i64,
    /// `Host`, when it is not the address.
    pub host: Option<String>,
}

impl Request {
    /// A request without a body.
    pub fn new(method: &str, path_and_query: &str) -> Self {
        let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
        Request {
            method: method.into(),
            path: path.into(),
            query: query.into(),
            headers: Vec::new(),
            body: Vec::new(),
            payload: EMPTY_SHA256.into(),
            skew_seconds: 0,
            host: None,
        }
    }

    /// With that body, its length and its hash.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self.payload = sign::sha256(&self.body);
        let len = self.body.len().to_string();
        self.header("content-length", &len)
    }

    /// With that header, in place of one of that name.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self.headers.push((name.into(), value.into()));
        self
    }

    /// With that value of `x-amz-content-sha256`.
    pub fn payload(mut self, payload: &str) -> Self {
        self.payload = payload.into();
        self
    }

    /// For that host.
    pub fn host(mut self, host: &str) -> Self {
        self.host = Some(host.into());
        self
    }

    /// From a client whose clock is off.
    pub fn skewed(mut self, seconds: i64) -> Self {
        self.skew_seconds = seconds;
        self
    }

    /// The head on the wire, signed, and the signature.
    pub fn head(&self, node: &Node, credentials: &Credentials) -> (Vec<u8>, String) {
        let signer = Signer::at(credentials, sign::now() + self.skew_seconds);
        self.head_by(node, &signer)
    }

    /// The head on the wire, signed by that signer, and the signature.
    pub fn head_by(&self, node: &Node, signer: &Signer) -> (Vec<u8>, String) {
        let mut headers = self.headers.clone();
        headers.push(("host".into(), self.host.clone().unwrap_or_else(|| node.endpoint().to_string())));
        headers.push(("x-amz-date".into(), signer.date.clone()));
        headers.push(("x-amz-content-sha256".into(), self.payload.clone()));
        let signature = signer.request(&self.method, &self.path, &self.query, &headers, &self.payload);
        let (credential, names) = (signer.credential(), sign::signed_headers(&headers));
        let authorization =
            format!("AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={signature}");
        headers.push(("authorization".into(), authorization));
        let target =
            if self.query.is_empty() { self.path.clone() } else { format!("{}?{}", self.path, self.query) };
        let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        (format!("{} {target} HTTP/1.1\r\n{lines}\r\n", self.method).into_bytes(), signature)
    }

    /// Sends it on a connection of its own and reads the answer.
    pub fn run(&self, node: &Node) -> Response {
        self.run_on(node, &mut Connection::open(node))
    }

    /// All of it on the wire, signed.
    pub fn signed(&self, node: &Node) -> Vec<u8> {
        let (mut wire, _) = self.head(node, &node.credentials());
        wire.extend_from_slice(&self.body);
        wire
    }

    /// Sends it and reads the answer.
    pub fn run_on(&self, node: &Node, connection: &mut Connection) -> Response {
        let wire = self.signed(node);
        // A node that refuses early may close before all is sent; the answer is there all the same.
        let _ = connection.try_send(&wire);
        connection.receive(&self.method)
    }

    /// Sends it, expecting success.
    pub fn succeed(&self, node: &Node) -> Response {
        let response = self.run(node);
        assert!(
            response.status < 300,
            "{} {}: {} {}",
            self.method,
            self.path,
            response.status,
            response.text()
        );
        response
    }
}
