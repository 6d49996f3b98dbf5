"""One training run on the real table, shared by all tests."""

from __future__ import annotations

import pathlib

import pytest

from churn import train

HERE = pathlib.Path(__file__).resolve().parent
DATA = HERE.parent / "artifacts" / "data" / "churn.csv"
CREATED = "2026-01-31T12:00:00Z"
SEED = 7


def run(out: pathlib.Path, seed: int = SEED) -> pathlib.Path:
    """Train into `out` through the command line."""
    assert DATA.exists(), "churn.csv is not there: scripts/setup-data.sh places it"
    arguments = ["--data", str(DATA), "--out", str(out), "--seed", str(seed), "--created-at", CREATED]
    assert train.main(arguments) == 0
    return out


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The directory that a run wrote."""
    return run(tmp_path_factory.mktemp("trained") / "churn")
