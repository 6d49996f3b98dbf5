"""Stock clients ask the fakes that the worker is tested with: run.py --fakes F --worker W --gemini-cli G.

google-genai (content, stream, count of tokens, both kinds of schemas, Vertex AI's paths), openai (schema, any JSON
object, models) and Google's command, alone and as the worker's provider. A fake that a stock client cannot use proves
nothing about ours. The worker's own signature for Vertex AI is checked by google-auth.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import tempfile
import threading
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import openai
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from google import genai
from google.auth import jwt
from google.genai import errors, types
from google.oauth2.credentials import Credentials

MODEL = "gemini-3.5-flash"
QUOTE = {"id": "E1", "quote": "label alertname:"}
CAUSE = {
    "hypothesis": "the model file is damaged",
    "confidence": 0.7,
    "evidence": [QUOTE],
    "remediation": {"action": "go back one version", "risk": "low"},
}
ANSWER = json.dumps({"summary": "The scorer fails.", "root_causes": [CAUSE]})
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"summary": {"type": "string"}}, "required": ["summary"]}


def check(what: str, found: object, expected: object) -> None:
    """Says so, or ends the test."""
    if found != expected:
        raise SystemExit(f"{what}: expected {expected!r}, found {found!r}")
    print(f"ok: {what}")


def of_genai(client: genai.Client, name: str) -> None:
    """Content with a schema, in one piece and as a stream."""
    config = types.GenerateContentConfig(
        system_instruction="be good",
        temperature=0.2,
        max_output_tokens=1_000,
        response_mime_type="application/json",
        response_json_schema=SCHEMA,
        thinking_config=types.ThinkingConfig(thinking_level=types.ThinkingLevel.LOW),
    )
    answer = client.models.generate_content(model=MODEL, contents="say hi", config=config)
    check(f"{name}: content with a JSON schema", answer.text, ANSWER)
    assert answer.usage_metadata is not None
    check(f"{name}: usage", answer.usage_metadata.total_token_count, 20)
    typed = types.GenerateContentConfig(
        response_mime_type="application/json", response_schema=types.Schema(type="OBJECT")
    )
    answer = client.models.generate_content(model=MODEL, contents="say hi", config=typed)
    check(f"{name}: content with a schema of the API", answer.text, ANSWER)
    pieces = client.models.generate_content_stream(model=MODEL, contents="say hi")
    check(f"{name}: stream", "".join(piece.text or "" for piece in pieces), ANSWER)
    count = client.models.count_tokens(model=MODEL, contents="say hi")
    check(f"{name}: count of tokens", count.total_tokens, 2)


def of_openai(url: str, key: str, model: str) -> None:
    """Completions with a schema and without, and the models."""
    client = openai.OpenAI(base_url=url, api_key=key, max_retries=0)
    formats: list[Any] = [
        {"type": "json_schema", "json_schema": {"name": "findings", "schema": SCHEMA, "strict": False}},
        {"type": "json_object"},
    ]
    messages: list[Any] = [{"role": "system", "content": "be good"}, {"role": "user", "content": "say hi"}]
    for wanted in formats:
        done = client.chat.completions.create(model=model, messages=messages, response_format=wanted, max_tokens=100)
        check(f"openai: {wanted['type']}", done.choices[0].message.content, ANSWER)
        check("openai: why it ended", done.choices[0].finish_reason, "stop")
    check("openai: models", [known.id for known in client.models.list()], [model])
    try:
        client.chat.completions.create(model="nobody's", messages=messages)
    except openai.NotFoundError as error:
        check("openai: an unknown model", error.code, "model_not_found")
    else:
        raise SystemExit("openai: an unknown model was answered for")


def of_command(program: Path, url: str, key: str) -> None:
    """Google's command, set up as the worker sets it up."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / ".gemini" / "settings.json"
        settings.parent.mkdir()
        settings.write_text(
            json.dumps(
                {
                    "security": {"auth": {"selectedType": "gemini-api-key"}},
                    "privacy": {"usageStatisticsEnabled": False},
                    "tools": {"core": []},
                }
            )
        )
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": folder,
            "GEMINI_API_KEY": key,
            "GEMINI_CLI_TRUST_WORKSPACE": "true",
            "GOOGLE_GEMINI_BASE_URL": url,
        }
        command = [program, "--model", MODEL, "--output-format", "json"]
        done = subprocess.run(
            command,
            input="say hi",
            env=environment,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode != 0:
            raise SystemExit(f"gemini-cli: exit status {done.returncode}: {done.stderr[-2000:]}")
        check("gemini-cli: its answer", json.loads(done.stdout)["response"], ANSWER)


@contextlib.contextmanager
def account(folder: Path) -> Iterator[Path]:
    """The key file of a service account, whose tokens are given to who signs for it as google-auth reads it."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    class Tokens(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            form = urllib.parse.parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
            claims = jwt.decode(form["assertion"][0], certs=public, audience=uri)
            assert form["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"], form
            assert claims["iss"] == "worker@p.iam", claims
            assert claims["scope"] == "https://www.googleapis.com/auth/cloud-platform", claims
            body = json.dumps({"access_token": "ya29.signed", "expires_in": 3600, "token_type": "Bearer"}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Tokens)
    uri = f"http://127.0.0.1:{server.server_address[1]}/token"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    file = folder / "account.json"
    told = {"type": "service_account", "client_email": "worker@p.iam", "private_key": private, "private_key_id": "k1"}
    file.write_text(json.dumps({**told, "token_uri": uri}))
    try:
        yield file
    finally:
        server.shutdown()


def of_worker(worker: Path, arguments: list[str], environment: dict[str, str], provider: str) -> None:
    """The worker's report is the answer."""
    with tempfile.TemporaryDirectory() as folder:
        alert = Path(folder) / "alert.json"
        alert.write_text(json.dumps({"alerts": [{"labels": {"alertname": "ErrorRate"}}]}))
        command = [worker, "analyze", "--alert", alert, "--format", "json", "--provider", provider, *arguments]
        done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"worker with {provider}: {done.stderr}")
        report = json.loads(done.stdout)
        check(f"worker with {provider}: no fallback", report["analysis"]["fallback"], None)
        check(f"worker with {provider}: its report", report["findings"]["summary"], "The scorer fails.")


def main() -> None:
    """Run the test."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fakes", type=Path, required=True)
    parser.add_argument("--worker", type=Path, required=True)
    parser.add_argument("--gemini-cli", type=Path, required=True)
    options = parser.parse_args()
    pipe = subprocess.PIPE
    fakes = subprocess.Popen([options.fakes, ANSWER], stdin=pipe, stdout=pipe, text=True)
    try:
        assert fakes.stdout is not None
        told = json.loads(fakes.stdout.readline())
        url, key = told["gemini"]["url"], told["gemini"]["key"]
        of_genai(genai.Client(api_key=key, http_options=types.HttpOptions(base_url=url)), "google-genai")
        vertex = genai.Client(
            vertexai=True,
            project="p",
            location="europe-west4",
            credentials=Credentials("ya29.fake"),  # type: ignore[no-untyped-call]
            http_options=types.HttpOptions(base_url=url),
        )
        of_genai(vertex, "google-genai, Vertex AI")
        try:
            wrong = genai.Client(api_key="wrong", http_options=types.HttpOptions(base_url=url))
            wrong.models.generate_content(model=MODEL, contents="say hi")
        except errors.ClientError as error:
            check("google-genai: a wrong key", (error.code, error.status), (400, "INVALID_ARGUMENT"))
        else:
            raise SystemExit("google-genai: a wrong key was taken")
        of_openai(told["openai"]["url"], told["openai"]["key"], told["openai"]["model"])
        of_command(options.gemini_cli.resolve(), url, key)
        of_worker(options.worker, ["--gemini-url", url], {"GEMINI_API_KEY": key}, "gemini")
        command = ["--gemini-url", url, "--gemini-cli", str(options.gemini_cli.resolve())]
        of_worker(options.worker, command, {"GEMINI_API_KEY": key}, "gemini-cli")
        with tempfile.TemporaryDirectory() as folder, account(Path(folder)) as file:
            vertex_settings = ["--vertex-url", url, "--vertex-project", "p", "--vertex-location", "europe-west4"]
            of_worker(options.worker, [*vertex_settings, "--vertex-credentials", str(file)], {}, "vertex")
        server = ["--openai-url", told["openai"]["url"], "--openai-model", told["openai"]["model"]]
        of_worker(options.worker, server, {"OPENAI_API_KEY": told["openai"]["key"]}, "openai-compatible")
    finally:
        fakes.communicate("")


if __name__ == "__main__":
    main()
