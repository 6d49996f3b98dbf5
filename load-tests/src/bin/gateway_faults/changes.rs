//! What changes while requests go on. Not one may fail.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use plumbline_load_tests::background::{Background, Ended};
use plumbline_load_tests::client::{self, Http, Targets, Transport, Trust};
use plumbline_load_tests::load::Plan;
use plumbline_load_tests::process;
use plumbline_load_tests::proxy::Template;
use plumbline_load_tests::table::{figure, median};
use plumbline_testkit::kubernetes::{FakeApiServer, endpoint_slice, inference_service};
use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::Arguments;
use crate::cluster::{Cluster, Gateway, MODEL, PATIENCE, REPLICAS, until};
use crate::goal::{Found, Goal};

/// Connections of each of the two background loads.
const CONNECTIONS: usize = 16;

/// For how long a gateway that ends says so with its answers: each connection has several requests in that time.
const NOTICE: Duration = Duration::from_millis(500);

/// The same of a replica, whose connections are the gateway's; the servers of this repository take 5 s unless told otherwise.
const REPLICA_NOTICE: Duration = Duration::from_secs(2);

/// Between two kills: none is of the same replica within the 10 s in which the gateway believes in one death of an endpoint.
const BETWEEN_KILLS: Duration = Duration::from_millis(2_600);

/// Between two swaps or rotations, so that requests come in between.
const PAUSE: Duration = Duration::from_millis(20);

/// Between the end of a replica and its next start.
const DOWN: Duration = Duration::from_millis(50);

/// A new connection costs both sides a few hundred times what a request does.
const HANDSHAKES: f64 = 100.0;

/// The name of the gateway in its certificates.
const SERVER: &str = "gateway.example";

fn background(gateway: &Gateway, arguments: &Arguments) -> anyhow::Result<Background> {
    Background::start(&gateway.targets(), MODEL, arguments.rate, CONNECTIONS)
}

fn found(title: &str, what: String, ended: &Ended, how: &str) -> Found {
    Found {
        title: title.to_owned(),
        goals: vec![Goal::no_failure(what, ended.requests, ended.failed)],
        text: format!("{how}\n\n```text\n{}```\n", ended.text),
    }
}

/// Every swap gives the model the other half of the replicas.
pub(crate) fn swaps(cluster: &Cluster, arguments: &Arguments) -> anyhow::Result<Found> {
    let half = REPLICAS / 2;
    let halves = [cluster.endpoints(0..half), cluster.endpoints(half..REPLICAS)];
    // Only a signal makes it look.
    let text = |swap: usize| {
        format!(
            "config_poll = \"1h\"\n[[route]]\nmodel = \"{MODEL}\"\nendpoints = {}\n",
            halves[swap % 2]
        )
    };
    let gateway = cluster.gateway_with(&text(0), &[])?;
    let reloads = |outcome: &str| {
        gateway.counted(
            "plumbline_gateway_config_reloads_total",
            &[&format!("outcome=\"{outcome}\"")],
        )
    };
    let background = background(&gateway, arguments)?;
    let mut took = Vec::with_capacity(arguments.swaps);
    for swap in 1..=arguments.swaps {
        std::fs::write(gateway.file.file()?, text(swap))?;
        let began = Instant::now();
        gateway.server.signal("HUP")?;
        until("the file is read again", || {
            Ok(reloads("replaced")? >= swap as f64)
        })?;
        took.push(began.elapsed().as_secs_f64() * 1e3);
        std::thread::sleep(PAUSE);
    }
    ensure!(reloads("refused")? == 0.0, "a file was refused");
    let how = format!(
        "Each swap writes the file with the other two replicas as the model's endpoints, sends SIGHUP and waits until the gateway has counted it: \
         median {} ms, as seen from here.",
        figure(median(&took))
    );
    let what = format!("{} swaps of a route's endpoints", arguments.swaps);
    Ok(found("Routes are swapped", what, &background.end()?, &how))
}

/// Replicas end in turn, in order or by force, and come back at once.
pub(crate) fn backends(cluster: &mut Cluster, arguments: &Arguments) -> anyhow::Result<Found> {
    let restarts = arguments.backend_restarts;
    let mut all = Found {
        title: "Replicas are restarted".to_owned(),
        goals: Vec::new(),
        text: format!(
            "One replica after the other ends, is away for {DOWN:?} and comes back; the next one ends at once, whatever the gateway thinks of the \
             last. At SIGTERM a replica answers with `connection: close` for {REPLICA_NOTICE:?}, then refuses connections and ends what is open. At SIGKILL \
             it is gone in the middle of requests: only an idempotent route can have those sent again; {BETWEEN_KILLS:?} between two.\n"
        ),
    };
    for (how, more) in [("SIGTERM", ""), ("SIGKILL", "idempotent = true")] {
        let gateway = cluster.gateway(more)?;
        let background = background(&gateway, arguments)?;
        for restart in 0..restarts {
            let index = restart % REPLICAS;
            if more.is_empty() {
                cluster.replicas[index].terminate(REPLICA_NOTICE)?;
            } else {
                std::thread::sleep(BETWEEN_KILLS);
                cluster.replicas[index].kill();
            }
            std::thread::sleep(DOWN);
            cluster.restart(index)?;
        }
        let ended = background.end()?;
        let route = if more.is_empty() {
            "an ordinary"
        } else {
            "an idempotent"
        };
        all.goals.push(Goal {
            // An idle connection may close as it is taken for a POST, which is not sent again on such a route.
            exact: !more.is_empty(),
            ..Goal::no_failure(
                format!("{restarts} restarts of a replica by {how}, {route} route"),
                ended.requests,
                ended.failed,
            )
        });
        write!(all.text, "\n{how}:\n\n```text\n{}```\n", ended.text)?;
    }
    Ok(all)
}

/// Each process takes over from the one before.
pub(crate) fn gateways(cluster: &Cluster, arguments: &Arguments) -> anyhow::Result<Found> {
    let directory = tempfile::tempdir()?;
    let socket = directory.path().join("gateway.sock");
    let handover = format!("--handover={}", socket.display());
    let notice = format!("{}ms", NOTICE.as_millis());
    let flags = [handover.as_str(), "--drain-delay", notice.as_str()];
    let file = format!(
        "[[route]]\nmodel = \"{MODEL}\"\nendpoints = {}\n",
        cluster.endpoints(0..REPLICAS)
    );
    let mut gateway = cluster.gateway_with(&file, &flags)?;
    let address = gateway.server.address();
    let background = background(&gateway, arguments)?;
    let mut took = Vec::with_capacity(arguments.gateway_restarts);
    for _ in 0..arguments.gateway_restarts {
        let began = Instant::now();
        let next = cluster.gateway_of(&gateway.file, &flags)?;
        ensure!(next.address() == address, "the port was not taken over");
        let mut before = std::mem::replace(&mut gateway.server, next);
        let status = before.wait(PATIENCE)?;
        ensure!(
            status.success(),
            "a gateway ended with {status}:\n{}",
            before.log()
        );
        took.push(began.elapsed().as_secs_f64());
    }
    let how = format!(
        "A process with the same `--handover` takes the ports over, the one before answers with `connection: close` for {NOTICE:?} and ends; the next \
         one starts when it has. From a start to that end: median {} s.",
        figure(median(&took))
    );
    let what = format!(
        "{} restarts of the gateway by `--handover`",
        arguments.gateway_restarts
    );
    Ok(found("The gateway is restarted", what, &background.end()?, &how))
}

/// Every request comes over a connection of its own, whose certificate is checked.
pub(crate) fn certificates(cluster: &Cluster, arguments: &Arguments) -> anyhow::Result<Found> {
    let directory = tempfile::tempdir()?;
    let [roots, cert, key] = ["ca.crt", "tls.crt", "tls.key"].map(|name| directory.path().join(name));
    let authority = Authority::new()?;
    std::fs::write(&roots, &authority.pem)?;
    let first = authority.sign()?;
    replace(&cert, &first.cert.pem())?;
    replace(&key, &first.key)?;
    let address = format!("127.0.0.1:{}", process::free_port()?);
    let gateway = cluster.gateway_with(
        &format!(
            "tls_listen = \"{address}\"\ntls_cert = \"{}\"\ntls_key = \"{}\"\n[[route]]\nmodel = \"{MODEL}\"\nendpoints = {}\n",
            cert.display(),
            key.display(),
            cluster.endpoints(0..REPLICAS)
        ),
        &[],
    )?;
    let name = ServerName::try_from(SERVER)?;
    let mut config = client::tls_config(Trust::Roots(&roots), b"http/1.1")?;
    // Each handshake is a whole one, with the certificate.
    Arc::make_mut(&mut config).resumption = Resumption::disabled();
    let address = address.parse()?;
    let one = gateway.plan(HANDSHAKES, PATIENCE)?;
    let requests = one
        .requests
        .iter()
        .map(|request| request.clone().with_header("connection", "close"))
        .collect::<Result<Vec<_>, _>>()?;
    let plan = Plan {
        targets: Targets::new(vec![address]),
        transport: Transport {
            http: Http::One,
            tls: Some((Arc::clone(&config), name.clone())),
        },
        requests: requests.into(),
        connections: CONNECTIONS,
        ..one
    };
    let background = Background::of(vec![("V2 JSON under TLS", plan)]);
    let mut took = Vec::with_capacity(arguments.rotations);
    for _ in 0..arguments.rotations {
        let next = authority.sign()?;
        replace(&cert, &next.cert.pem())?;
        replace(&key, &next.key)?;
        let began = Instant::now();
        gateway.server.signal("HUP")?;
        until("the new certificate is served", || {
            let served = cluster.runtime.block_on(served(address, &config, &name))?;
            Ok(served == *next.cert.der())
        })?;
        took.push(began.elapsed().as_secs_f64() * 1e3);
        std::thread::sleep(PAUSE);
    }
    let how = format!(
        "Certificate and key are replaced one after the other, by renaming, then SIGHUP; the next rotation comes when a client is shown the new \
         certificate: median {} ms after the signal. {HANDSHAKES} requests a second, each over a new connection without resumption that believes \
         the authority alone.",
        figure(median(&took))
    );
    let what = format!("{} rotations of the certificate", arguments.rotations);
    Ok(found("Certificates are rotated", what, &background.end()?, &how))
}

/// The API server is there until the gateway is ready, and never again.
pub(crate) fn api_server(cluster: &Cluster, arguments: &Arguments) -> anyhow::Result<Found> {
    let server = cluster.runtime.block_on(FakeApiServer::start());
    let pods: Vec<String> = cluster
        .replicas
        .iter()
        .map(|replica| replica.address().ip().to_string())
        .collect();
    server.apply(inference_service(MODEL));
    server.apply(endpoint_slice(MODEL, &pods, cluster.replicas[0].address().port()));
    let kubeconfig = Template::of_text("kubeconfig", &server.kubeconfig())?;
    let flags = ["--kubernetes", "--kubeconfig", kubeconfig.file()?];
    let gateway = cluster.gateway_with("", &flags)?;
    cluster.runtime.block_on(server.go_away());
    let background = background(&gateway, arguments)?;
    let duration = Duration::try_from_secs_f64(arguments.seconds * 4.0)?;
    std::thread::sleep(duration);
    let ended = background.end()?;
    let stale = gateway.counted("plumbline_gateway_discovery_staleness_seconds", &[])?;
    ensure!(stale > 0.0, "the gateway is told of changes all the same");
    let how = format!(
        "The model and its pods come from an API server that goes away when the gateway is ready, and stays away for the {duration:?} of the load."
    );
    Ok(found(
        "The API server is gone",
        "the API server is gone all the while".to_owned(),
        &ended,
        &how,
    ))
}

/// An authority that clients believe.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> anyhow::Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        let issuer = Issuer::new(params, key);
        Ok(Self { pem, issuer })
    }

    fn sign(&self) -> anyhow::Result<Identity> {
        let params = CertificateParams::new([SERVER.to_owned()])?;
        let key = KeyPair::generate()?;
        Ok(Identity {
            cert: params.signed_by(&key, &self.issuer)?,
            key: key.serialize_pem(),
        })
    }
}

/// A certificate and its key, as PEM.
struct Identity {
    cert: Certificate,
    key: String,
}

/// The certificate that a new connection is shown.
async fn served(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
    name: &ServerName<'static>,
) -> anyhow::Result<CertificateDer<'static>> {
    let tcp = TcpStream::connect(address).await?;
    let stream = TlsConnector::from(Arc::clone(config))
        .connect(name.clone(), tcp)
        .await?;
    let (_, connection) = stream.get_ref();
    let chain = connection.peer_certificates().unwrap_or_default();
    Ok(chain.first().context("a certificate")?.clone())
}

/// Puts a file in the place of another, whole.
fn replace(file: &Path, text: &str) -> anyhow::Result<()> {
    let aside = file.with_extension("new");
    std::fs::write(&aside, text)?;
    std::fs::rename(&aside, file).with_context(|| format!("cannot replace {}", file.display()))
}
