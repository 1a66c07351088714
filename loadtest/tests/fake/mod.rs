//! A small S3 in this process, over TLS, with faults on demand. It shares no code with what it tests.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What goes wrong. A count of 0 is never.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// When this many requests have come, all answers wait.
    pub stall_at: u64,
    /// For so long.
    pub stall: Duration,
    /// Every so many GETs have a flipped bit.
    pub corrupt_every: u64,
    /// Every so many requests on objects are answered by 503 SlowDown.
    pub slow_down_every: u64,
    /// Every so many requests on objects are answered by a closed connection.
    pub close_every: u64,
    /// Overwrites are acknowledged and forgotten.
    pub forgets_overwrites: bool,
    /// Every so many PUTs are acknowledged and forgotten.
    pub forget_every: u64,
    /// Every so many answers end their connection properly.
    pub last_every: u64,
}

/// By bucket and key.
pub type Objects = Arc<Mutex<BTreeMap<(String, String), Arc<Vec<u8>>>>>;

#[derive(Default)]
struct State {
    faults: Faults,
    objects: Objects,
    parts: Mutex<BTreeMap<(String, u32), Vec<u8>>>,
    requests: AtomicU64,
    object_requests: AtomicU64,
    gets: AtomicU64,
    puts: AtomicU64,
    uploads: AtomicU64,
    stalled_until: Mutex<Option<Instant>>,
}

/// The server; it ends with the process.
pub struct FakeS3 {
    pub url: String,
    /// Directory with `ca.pem`.
    pub dir: tempfile::TempDir,
    /// For tests that look at what was stored.
    pub objects: Objects,
}

struct Request {
    method: String,
    bucket: String,
    key: String,
    query: BTreeMap<String, String>,
    body: Vec<u8>,
}

struct Answer {
    status: u16,
    headers: String,
    body: Arc<Vec<u8>>,
}

impl FakeS3 {
    pub fn start(faults: Faults) -> Self {
        let dir = tempfile::tempdir().expect("a directory for the certificate");
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]);
        let made = made.expect("a certificate");
        fs::write(dir.path().join("ca.pem"), made.cert.pem()).expect("a file in a new directory");
        let key =
            PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key that was just made");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("default versions")
            .with_no_client_auth()
            .with_single_cert(vec![CertificateDer::from(made.cert.der().to_vec())], key)
            .expect("a certificate and its key");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("https://{}", listener.local_addr().expect("a bound port"));
        let state = Arc::new(State { faults, ..State::default() });
        let (config, shared) = (Arc::new(config), Arc::clone(&state));
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let (config, state) = (Arc::clone(&config), Arc::clone(&shared));
                // A client that goes away is no fault of the server.
                thread::spawn(move || serve(socket, config, &state).ok());
            }
        });
        Self { url, dir, objects: Arc::clone(&state.objects) }
    }
}

fn serve(socket: TcpStream, config: Arc<ServerConfig>, state: &State) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let tls = ServerConnection::new(config).map_err(io::Error::other)?;
    let mut stream = BufReader::new(StreamOwned::new(tls, socket));
    let mut served = 0;
    while let Some(request) = read_request(&mut stream)? {
        wait_out_stall(state);
        let Some(answer) = state.answer(&request) else { return Ok(()) };
        served += 1;
        let is_last = state.faults.last_every > 0 && served == state.faults.last_every;
        write_answer(stream.get_mut(), &request.method, &answer, is_last)?;
        if is_last {
            return Ok(());
        }
    }
    Ok(())
}

fn wait_out_stall(state: &State) {
    let number = state.requests.fetch_add(1, Ordering::SeqCst) + 1;
    if state.faults.stall_at > 0 && number == state.faults.stall_at {
        *state.stalled_until.lock().unwrap() = Some(Instant::now() + state.faults.stall);
    }
    let until = *state.stalled_until.lock().unwrap();
    if let Some(rest) = until.and_then(|until| until.checked_duration_since(Instant::now())) {
        thread::sleep(rest);
    }
}

fn read_request(stream: &mut impl BufRead) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split(' ');
    let method = words.next().unwrap_or_default().to_owned();
    let (path, query) = words.next().unwrap_or_default().split_once('?').map_or_else(
        || (line.split(' ').nth(1).unwrap_or_default().to_owned(), String::new()),
        |(path, query)| (path.to_owned(), query.to_owned()),
    );
    let (mut len, mut is_signed) = (0, false);
    loop {
        let mut header = String::new();
        stream.read_line(&mut header)?;
        let header = header.trim_end().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length: ") {
            len = value.parse().map_err(io::Error::other)?;
        }
        is_signed |= header.starts_with("authorization: aws4-hmac-sha256 credential=ak/");
    }
    assert!(is_signed, "every request is signed");
    let mut body = vec![0; len];
    stream.read_exact(&mut body)?;
    let (bucket, key) =
        path.trim_start_matches('/').split_once('/').unwrap_or((path.trim_start_matches('/'), ""));
    let query = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (name.to_owned(), value.replace("%2F", "/"))
    });
    Ok(Some(Request { method, bucket: bucket.into(), key: key.into(), query: query.collect(), body }))
}

fn write_answer(stream: &mut impl Write, method: &str, answer: &Answer, is_last: bool) -> io::Result<()> {
    let close = if is_last { "Connection: close\r\n" } else { "" };
    let len = answer.body.len();
    let mut out =
        format!("HTTP/1.1 {} X\r\n{}{close}Content-Length: {len}\r\n\r\n", answer.status, answer.headers)
            .into_bytes();
    if method != "HEAD" {
        out.extend_from_slice(&answer.body);
    }
    stream.write_all(&out)?;
    stream.flush()
}

fn is_hit(every: u64, count: &AtomicU64) -> bool {
    every > 0 && (count.fetch_add(1, Ordering::SeqCst) + 1).is_multiple_of(every)
}

impl State {
    /// `None` closes the connection.
    fn answer(&self, request: &Request) -> Option<Answer> {
        if !request.key.is_empty() {
            if is_hit(self.faults.close_every, &self.object_requests) {
                return None;
            }
            if is_hit(self.faults.slow_down_every, &self.object_requests) {
                return Some(error(503, "SlowDown"));
            }
        }
        let place = (request.bucket.clone(), request.key.clone());
        let upload = request.query.get("uploadId").cloned();
        Some(match (request.method.as_str(), upload) {
            ("PUT", None) if request.key.is_empty() => xml(200, String::new()),
            ("GET", None) if request.query.contains_key("list-type") => self.list(request),
            ("POST", None) => {
                let id = self.uploads.fetch_add(1, Ordering::SeqCst);
                xml(
                    200,
                    format!(
                        "<InitiateMultipartUploadResult><UploadId>id/{id}</UploadId></InitiateMultipartUploadResult>"
                    ),
                )
            }
            ("PUT", Some(id)) => {
                let number = request.query["partNumber"].parse().expect("a part has a number");
                self.parts.lock().unwrap().insert((id, number), request.body.clone());
                Answer { status: 200, headers: format!("ETag: \"part-{number}\"\r\n"), body: Arc::default() }
            }
            ("POST", Some(id)) => self.complete(place, &id, &request.body),
            ("PUT", None) => self.put(place, request.body.clone()),
            ("GET", None) => self.get(&place),
            ("HEAD", None) => match self.objects.lock().unwrap().get(&place) {
                Some(body) => Answer { status: 200, headers: String::new(), body: Arc::clone(body) },
                None => Answer { status: 404, headers: String::new(), body: Arc::default() },
            },
            ("DELETE", None) => {
                self.objects.lock().unwrap().remove(&place);
                Answer { status: 204, headers: String::new(), body: Arc::default() }
            }
            _ => error(405, "MethodNotAllowed"),
        })
    }

    fn put(&self, place: (String, String), body: Vec<u8>) -> Answer {
        let mut objects = self.objects.lock().unwrap();
        let is_forgotten = is_hit(self.faults.forget_every, &self.puts)
            || (self.faults.forgets_overwrites && objects.contains_key(&place));
        if !is_forgotten {
            objects.insert(place, Arc::new(body));
        }
        Answer { status: 200, headers: "ETag: \"e\"\r\n".into(), body: Arc::default() }
    }

    fn get(&self, place: &(String, String)) -> Answer {
        let found = self.objects.lock().unwrap().get(place).cloned();
        let Some(body) = found else { return error(404, "NoSuchKey") };
        if !is_hit(self.faults.corrupt_every, &self.gets) {
            return Answer { status: 200, headers: String::new(), body };
        }
        let mut body = body.to_vec();
        let middle = body.len() / 2;
        body[middle] ^= 1;
        Answer { status: 200, headers: String::new(), body: Arc::new(body) }
    }

    fn complete(&self, place: (String, String), id: &str, list: &[u8]) -> Answer {
        let id = id.replace("%2F", "/");
        let count = String::from_utf8_lossy(list).matches("<PartNumber>").count() as u32;
        let mut parts = self.parts.lock().unwrap();
        let body =
            (1..=count).flat_map(|number| parts.remove(&(id.clone(), number)).expect("a part that was sent"));
        let body: Vec<u8> = body.collect();
        self.put(place, body);
        xml(200, "<CompleteMultipartUploadResult><ETag>\"e\"</ETag></CompleteMultipartUploadResult>".into())
    }

    fn list(&self, request: &Request) -> Answer {
        let page: usize = request.query["max-keys"].parse().expect("a number of keys");
        let after = &request.query["start-after"];
        let objects = self.objects.lock().unwrap();
        let keys = objects.keys().filter(|(bucket, key)| *bucket == request.bucket && key > after);
        let keys: Vec<String> =
            keys.take(page).map(|(_, key)| format!("<Contents><Key>{key}</Key></Contents>")).collect();
        xml(
            200,
            format!(
                "<ListBucketResult><KeyCount>{}</KeyCount>{}</ListBucketResult>",
                keys.len(),
                keys.concat()
            ),
        )
    }
}

fn xml(status: u16, text: String) -> Answer {
    Answer { status, headers: String::new(), body: Arc::new(text.into_bytes()) }
}

fn error(status: u16, code: &str) -> Answer {
    xml(status, format!("<Error><Code>{code}</Code><Message>as it was told to</Message></Error>"))
}
