//! Requests for the constant-answer server behind a sidecar, and the reference profile that matches them.

use std::path::Path;

use anyhow::Context as _;
use plumbline_drift::profile::{Datatype, Kind, Role};
use plumbline_drift::{Profile, SubjectBuilder};

use crate::client::Http;
use crate::inputs::{Input, InputSpec, Values};
use crate::request::{Encoding, Request};

/// Different bodies, sent in turn: as many different values does a feature have.
const BODIES: usize = 256;

/// Rows of the reference: the bodies' own over and over, so that what is sent has not drifted.
const REFERENCE_ROWS: usize = 2_048;

/// One kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Cell {
    /// 30 FP64 features as V2 JSON: about 0.9 KB with its head.
    SmallJson,
    /// The same over HTTP/2, for proxies that ask their model servers over HTTP/1.1.
    SmallJsonHttp2,
    /// 1,000 FP32 features as V2 JSON.
    WideJson,
    /// 1,000 FP32 features as a V2 binary tensor.
    WideBinary,
    /// 30 FP64 features over gRPC.
    SmallGrpc,
    /// 1,000 FP32 features over gRPC.
    WideGrpc,
}

impl Cell {
    /// Every kind.
    pub const ALL: [Self; 6] = [
        Self::SmallJson,
        Self::SmallJsonHttp2,
        Self::WideJson,
        Self::WideBinary,
        Self::SmallGrpc,
        Self::WideGrpc,
    ];

    /// As the tables have it.
    pub fn label(self) -> &'static str {
        match self {
            Cell::SmallJson => "HTTP/1.1, V2 JSON, 30 features",
            Cell::SmallJsonHttp2 => "HTTP/2 to HTTP/1.1, V2 JSON, 30 features",
            Cell::WideJson => "HTTP/1.1, V2 JSON, 1,000 features",
            Cell::WideBinary => "HTTP/1.1, V2 binary, 1,000 features",
            Cell::SmallGrpc => "gRPC, 30 features",
            Cell::WideGrpc => "gRPC, 1,000 features",
        }
    }

    /// The model that is asked; each cell has its own, and with it its own profile.
    pub fn model(self) -> &'static str {
        match self {
            Cell::SmallJson => "small-json",
            Cell::SmallJsonHttp2 => "small-json-http2",
            Cell::WideJson => "wide-json",
            Cell::WideBinary => "wide-binary",
            Cell::SmallGrpc => "small-grpc",
            Cell::WideGrpc => "wide-grpc",
        }
    }

    /// The version of HTTP that it is sent over.
    pub fn http(self) -> Http {
        match self {
            Cell::SmallJsonHttp2 | Cell::SmallGrpc | Cell::WideGrpc => Http::Two,
            Cell::SmallJson | Cell::WideJson | Cell::WideBinary => Http::One,
        }
    }

    fn encoding(self) -> Encoding {
        match self {
            Cell::SmallJson | Cell::SmallJsonHttp2 | Cell::WideJson => Encoding::V2,
            Cell::WideBinary => Encoding::V2Binary,
            Cell::SmallGrpc | Cell::WideGrpc => Encoding::Grpc,
        }
    }

    fn input(self) -> InputSpec {
        let (datatype, width) = match self {
            Cell::SmallJson | Cell::SmallJsonHttp2 | Cell::SmallGrpc => ("FP64", 30),
            Cell::WideJson | Cell::WideBinary | Cell::WideGrpc => ("FP32", 1_000),
        };
        InputSpec {
            name: "X".to_owned(),
            datatype: datatype.to_owned(),
            row: vec![width],
        }
    }
}

/// The requests of one cell, and the profile of the rows in them.
#[derive(Clone, Debug)]
pub struct Traffic {
    /// Their kind.
    pub cell: Cell,
    /// The requests.
    pub requests: Vec<Request>,
    rows: Vec<Input>,
    profile: Profile,
}

impl Traffic {
    /// The same requests each time.
    ///
    /// # Errors
    /// None, unless an encoding or the profile's rules have changed.
    pub fn new(cell: Cell) -> anyhow::Result<Self> {
        let spec = cell.input();
        let mut random = fastrand::Rng::with_seed(1);
        let rows: Vec<Input> = (0..BODIES)
            .map(|_| spec.random(1, &mut random))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            cell,
            requests: requests(cell, &rows)?,
            profile: profile(cell, &rows)?,
            rows,
        })
    }

    /// The same with one more header field in each request.
    ///
    /// # Errors
    /// When the value is not one.
    pub fn with_header(mut self, name: &'static str, value: &str) -> anyhow::Result<Self> {
        let requests = std::mem::take(&mut self.requests).into_iter();
        self.requests = requests
            .map(|request| request.with_header(name, value))
            .collect::<Result<_, _>>()?;
        Ok(self)
    }

    /// Requests whose values are all larger by `shift` than those of the profile.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn shifted(&self, shift: f64) -> anyhow::Result<Vec<Request>> {
        let mut rows = self.rows.clone();
        for row in &mut rows {
            match &mut row.values {
                Values::F64(values) => values.iter_mut().for_each(|value| *value += shift),
                Values::F32(values) => values.iter_mut().for_each(|value| *value += shift as f32),
                Values::Int(_) | Values::Bool(_) | Values::Text(_) => {}
            }
        }
        requests(self.cell, &rows)
    }

    /// Bytes of a request's body, on average.
    pub fn body_bytes(&self) -> usize {
        let all: usize = self.requests.iter().map(|request| request.body.len()).sum();
        all / self.requests.len()
    }

    /// Writes the profile into `directory` and gives the flag's value that names it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_profile(&self, directory: &Path) -> anyhow::Result<String> {
        let file = directory.join(format!("{}.json", self.cell.model()));
        std::fs::write(&file, self.profile.to_json())
            .with_context(|| format!("cannot write {}", file.display()))?;
        Ok(file.to_str().context("a path that is text")?.to_owned())
    }
}

fn requests(cell: Cell, rows: &[Input]) -> anyhow::Result<Vec<Request>> {
    rows.iter()
        .map(|row| {
            let mut request = Request::infer(cell.encoding(), cell.model(), std::slice::from_ref(row))?;
            if request.encoding == Encoding::V2Binary {
                // The constant answer is JSON.
                request.encoding = Encoding::V2;
            }
            Ok(request)
        })
        .collect()
}

/// The constant answers of `constant-server` are the outputs.
fn profile(cell: Cell, rows: &[Input]) -> anyhow::Result<Profile> {
    let datatype = match rows[0].values {
        Values::F64(_) => Datatype::Fp64,
        _ => Datatype::Fp32,
    };
    let value = |row: &Input, column: usize| match &row.values {
        Values::F64(values) => values[column],
        Values::F32(values) => f64::from(values[column]),
        Values::Int(_) | Values::Bool(_) | Values::Text(_) => f64::NAN,
    };
    let reference = || rows.iter().cycle().take(REFERENCE_ROWS);
    let features = (0..rows[0].values.len())
        .map(|column| {
            let mut feature =
                SubjectBuilder::new(&format!("x{column}"), "X", column as u32, datatype, Kind::Numeric);
            reference().for_each(|row| feature.push_number(value(row, column)));
            feature.finish()
        })
        .collect();
    let tensor = match cell.encoding() {
        Encoding::Grpc => "p",
        _ => "probability",
    };
    let outputs = [("yes", 0.731_058_6), ("no", 0.268_941_4)]
        .iter()
        .enumerate()
        .map(|(column, (class, probability))| {
            let output = SubjectBuilder::new(class, tensor, column as u32, Datatype::Fp32, Kind::Numeric);
            let mut output = output.role(Role::Probability, Some(class));
            reference().for_each(|_| output.push_number(*probability));
            output.finish()
        })
        .collect();
    let profile = Profile::new(cell.model(), "1", REFERENCE_ROWS as u64, features, outputs);
    profile.validate()?;
    Ok(profile)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell_has_requests_of_its_size_and_a_valid_profile() {
        for (cell, bytes) in [
            (Cell::SmallJson, 550..750),
            (Cell::SmallJsonHttp2, 550..750),
            (Cell::WideJson, 10_000..14_000),
            (Cell::WideBinary, 4_000..4_300),
            (Cell::SmallGrpc, 240..320),
            (Cell::WideGrpc, 4_000..4_100),
        ] {
            let traffic = Traffic::new(cell).expect("a cell");
            assert!(
                bytes.contains(&traffic.body_bytes()),
                "{cell:?}: {}",
                traffic.body_bytes()
            );
            let width = cell.input().row[0] as usize;
            assert_eq!(traffic.profile.features.len(), width);
            // What is sent is what the reference was made of.
            let numeric = traffic.profile.features[0].numeric.as_ref().expect("a number");
            assert_eq!(numeric.counts.iter().sum::<u64>(), REFERENCE_ROWS as u64);
            let shifted = traffic.shifted(3.0).expect("requests");
            assert_eq!(shifted.len(), traffic.requests.len());
            assert_ne!(shifted[0].body, traffic.requests[0].body);
        }
    }
}
