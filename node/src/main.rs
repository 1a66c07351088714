//! `basalt-node`: parse, load, boot, run.

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use node::boot::{self, Boot};
use node::cli::Arguments;
use node::service::{CoreMemory, S3Config, S3Service};
use node::storage::Storage;
use node::{CoreContext, Server, heap, listener, logging, signals};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
    // Before anything large is made: what the kernel refuses is found out now.
    let addresses =
        config.node.listen.iter().chain(&config.node.insecure_http).chain([&config.node.admin_listen]);
    for address in addresses {
        drop(listener::bind_exclusive(address.0)?);
    }
    config.network.congestion_control()?;
    let boot = Boot::prepare(&config)?;
    let core_count = config.node.cores.resolve()?.len();
    settle_heap(config.limits.huge_heap_per_core.as_usize().saturating_mul(core_count));
    let storage = Storage::prepare(&config, &boot, core_count)?;
    let s3 = Arc::new(S3Config::new(&config));
    let memory = CoreMemory::new(&config.limits);
    let server = Server::start(&config, &boot, move |context: CoreContext<S3Service>| {
        S3Service::open(context, s3.clone(), storage.clone(), memory)
    })?;
    let stopper = server.stopper();
    signals::watch(move |request| stopper.request(request))?;
    if let Some((address, is_insecure)) = server.public_address() {
        // A closed standard output is no reason to end.
        let _ = write!(std::io::stdout(), "{}", boot::banner(&config, &boot, address, is_insecure));
    }
    server.run()?;
    Ok(())
}

/// Huge pages make the heap faster, and are not needed.
fn settle_heap(len: usize) {
    match heap::settle(len) {
        Ok(len) => tracing::debug!(len, "the heap begins with huge pages"),
        Err(error) => tracing::info!(%error, "the heap has small pages: the kernel gives no huge ones"),
    }
}
