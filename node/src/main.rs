//! `basalt-node`: parse, load, boot, run.

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;
use std::rc::Rc;

use clap::Parser;
use node::boot::{self, Boot};
use node::cli::Arguments;
use node::{CoreContext, Server, Service, Stream, logging, signals};

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("basalt-node: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let config = arguments.configuration()?;
    logging::start(&config.log)?;
    logging::abort_on_panic();
    let boot = Boot::prepare(&config)?;
    let server = Server::start(&config, &boot, |_context: CoreContext<NoService>| async { Ok(Rc::new(NoService)) })?;
    let stopper = server.stopper();
    signals::watch(move |request| stopper.request(request))?;
    if let Some((address, is_insecure)) = server.public_address() {
        // A closed standard output is no reason to end.
        let _ = write!(std::io::stdout(), "{}", boot::banner(&config, &boot, address, is_insecure));
    }
    server.run()?;
    Ok(())
}

/// Stands where the S3 service goes: says so, and closes.
struct NoService;

impl Service for NoService {
    const OPERATIONS: &'static [&'static str] = &[];

    async fn serve_connection(self: Rc<Self>, mut stream: Stream) {
        let body = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>NotImplemented</Code><Message>This build has no S3 service.</Message></Error>";
        let head = "HTTP/1.1 501 Not Implemented\r\nContent-Type: application/xml\r\nConnection: close\r\n";
        if stream.fill().await.is_ok_and(|count| count > 0) {
            let _ = stream.write_all(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).await;
        }
        stream.close().await;
    }
}
