//! Two servers that are restarted in turn, as a rolling update does it: SIGTERM first, and the endpoints learn of it later.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use plumbline_load_tests::background::Background;
use plumbline_load_tests::client::Targets;
use plumbline_load_tests::process::Server;

use crate::{Arguments, Outcome};

/// Beyond the endpoints' lag: the server waits this long before it refuses connections.
const MARGIN: Duration = Duration::from_secs(1);

/// The time that a server has to end after that.
const END: Duration = Duration::from_secs(30);

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Outcome> {
    let lag = Duration::try_from_secs_f64(arguments.lag)?;
    let model = arguments.names.first().context("a model")?;
    let path = arguments.models.join(model);
    let mut flags = vec![
        "--model".to_owned(),
        path.to_str().context("a path that is text")?.to_owned(),
        "--drain-delay".to_owned(),
        format!("{}ms", (lag + MARGIN).as_millis()),
    ];
    flags.extend(arguments.server_flags.iter().cloned());
    let start = || -> anyhow::Result<Server> {
        let program = arguments.programs.join("plumbline-model-server");
        let mut server = Server::start(&program, &flags, None)?;
        server.wait_until_ready("/v2/health/ready")?;
        Ok(server)
    };
    let mut servers = [start()?, start()?];
    let addresses = |servers: &[Server; 2]| servers.iter().map(Server::address).collect();
    let targets = Targets::new(addresses(&servers));
    let background = Background::start(&targets, model, arguments.rate, arguments.connections)?;

    let mut text = format!(
        "## {} restarts of two servers in turn, endpoints {lag:?} late\n\n",
        arguments.restarts
    );
    let mut good = true;
    for restart in 0..arguments.restarts {
        let (old, other) = (restart % 2, (restart + 1) % 2);
        let began = Instant::now();
        servers[old].terminate()?;
        // Requests still go to it, and over new connections, too.
        std::thread::sleep(lag);
        targets.set(vec![servers[other].address()]);
        let status = servers[old].wait(lag + MARGIN + END)?;
        let _never = writeln!(
            text,
            "restart {}: the old server ended after {:.1} s with {status}",
            restart + 1,
            began.elapsed().as_secs_f64()
        );
        ensure!(
            began.elapsed() >= lag,
            "the server ended before the endpoints could learn of it"
        );
        good &= status.success();
        servers[old] = start()?;
        targets.set(addresses(&servers));
    }
    let background = background.end()?;
    let _never = writeln!(text, "\n{}", background.text);
    Ok(Outcome {
        text,
        good: good && background.good,
    })
}
