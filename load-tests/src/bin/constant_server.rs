//! A hyper server on one thread that reads the body and answers constant bytes, over HTTP/1.1, HTTP/2 and gRPC: the
//! floor that serving costs are told against. It uses nothing of Plumbline's own, so that the floor stays where it is.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use plumbline_load_tests::{constant, exit};

/// Answers everything with the same bytes.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where to listen; port 0 picks a free one, which the line on standard error tells.
    #[arg(long, default_value = "127.0.0.1:8079")]
    listen: SocketAddr,
    /// Taken for the sake of those who start it as one of Plumbline's servers; it has no such port.
    #[arg(long, hide = true)]
    admin_listen: Option<SocketAddr>,
    /// As above: the line is JSON in any case.
    #[arg(long, hide = true)]
    log_format: Option<String>,
}

fn main() -> ExitCode {
    exit::code("constant-server", serve(Arguments::parse().listen).map(|()| true))
}

fn serve(address: SocketAddr) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address}"))?;
        let address = listener.local_addr()?;
        writeln!(
            std::io::stderr(),
            r#"{{"message":"listening","port":"data","address":"{address}"}}"#
        )?;
        let http = auto::Builder::new(TokioExecutor::new());
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let http = http.clone();
            tokio::spawn(async move {
                let _client_gone = http
                    .serve_connection(TokioIo::new(stream), hyper::service::service_fn(constant::answer))
                    .await;
            });
        }
    })
}
