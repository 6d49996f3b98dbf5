//! Who analyses, how it is reached, and how much of it may be used.

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use plumbline_service::config::{ParseSetting, Reader};

use super::Secret;

/// Who analyses.
#[derive(Clone, Debug)]
pub enum ProviderConfig {
    /// Code, from the evidence alone.
    Offline,
    /// A language model; offline when it fails.
    Model(Box<ModelConfig>),
}

/// A language model and how it is asked.
#[derive(Clone, Debug)]
pub struct ModelConfig {
    /// What runs it.
    pub engine: Engine,
    /// Its name.
    pub model: String,
    /// Time for an answer, retries and repair together.
    pub timeout: Duration,
    /// How much it may be asked.
    pub limits: Limits,
}

/// What runs a language model.
#[derive(Clone, Debug)]
pub enum Engine {
    /// The Gemini API.
    Gemini(GeminiEngine),
    /// Vertex AI.
    Vertex(VertexEngine),
    /// Google's `gemini` command.
    GeminiCli(GeminiCliEngine),
    /// Chat completions as OpenAI has them.
    OpenAiCompatible(OpenAiEngine),
    /// Ollama's own API.
    Ollama(OllamaEngine),
}

impl Engine {
    /// As the setting and reports spell it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Gemini(_) => "gemini",
            Self::Vertex(_) => "vertex",
            Self::GeminiCli(_) => "gemini-cli",
            Self::OpenAiCompatible(_) => "openai-compatible",
            Self::Ollama(_) => "ollama",
        }
    }

    fn secret(&self) -> Option<&Secret> {
        match self {
            Self::Gemini(engine) => Some(&engine.api_key),
            Self::GeminiCli(engine) => Some(&engine.api_key),
            Self::OpenAiCompatible(engine) => engine.api_key.as_ref(),
            Self::Vertex(_) | Self::Ollama(_) => None,
        }
    }
}

/// The Gemini API.
#[derive(Clone, Debug)]
pub struct GeminiEngine {
    /// Scheme, host and port.
    pub base_url: Uri,
    /// Sent as `x-goog-api-key`.
    pub api_key: Secret,
}

/// Vertex AI.
#[derive(Clone, Debug)]
pub struct VertexEngine {
    /// Scheme, host and port.
    pub base_url: Uri,
    /// Id of the project.
    pub project: String,
    /// Region, or `global`.
    pub location: String,
    /// A service account's key file; without one, the metadata server is asked.
    pub credentials: Option<PathBuf>,
    /// The metadata server of the machine.
    pub metadata_url: Uri,
}

/// Google's `gemini` command.
#[derive(Clone, Debug)]
pub struct GeminiCliEngine {
    /// The command.
    pub program: PathBuf,
    /// Given to it as `GEMINI_API_KEY`.
    pub api_key: Secret,
    /// Where it finds the Gemini API, when that is not Google's.
    pub base_url: Option<Uri>,
}

/// A server with OpenAI's chat completions.
#[derive(Clone, Debug)]
pub struct OpenAiEngine {
    /// Up to and with the version: `http://127.0.0.1:8000/v1`.
    pub base_url: Uri,
    /// Sent as a bearer token.
    pub api_key: Option<Secret>,
}

/// Ollama.
#[derive(Clone, Debug)]
pub struct OllamaEngine {
    /// Scheme, host and port.
    pub base_url: Uri,
    /// Tokens of the context, prompt and answer together.
    pub context: u32,
}

/// How much may be asked: clock hours, and days of 24 of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests, retries included.
    pub requests_per_hour: NonZeroU64,
    /// Requests in 24 hours.
    pub requests_per_day: NonZeroU64,
    /// Tokens of prompts and answers.
    pub tokens_per_hour: NonZeroU64,
    /// Tokens in 24 hours.
    pub tokens_per_day: NonZeroU64,
}

impl Default for Limits {
    /// Those of the settings' defaults.
    fn default() -> Self {
        let of = |limit| NonZeroU64::new(limit).expect("above 0");
        Self {
            requests_per_hour: of(120),
            requests_per_day: of(1_000),
            tokens_per_hour: of(4_000_000),
            tokens_per_day: of(20_000_000),
        }
    }
}

impl ProviderConfig {
    /// For people: the provider and its model.
    pub(crate) fn title(&self) -> String {
        match self {
            Self::Offline => "offline".to_owned(),
            Self::Model(config) => format!("{} ({})", config.engine.name(), config.model),
        }
    }

    /// Time for an answer.
    pub(crate) fn timeout(&self) -> Duration {
        match self {
            Self::Offline => Duration::ZERO,
            Self::Model(config) => config.timeout,
        }
    }

    pub(super) fn secret(&self) -> Option<&Secret> {
        match self {
            Self::Offline => None,
            Self::Model(config) => config.engine.secret(),
        }
    }

    pub(super) fn read(reader: &mut Reader) -> Self {
        let settings = Settings::read(reader);
        let timeout: Duration = reader.value("provider_timeout");
        reader.check(
            "provider_timeout",
            timeout >= Duration::from_secs(1),
            "must be at least 1s",
        );
        let limits = Limits {
            requests_per_hour: reader.value("provider_requests_per_hour"),
            requests_per_day: reader.value("provider_requests_per_day"),
            tokens_per_hour: reader.value("provider_tokens_per_hour"),
            tokens_per_day: reader.value("provider_tokens_per_day"),
        };
        let choice: Choice = reader.value("provider");
        match settings.chosen(choice, reader) {
            Some((engine, model)) => Self::Model(Box::new(ModelConfig {
                engine,
                model,
                timeout,
                limits,
            })),
            None => Self::Offline,
        }
    }
}

/// The `provider` setting.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Choice {
    Auto,
    Gemini,
    Vertex,
    GeminiCli,
    OpenAiCompatible,
    Ollama,
    Offline,
}

impl ParseSetting for Choice {
    fn parse_setting(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "gemini" => Ok(Self::Gemini),
            "vertex" => Ok(Self::Vertex),
            "gemini-cli" => Ok(Self::GeminiCli),
            "openai-compatible" => Ok(Self::OpenAiCompatible),
            "ollama" => Ok(Self::Ollama),
            "offline" => Ok(Self::Offline),
            _ => Err(
                "expected gemini, vertex, gemini-cli, openai-compatible, ollama, offline or auto".to_owned(),
            ),
        }
    }
}

/// What all providers' settings say.
struct Settings {
    gemini_api_key: Option<Secret>,
    gemini_model: String,
    gemini_url: Option<Uri>,
    gemini_cli: PathBuf,
    vertex_project: Option<String>,
    vertex_location: String,
    vertex_url: Option<Uri>,
    vertex_credentials: Option<PathBuf>,
    openai_url: Option<Uri>,
    openai_model: Option<String>,
    openai_api_key: Option<Secret>,
    ollama_url: Uri,
    ollama_model: Option<String>,
    ollama_context: u32,
}

impl Settings {
    fn read(reader: &mut Reader) -> Self {
        let settings = Self {
            gemini_api_key: reader.optional("gemini_api_key"),
            gemini_model: reader.value("gemini_model"),
            gemini_url: reader.optional("gemini_url"),
            gemini_cli: reader.value("gemini_cli"),
            vertex_project: reader.optional("vertex_project"),
            vertex_location: reader.value("vertex_location"),
            vertex_url: reader.optional("vertex_url"),
            vertex_credentials: reader.optional("vertex_credentials"),
            openai_url: reader.optional("openai_url"),
            openai_model: reader.optional("openai_model"),
            openai_api_key: reader.optional("openai_api_key"),
            ollama_url: reader.value("ollama_url"),
            ollama_model: reader.optional("ollama_model"),
            ollama_context: reader.value("ollama_context"),
        };
        // They become parts of a path.
        for (name, value, usable) in [
            (
                "gemini_model",
                Some(&settings.gemini_model),
                "must be a name such as gemini-3.5-flash",
            ),
            (
                "vertex_project",
                settings.vertex_project.as_ref(),
                "must be the id of a project",
            ),
            (
                "vertex_location",
                Some(&settings.vertex_location),
                "must be a region such as europe-west4, or global",
            ),
        ] {
            reader.check(name, value.is_none_or(|value| is_plain(value)), usable);
        }
        reader.check(
            "ollama_context",
            settings.ollama_context >= 8_192,
            "must be at least 8192",
        );
        settings
    }

    /// The chosen engine and the name of its model.
    fn chosen(self, choice: Choice, reader: &mut Reader) -> Option<(Engine, String)> {
        let mut needs = |what: &str| -> Option<(Engine, String)> {
            reader.reject("provider", what);
            None
        };
        match choice {
            Choice::Offline => None,
            Choice::Auto if self.gemini_api_key.is_none() => None,
            Choice::Auto | Choice::Gemini => {
                let Some(api_key) = self.gemini_api_key else {
                    return needs("gemini needs gemini_api_key");
                };
                let base_url = self
                    .gemini_url
                    .unwrap_or_else(|| Uri::from_static("https://generativelanguage.googleapis.com"));
                Some((
                    Engine::Gemini(GeminiEngine { base_url, api_key }),
                    self.gemini_model,
                ))
            }
            Choice::GeminiCli => {
                let Some(api_key) = self.gemini_api_key else {
                    return needs("gemini-cli needs gemini_api_key");
                };
                let engine = GeminiCliEngine {
                    program: self.gemini_cli,
                    api_key,
                    base_url: self.gemini_url,
                };
                Some((Engine::GeminiCli(engine), self.gemini_model))
            }
            Choice::Vertex => {
                let Some(project) = self.vertex_project else {
                    return needs("vertex needs vertex_project");
                };
                let base_url = match self.vertex_url {
                    Some(url) => url,
                    None => vertex_url(&self.vertex_location)?,
                };
                let engine = VertexEngine {
                    base_url,
                    project,
                    location: self.vertex_location,
                    credentials: self.vertex_credentials,
                    metadata_url: Uri::from_static("http://metadata.google.internal"),
                };
                Some((Engine::Vertex(engine), self.gemini_model))
            }
            Choice::OpenAiCompatible => {
                let (Some(base_url), Some(model)) = (self.openai_url, self.openai_model) else {
                    return needs("openai-compatible needs openai_url and openai_model");
                };
                let engine = OpenAiEngine {
                    base_url,
                    api_key: self.openai_api_key,
                };
                Some((Engine::OpenAiCompatible(engine), model))
            }
            Choice::Ollama => {
                let Some(model) = self.ollama_model else {
                    return needs("ollama needs ollama_model");
                };
                let engine = OllamaEngine {
                    base_url: self.ollama_url,
                    context: self.ollama_context,
                };
                Some((Engine::Ollama(engine), model))
            }
        }
    }
}

fn is_plain(text: &str) -> bool {
    text.chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'))
}

/// Regions have a host each; the multi-regions and `global` have their own form.
fn vertex_url(location: &str) -> Option<Uri> {
    let host = match location {
        "global" => "aiplatform.googleapis.com".to_owned(),
        "us" | "eu" => format!("aiplatform.{location}.rep.googleapis.com"),
        region => format!("{region}-aiplatform.googleapis.com"),
    };
    // A location that makes no host has been told already.
    format!("https://{host}").parse().ok()
}
