//! A hyper server that reads the body and answers 150 constant bytes: the floor that serving costs are told against.

use std::convert::Infallible;
use std::process::ExitCode;

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use plumbline_service::config::{Common, Reader};
use plumbline_service::{Listener, Part, ServeOptions, run};

/// As long as the answer of a small classifier.
const ANSWER: &[u8] = br#"{"model_name":"constant","outputs":[{"name":"probability","datatype":"FP32","shape":[1,2],"data":[0.7310585975646973,0.2689414322376251]}],"id":"1234"}"#;

fn main() -> ExitCode {
    let part = Part {
        name: "constant-server",
        version: env!("CARGO_PKG_VERSION"),
    };
    let settings = Common::settings("127.0.0.1:8079", "127.0.0.1:9909");
    let read = |reader: &mut Reader| {
        let common = Common::read(reader);
        (common.clone(), common)
    };
    run(
        part,
        &[&settings],
        std::env::args().skip(1),
        read,
        async |common, process| {
            let listener = Listener::bind(common.listen)?;
            listener
                .serve(
                    tower::service_fn(answer),
                    ServeOptions::default(),
                    process.shutdown(),
                )
                .await;
            Ok(())
        },
    )
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    // A client that goes away within its body gets no answer either way.
    let _body = request.into_body().collect().await;
    let mut response = Response::new(Full::new(Bytes::from_static(ANSWER)));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/json"),
    );
    Ok(response)
}
