# Every command that CI runs. A target sets up what it needs and fails when that is not possible; it never skips.
# `make demo` and `make test` need a Rust toolchain, a C compiler, make and Python >= 3.9.

SHELL := /usr/bin/env bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

CARGO ?= cargo
PYTHON_ENV := .setup/venv/bin/python
MODEL := model-source/artifacts/churn
# Where the evaluation data and the golden values of `make test-data` are.
DATA_DIR ?= ../shared/data
GOLDEN_DIR ?= ../shared/golden
# Logs with known answers, of `make log-evaluation` and `make triage-evaluation`.
LOGS ?= $(DATA_DIR)/ci-logs
# Recorded incidents with known explanations, of `make incident-evaluation`.
INCIDENTS ?= $(DATA_DIR)/incident-logs

.PHONY: help
help: ## Lists the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r t h; do printf '%-18s %s\n' "$$t" "$$h"; done

# --- Set-up --------------------------------------------------------------------------------------------------------

.PHONY: setup
setup: ## ONNX Runtime's library and the Python environment, in .setup/
	@scripts/setup-python.sh
	@scripts/setup-onnxruntime.sh

.PHONY: setup-lint
setup-lint:
	@scripts/setup-lint.sh

.PHONY: setup-clients
setup-clients:
	@scripts/setup-clients.sh

# --- The example model ---------------------------------------------------------------------------------------------

.PHONY: train
train: setup ## Trains the churn model into model-source/artifacts/churn
	@scripts/setup-data.sh
	@$(MAKE) --no-print-directory $(MODEL)/model.onnx

$(MODEL)/model.onnx: $(wildcard model-source/churn/*.py) model-source/requirements.lock
	cd model-source && ../$(PYTHON_ENV) -m churn.train --data artifacts/data/churn.csv --out artifacts/churn --seed 7

# --- The main job --------------------------------------------------------------------------------------------------

DEMO_FLAGS := $(if $(filter 1,$(DEMO_ONCE)),--once) $(if $(filter 1,$(PROMETHEUS)),--prometheus) $(if $(ANY_PORT),--any-port)

.PHONY: demo
demo: train ## The whole system on real data; DEMO_ONCE=1 ends by itself, PROMETHEUS=1 puts the real pair in between
	@$(CARGO) build --release --locked -p plumbline
	@target/release/plumbline demo $(MODEL) --rows $(MODEL)/heldout.csv $(DEMO_FLAGS)

# --- Tests ---------------------------------------------------------------------------------------------------------

# The command's own integration tests need its binary, so `cargo test --workspace` leaves target/debug/plumbline behind.
.PHONY: test
test: train ## Every test that needs no cluster and nothing outside the repository
	$(CARGO) test --workspace --locked
	cd model-source && PLUMBLINE_BIN="$$PWD/../target/debug/plumbline" ../$(PYTHON_ENV) -m pytest -q

.PHONY: test-data
test-data: setup ## The golden values and the real data of GOLDEN_DIR and DATA_DIR
	@for d in "$(GOLDEN_DIR)" "$(DATA_DIR)"; do [[ -d $$d ]] || { echo "no folder $$d: set GOLDEN_DIR and DATA_DIR" >&2; exit 1; }; done
	GOLDEN_DIR="$$(cd "$(GOLDEN_DIR)" && pwd)" $(CARGO) test --workspace --locked --test golden
	$(CARGO) test --workspace --locked --no-run --quiet
	tests/data/run.sh target/debug/plumbline "$(DATA_DIR)"
	@$(MAKE) --no-print-directory log-evaluation triage-evaluation incident-evaluation

KILLS ?= 1000

.PHONY: kill-tests
kill-tests: ## The worker killed KILLS times at random points: nothing lost, nothing done twice
	PLUMBLINE_KILLS=$(KILLS) $(CARGO) test --locked -p plumbline-analysis-worker --test it -- --nocapture kills::

CASES ?= analysis-worker/tests/golden/analyst-adversarial.jsonl

.PHONY: adversarial
adversarial: ## Hostile inputs and a model that does what they ask; CASES is the file of the cases
	PLUMBLINE_ADVERSARIAL_CASES="$(abspath $(CASES))" $(CARGO) test --locked -p plumbline-analysis-worker --test it -- adversarial::

.PHONY: test-clients
test-clients: train setup-clients ## Stock tritonclient and kserve clients through the running stack
	@$(CARGO) build --release --locked -p plumbline
	tests/clients/run.sh target/release/plumbline $(MODEL)

.PHONY: test-github-fake
test-github-fake: ## testkit's GitHub held against octokit, the stock client (needs Node.js 20 and npm)
	@scripts/setup-octokit.sh
	@$(CARGO) build --locked -p plumbline-testkit --example github
	tests/github/run.sh target/debug/examples/github

.PHONY: test-upstreams
test-upstreams: setup load-models setup-peers setup-clients ## MLServer and the KServe SDK's server behind the sidecar: answers untouched, every row observed
	@$(CARGO) build --locked -p plumbline-sidecar
	tests/upstreams/run.sh target/debug/plumbline-sidecar $(LOAD_MODELS)/gb/model.onnx

# Exchanges, and the number of the first; a difference names its exchange. Without --release about ten times slower.
EXCHANGES ?= 1000000
FIRST ?= 1
FAIL_OPEN_FLAGS ?= --release

.PHONY: fail-open
fail-open: ## A million fuzzed exchanges through a sidecar whose observer panics: every answer is the direct one, every count is exact
	FAIL_OPEN_EXCHANGES=$(EXCHANGES) FAIL_OPEN_SEED=$(FIRST) \
	  $(CARGO) test --locked $(FAIL_OPEN_FLAGS) -p plumbline-sidecar --test fail_open -- --nocapture

# How many requests, which ones, and beyond that nginx and HAProxy, which see one in ten; `SMUGGLING_FLAGS=--release` for many.
MESSAGES ?= 1000000
SEED ?= 1

.PHONY: smuggling
smuggling: ## A million damaged HTTP/1.1 requests to the gateway: nothing or exactly one request reaches a strict recorder, nginx, HAProxy
	@scripts/require-proxies.sh nginx haproxy
	SMUGGLING_MESSAGES=$(MESSAGES) SMUGGLING_SEED=$(SEED) \
	  $(CARGO) test --locked $(SMUGGLING_FLAGS) -p plumbline-gateway --test smuggling -- --include-ignored --nocapture

.PHONY: h2spec
h2spec: ## Every case of h2spec, strict ones included, against the gateway's ports (needs Go, openssl)
	@scripts/setup-h2spec.sh
	@$(CARGO) build --locked -p plumbline-gateway
	tests/h2spec/run.sh target/debug/plumbline-gateway .setup/h2spec

.PHONY: grpc-interop
grpc-interop: ## gRPC's interoperability cases with grpc-go's client and server, the gateway in between (needs Go, openssl)
	@scripts/setup-grpc-interop.sh
	@$(CARGO) build --locked -p plumbline-gateway
	tests/grpc-interop/run.sh target/debug/plumbline-gateway .setup/grpc-interop

CONFORMANCE := cd conformance && ../.setup/venv-conformance/bin/python
MODEL_SERVER := ../target/release/plumbline-model-server

.PHONY: setup-conformance
setup-conformance: setup
	@scripts/setup-conformance.sh
	@$(CARGO) build --release --locked -p plumbline-model-server

.PHONY: conformance
conformance: node-tests zoo error-matrix stock-clients ## The model server judged from outside: the four targets below

.PHONY: node-tests
node-tests: setup-conformance ## ONNX node tests through the model server, bit for bit as ONNX Runtime in Python
	$(CONFORMANCE) -m oip.nodes --server $(MODEL_SERVER)

.PHONY: zoo
zoo: setup-conformance ## scikit-learn, XGBoost, LightGBM as their stock converters write them, beside their libraries
	$(CONFORMANCE) -m oip.zoo --server $(MODEL_SERVER)

.PHONY: error-matrix
error-matrix: setup-conformance ## Faulty requests and their exact answers; then 25,000 mutated ones, never a 5xx
	$(CONFORMANCE) -m oip.errors --server $(MODEL_SERVER)
	$(CONFORMANCE) -m oip.fuzz --server $(MODEL_SERVER)

.PHONY: stock-clients
stock-clients: setup-conformance setup-clients ## Every call of the stock tritonclient and kserve clients
	$(CONFORMANCE) -m oip.stock --server $(MODEL_SERVER) \
	  --triton ../.setup/venv-triton/bin/python --kserve ../.setup/venv-kserve/bin/python

.PHONY: test-grpcurl
test-grpcurl: setup-conformance ## grpcurl: reflection, health, calls found by reflection (needs Go)
	@scripts/setup-grpcurl.sh
	$(CONFORMANCE) -m oip.stock --server $(MODEL_SERVER) --grpcurl ../.setup/grpcurl

.PHONY: test-rules
test-rules: setup ## The recording and alert rules: promtool, their runbooks, the queries behind questions, and the PSI on a real Prometheus (Debian's package)
	@scripts/require-prometheus.sh
	promtool check rules charts/plumbline/rules/*.yaml
	promtool test rules tests/prometheus/rules/*.test.yaml
	$(PYTHON_ENV) tests/prometheus/check.py
	@$(CARGO) build --locked -p plumbline -p plumbline-sidecar -p plumbline-analysis-worker
	$(PYTHON_ENV) tests/prometheus/questions.py --worker target/debug/plumbline-analysis-worker
	$(PYTHON_ENV) tests/prometheus/live.py --plumbline target/debug/plumbline --sidecar target/debug/plumbline-sidecar \
	  --rules charts/plumbline/rules/psi.yaml

# Seconds for which the worker is gone in `make test-prometheus`.
OUTAGE ?= 20

.PHONY: test-prometheus
test-prometheus: ## The demo with real Prometheus and Alertmanager between sidecar and worker (Debian's packages)
	@scripts/require-prometheus.sh
	@$(MAKE) --no-print-directory demo DEMO_ONCE=1 PROMETHEUS=1 ANY_PORT=1
	@$(CARGO) build --locked -p plumbline-analysis-worker
	tests/prometheus/backfill.py --worker target/debug/plumbline-analysis-worker --outage $(OUTAGE)

.PHONY: test-mlflow
test-mlflow: ## The worker asks a real MLflow server (SQLite) for versions, runs and importances
	@scripts/setup-mlflow.sh
	@$(CARGO) build --locked -p plumbline-analysis-worker
	.setup/venv-mlflow/bin/python tests/mlflow/run.py --worker target/debug/plumbline-analysis-worker

.PHONY: test-providers
test-providers: ## google-genai, openai and gemini-cli against the fakes that the worker is tested with; and the worker with gemini-cli
	@scripts/setup-providers.sh
	@$(CARGO) build --locked -p plumbline-analysis-worker -p plumbline-testkit --bin plumbline-analysis-worker --example providers
	.setup/venv-providers/bin/python tests/providers/run.py --fakes target/debug/examples/providers \
	  --worker target/debug/plumbline-analysis-worker --gemini-cli .setup/gemini-cli/node_modules/.bin/gemini

# etcd and kube-apiserver come from the folders that K8S_UP asks for (KUBE_BIN, ETCD_BIN); kubectl, openssl and curl are on the PATH.
K8S_UP ?= ../shared/tools/k8s-up.sh

.PHONY: test-kubernetes
test-kubernetes: ## Discovery and evidence against a real kube-apiserver, which K8S_UP brings up from binaries that are there; not in CI
	@$(CARGO) build --locked -p plumbline-gateway -p plumbline-analysis-worker
	tests/kubernetes/gateway.sh target/debug/plumbline-gateway "$(K8S_UP)"
	tests/kubernetes/worker.sh target/debug/plumbline-analysis-worker "$(K8S_UP)"

# --- Lint, bench ---------------------------------------------------------------------------------------------------

LINT := .setup/venv-lint/bin
SHELL_FILES := $(wildcard scripts/*.sh tests/*.sh tests/*/*.sh load-tests/*.sh) .ci/run

.PHONY: lint
lint: setup-lint ## Formatting, clippy, dependency rules, Python and shell linters; warnings are errors
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	.setup/cargo-deny --log-level error check bans licenses sources
	$(LINT)/ruff check model-source conformance evaluation tests scripts
	$(LINT)/ruff format --check model-source conformance evaluation tests scripts
	cd model-source && ../$(LINT)/mypy
	cd conformance && ../$(LINT)/mypy
	cd evaluation && ../$(LINT)/mypy
	$(LINT)/shellcheck -x $(SHELL_FILES)

.PHONY: format
format: setup-lint ## Formats Rust and Python
	$(CARGO) fmt --all
	$(LINT)/ruff format model-source conformance evaluation tests scripts

.PHONY: bench
bench: train ## Requests/s and CPU per request of each step of the path, and the criterion benchmarks
	$(CARGO) build --release --locked -p plumbline-load-tests -p plumbline-model-server -p plumbline-sidecar -p plumbline-gateway \
	  $(addprefix --bin ,path-cost constant-server plumbline-model-server plumbline-sidecar plumbline-gateway)
	target/release/path-cost --model $(MODEL) --rows $(MODEL)/heldout.csv
	$(CARGO) bench --locked -p plumbline-drift -p plumbline-inference-protocol

.PHONY: docs
docs: setup ## Writes docs/metrics.md from what the code declares
	PLUMBLINE_UPDATE_DOCS=1 $(CARGO) test --locked -q --lib -p plumbline-gateway -p plumbline-sidecar -p plumbline-model-server -p plumbline-analysis-worker every_series_is_documented

# --- Drift detection judged ------------------------------------------------------------------------------------------

.PHONY: false-alarms
false-alarms: ## 10,000 stationary streams of every shape, judged after every row, into evaluation/drift/results/; about an hour
	$(CARGO) run --release --locked -p plumbline-drift --example false_alarms -- \
	  --output evaluation/drift/results/false-alarms.md $(FALSE_ALARMS_FLAGS)

# With TABLE=file.csv, rows in the order of time, that table is judged instead; the last line tells where its page is.
.PHONY: drift-evaluation
drift-evaluation: setup ## Drift detection beside river, Evidently and NannyML on the data of DATA_DIR, or on TABLE, into docs/drift-evaluation.md
	@[[ -n "$(TABLE)" || -d "$(DATA_DIR)" ]] || { echo "no folder $(DATA_DIR): set DATA_DIR" >&2; exit 1; }
	@scripts/setup-drift-evaluation.sh
	$(CARGO) build --release --locked -p plumbline-drift --example evaluate
	cd evaluation && ../$(PYTHON_ENV) -m drift --setup ../.setup --evaluate ../target/release/examples/evaluate \
	  $(if $(TABLE),--table "$(abspath $(TABLE))" --page "../.setup/drift-evaluation/$(basename $(notdir $(TABLE))).md", \
	    --data "$(abspath $(DATA_DIR))" --page ../docs/drift-evaluation.md --false-alarms drift/results/false-alarms.md) \
	  $(DRIFT_EVALUATION_FLAGS)

.PHONY: log-evaluation
log-evaluation: setup ## What of the answers of logs with known failures stays within a token budget; LOGS is their folder
	@[[ -d "$(LOGS)" ]] || { echo "no folder $(LOGS): set LOGS" >&2; exit 1; }
	@$(CARGO) build --locked -p plumbline-analysis-worker
	cd evaluation && ../$(PYTHON_ENV) -m logs --worker ../target/debug/plumbline-analysis-worker $(LOG_EVALUATION_FLAGS) "$(abspath $(LOGS))"

.PHONY: triage-evaluation
triage-evaluation: setup ## Whether the offline triage finds what kind of failure a log shows; LOGS is the folder of the logs
	@[[ -d "$(LOGS)" ]] || { echo "no folder $(LOGS): set LOGS" >&2; exit 1; }
	@$(CARGO) build --locked -p plumbline-analysis-worker
	cd evaluation && ../$(PYTHON_ENV) -m triage --worker ../target/debug/plumbline-analysis-worker "$(abspath $(LOGS))"

.PHONY: incident-evaluation
incident-evaluation: setup ## What of the explanations of recorded incidents the worker's evidence has; INCIDENTS is their folder
	@[[ -d "$(INCIDENTS)" ]] || { echo "no folder $(INCIDENTS): set INCIDENTS" >&2; exit 1; }
	@$(CARGO) build --locked -p plumbline-analysis-worker
	cd evaluation && ../$(PYTHON_ENV) -m incidents --worker ../target/debug/plumbline-analysis-worker $(INCIDENT_EVALUATION_FLAGS) "$(abspath $(INCIDENTS))"

# --- Load ----------------------------------------------------------------------------------------------------------

TODAY := $(shell date -u +%Y-%m-%d)
RESULTS := load-tests/results/$(TODAY)
LOAD_MODELS := .setup/load-models

$(LOAD_MODELS)/.stamp: load-tests/models/make.py model-source/requirements.lock
	@$(MAKE) --no-print-directory setup
	$(PYTHON_ENV) -W ignore $< $(LOAD_MODELS)
	@touch $@

.PHONY: load-models
load-models: $(LOAD_MODELS)/.stamp

# Only what is needed: linking each of the programs takes half a minute.
load_programs = $(CARGO) build --release --locked -p plumbline-load-tests -p plumbline-model-server \
  $(addprefix --bin ,plumbline-model-server $(1))

.PHONY: setup-peers
setup-peers:
	@scripts/setup-peers.sh

.PHONY: peers
peers: setup load-models setup-peers ## Ours beside the KServe SDK, MLServer, FastAPI, Starlette and the floor, into load-tests/results/
	$(call load_programs,peers constant-server ort-call)
	target/release/peers $(if $(QUICK),--quick,--output $(RESULTS)-peers.md) $(PEERS_FLAGS)

.PHONY: overload
overload: setup load-models ## Three times the peak, and the overhead at half of it, into load-tests/results/
	$(call load_programs,overload)
	target/release/overload --output $(RESULTS)-overload.md $(OVERLOAD_FLAGS)

.PHONY: sidecar-cost
sidecar-cost: ## The sidecar beside nginx as a plain proxy: CPU a request, added latency, memory, into load-tests/results/
	@scripts/require-proxies.sh nginx
	$(CARGO) build --release --locked -p plumbline-load-tests -p plumbline-sidecar \
	  $(addprefix --bin ,sidecar-cost constant-server plumbline-sidecar)
	target/release/sidecar-cost --output $(RESULTS)-sidecar-cost.md $(SIDECAR_COST_FLAGS)

# The default takes about 13 minutes; GATEWAY_PEERS_FLAGS='--rounds 1 --seconds 0.3 --changes 5' one, to see that it works.
.PHONY: gateway-peers
gateway-peers: ## The gateway beside nginx, haproxy and Envoy over HTTP/1.1, HTTP/2 and gRPC, and with 5,000 routes, into load-tests/results/
	@scripts/require-proxies.sh nginx haproxy
	@scripts/setup-envoy.sh
	$(CARGO) build --release --locked -p plumbline-load-tests -p plumbline-gateway \
	  $(addprefix --bin ,gateway-peers constant-server plumbline-gateway)
	target/release/gateway-peers --output $(RESULTS)-gateway-peers.md $(GATEWAY_PEERS_FLAGS)

# The default takes about 20 minutes and needs root; GATEWAY_FAULTS_FLAGS='--no-namespaces --only swaps,gateways' does not.
.PHONY: gateway-faults
gateway-faults: ## The gateway under faults: slow, refusing, dead replicas, overload; swaps, restarts, rotations in which no request may fail
	$(CARGO) build --release --locked -p plumbline-load-tests -p plumbline-gateway \
	  $(addprefix --bin ,gateway-faults plumbline-gateway)
	target/release/gateway-faults --output $(RESULTS)-gateway-faults.md $(GATEWAY_FAULTS_FLAGS)

.PHONY: sink-soak
sink-soak: ## Ten minutes of drifting rows through a sidecar whose events nobody takes; fails when memory grows or a count is off
	$(CARGO) build --release --locked -p plumbline-load-tests -p plumbline-sidecar \
	  $(addprefix --bin ,sink-soak constant-server plumbline-sidecar)
	target/release/sink-soak --output $(RESULTS)-sink-soak.md $(SINK_SOAK_FLAGS)

.PHONY: worker-burst
worker-burst: ## 10,000 alerts of 50 incidents, each three times, at once: one report each, memory, time
	$(CARGO) build --release --locked -p plumbline-load-tests -p plumbline-analysis-worker \
	  $(addprefix --bin ,worker-burst plumbline-analysis-worker)
	target/release/worker-burst --output $(RESULTS)-worker-burst.md $(WORKER_BURST_FLAGS)

.PHONY: soak
soak: setup load-models ## A million mixed requests; fails when one fails or memory grows by more than 2 %
	$(call load_programs,soak)
	target/release/soak --output $(RESULTS)-soak.md $(SOAK_FLAGS)

.PHONY: reload
reload: setup load-models ## 100 reloads by polling, 100 by request, and rolling restarts under load; fails when a request fails
	$(call load_programs,reload)
	target/release/reload --output $(RESULTS)-reload.md $(RELOAD_FLAGS)

.PHONY: soak-reload
soak-reload: load-programs ## 1,000 loads and unloads by request, and by files; fails when memory grows by more than 5 MiB
	target/release/reload-memory --output $(RESULTS)-reload-memory.md $(SOAK_RELOAD_FLAGS)
	target/release/reload-memory --by files --output $(RESULTS)-reload-memory-files.md $(SOAK_RELOAD_FLAGS)

.PHONY: generator
generator: setup ## The load generator beside wrk (Debian's package) on the constant-answer server
	$(call load_programs,constant-server plumbline-load)
	load-tests/against-wrk.sh $(RESULTS)-generator.md

# --- Fuzzing, OpenAPI ------------------------------------------------------------------------------------------------

.PHONY: fuzz
fuzz: ## Every fuzz target for FUZZ_SECONDS (20) each, from its kept corpus
	scripts/fuzz.sh

.PHONY: test-openapi
test-openapi: setup ## schemathesis against the OpenAPI documents of a running model server
	@scripts/setup-openapi.sh
	@$(CARGO) build --locked -p plumbline-model-server
	tests/openapi/run.sh target/debug/plumbline-model-server
