//! The samples of the golden files: exactly rounded operations only, evaluated left to right.

use plumbline_drift::SplitMix64;
use serde_json::Value;

/// A distribution with scale, shift and rounding.
pub(crate) struct Spec {
    kind: String,
    args: Vec<f64>,
    scale: f64,
    shift: f64,
    quant: Option<f64>,
}

impl Spec {
    pub(crate) fn parse(spec: &Value) -> Self {
        let mut parts = spec["dist"].as_str().expect("a distribution").split(':');
        Self {
            kind: parts.next().expect("a name").to_owned(),
            args: parts.map(|a| a.parse().expect("a number")).collect(),
            scale: spec["scale"].as_f64().expect("a scale"),
            shift: spec["shift"].as_f64().expect("a shift"),
            quant: spec["quant"].as_f64(),
        }
    }

    /// `n` values of the generator with this seed, which is decimal text.
    pub(crate) fn sample(&self, n: usize, seed: &Value) -> Vec<f64> {
        let mut rng = SplitMix64::new(seed.as_str().expect("a seed").parse().expect("an integer"));
        (0..n).map(|_| self.draw(&mut rng)).collect()
    }

    fn draw(&self, rng: &mut SplitMix64) -> f64 {
        if self.kind == "bernoulli" {
            return f64::from(u8::from(rng.uniform() < self.args[0]));
        }
        let x = self.raw(rng) * self.scale + self.shift;
        self.quant.map_or(x, |q| (x / q).floor() * q)
    }

    fn raw(&self, rng: &mut SplitMix64) -> f64 {
        match self.kind.as_str() {
            "uniform" => rng.uniform(),
            "tri" => rng.uniform() + rng.uniform(),
            "ih12" => normal(rng),
            "cube" => {
                let v = rng.uniform();
                v * v * v
            }
            "pareto1" => 1.0 / (1.0 - rng.uniform()),
            "pareto2" => 1.0 / (1.0 - rng.uniform()).sqrt(),
            "loglogistic" => {
                let v = rng.uniform();
                v / (1.0 - v)
            }
            "levels" => (rng.uniform() * self.args[0]).floor(),
            "tilted" => {
                let v = rng.uniform();
                (v * v * self.args[0]).floor()
            }
            "const" => self.args[0],
            "zeroinf" => {
                let (s, v) = (rng.uniform(), rng.uniform());
                if s < self.args[0] { 0.0 } else { v / (1.0 - v) }
            }
            "bimodal" => {
                let (s, g) = (rng.uniform(), normal(rng));
                if s < 0.5 {
                    g - self.args[0]
                } else {
                    g + self.args[0]
                }
            }
            "contam" => {
                let (s, g) = (rng.uniform(), normal(rng));
                if s < self.args[0] { g + self.args[1] } else { g }
            }
            other => panic!("unknown distribution {other}"),
        }
    }
}

/// The sum of twelve uniforms less 6: nearly normal, standard deviation 1.
fn normal(rng: &mut SplitMix64) -> f64 {
    let first = rng.uniform();
    (1..12).fold(first, |sum, _| sum + rng.uniform()) - 6.0
}
