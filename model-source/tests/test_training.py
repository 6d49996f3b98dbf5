"""What a training run promises about the files that it writes."""

from __future__ import annotations

import csv
import hashlib
import json
import pathlib

import numpy as np
import onnx
import onnxruntime
import pytest

from churn import model, table, train
from churn.model import LABEL_OUTPUT, PROBABILITY_OUTPUT
from churn.table import CLASSES, FEATURES
from conftest import DATA, run


def read(path: pathlib.Path) -> list[dict[str, str]]:
    """The rows of a CSV."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def tensors(rows: list[dict[str, str]]) -> dict[str, np.ndarray]:
    """The model's inputs, made from the written text alone."""
    return {
        f.name: np.array([[float(r[f.name].strip() or "nan")] for r in rows], dtype=np.float32)
        if f.is_number
        else np.array([[r[f.name]] for r in rows], dtype=object)
        for f in FEATURES
    }


def test_the_written_model_answers_the_written_rows_as_scikit_learn_did(trained: pathlib.Path) -> None:
    """From the files only: what a client of the served model has."""
    rows, scores = read(trained / "heldout.csv"), read(trained / "heldout_scores.csv")
    assert len(rows) == len(scores) == 1761
    session = onnxruntime.InferenceSession(trained / "model.onnx", providers=["CPUExecutionProvider"])
    labels, maps = session.run([LABEL_OUTPUT, PROBABILITY_OUTPUT], tensors(rows))
    assert labels.tolist() == [score["label"] for score in scores]
    for found, score in zip(maps, scores):
        for label in CLASSES:
            assert found[label] == pytest.approx(float(score[f"probability_{label}"]), abs=train.TOLERANCE)


def test_the_model_is_the_stock_conversion(trained: pathlib.Path) -> None:
    """One named input a column, a ZipMap at the end, the pinned opset: nothing made easy for the server."""
    graph = onnx.load(trained / "model.onnx")
    onnx.checker.check_model(graph)
    session = onnxruntime.InferenceSession(trained / "model.onnx", providers=["CPUExecutionProvider"])
    kinds = {"FP32": "tensor(float)", "BYTES": "tensor(string)"}
    assert [(i.name, i.type, i.shape) for i in session.get_inputs()] == [
        (f.name, kinds[f.datatype], [None, 1]) for f in FEATURES
    ]
    assert [(o.name, o.type) for o in session.get_outputs()] == [
        (LABEL_OUTPUT, "tensor(string)"),
        (PROBABILITY_OUTPUT, "seq(map(string,tensor(float)))"),
    ]
    assert [node.op_type for node in graph.graph.node if PROBABILITY_OUTPUT in node.output] == ["ZipMap"]
    assert {domain.domain: domain.version for domain in graph.opset_import} == model.OPSET


def test_unknown_categories_and_missing_numbers_are_answered(trained: pathlib.Path) -> None:
    """A category that was never seen and a NaN give finite probabilities that sum to one."""
    rows = read(trained / "heldout.csv")[:2]
    rows[0]["Contract"] = "Ten years"
    rows[1]["TotalCharges"] = " "
    session = onnxruntime.InferenceSession(trained / "model.onnx", providers=["CPUExecutionProvider"])
    for found in session.run([PROBABILITY_OUTPUT], tensors(rows))[0]:
        assert sum(found.values()) == pytest.approx(1.0, abs=1e-6)


def test_the_model_is_worth_serving(trained: pathlib.Path) -> None:
    """Floors below what was measured (AUC 0.8535, accuracy 0.8047) by about two standard errors of 1,761 rows."""
    metrics = json.loads((trained / "metrics.json").read_text())
    assert metrics["heldout"]["auc"] >= 0.83
    assert metrics["heldout"]["accuracy"] >= 0.78
    assert metrics["onnx"]["largest_difference"] <= train.TOLERANCE


def test_the_profile_belongs_to_the_files_beside_it(trained: pathlib.Path) -> None:
    """Digests, rows, names and order are those of the model, the reference rows and the measures."""
    profile = json.loads((trained / "profile.json").read_text(encoding="utf-8"))
    assert profile["model"]["name"] == "churn"
    for key, name in (("model", "model.onnx"), ("data", "reference.csv")):
        assert profile[key]["digest"] == "sha256:" + hashlib.sha256((trained / name).read_bytes()).hexdigest()
    rows = len(read(trained / "reference.csv"))
    assert profile["data"]["rows"] == rows >= 1000
    assert [(s["tensor"], s["datatype"]) for s in profile["features"]] == [(f.name, f.datatype) for f in FEATURES]
    assert [(s["tensor"], s["column"], s["role"], s.get("class")) for s in profile["outputs"]] == [
        (LABEL_OUTPUT, 0, "label", None),
        (PROBABILITY_OUTPUT, 0, "probability", "No"),
        (PROBABILITY_OUTPUT, 1, "probability", "Yes"),
    ]
    for subject in profile["features"] + profile["outputs"]:
        assert subject["count"] + subject["missing"] == rows
    heldout = json.loads((trained / "metrics.json").read_text())["heldout"]
    assert profile["training"] == {"rows": 1761, **heldout}
    assert set(heldout) == {"accuracy", "precision", "recall", "f1", "auc", "log_loss"}
    ranked = [importance["importance"] for importance in profile["importances"]]
    assert ranked == sorted(ranked, reverse=True) and ranked[0] > 0.01 and ranked[-1] >= 0
    assert [curve["output"] for curve in profile["calibration"]] == list(train.OUTPUTS[1:])
    for curve in profile["calibration"]:
        assert sum(b["count"] for b in curve["bins"]) == rows


def test_no_row_is_in_two_parts() -> None:
    """The parts are disjoint, complete, and have the same share of leavers."""
    everything = table.load(DATA)
    numbered = table.Table(np.arange(len(everything))[:, None], everything.values, everything.target)
    parts = table.split(numbered, seed=3)
    seen = np.concatenate([part.texts[:, 0] for part in (parts.train, parts.reference, parts.heldout)])
    assert sorted(seen) == list(range(7043))
    shares = [float(np.mean(part.target == "Yes")) for part in (parts.train, parts.reference, parts.heldout)]
    assert shares == pytest.approx([0.2654] * 3, abs=5e-4)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(
    trained: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """Every file, the model and the profile included."""
    again, other = run(tmp_path / "again" / "churn"), run(tmp_path / "other" / "churn", seed=8)
    names = sorted(path.name for path in trained.iterdir())
    assert names == [
        "heldout.csv",
        "heldout_scores.csv",
        "metrics.json",
        "model.onnx",
        "profile.json",
        "reference.csv",
    ]
    for name in names:
        assert (again / name).read_bytes() == (trained / name).read_bytes(), name
        assert (other / name).read_bytes() != (trained / name).read_bytes(), name


def test_blanks_are_missing_and_numbers_are_rounded_to_fp32() -> None:
    """`TotalCharges` is a blank in 11 rows, all of them with `tenure` 0."""
    rows = table.load(DATA)
    assert len(rows) == 7043
    charges = rows.column(next(f for f in FEATURES if f.name == "TotalCharges"))[:, 0]
    tenure = rows.column(next(f for f in FEATURES if f.name == "tenure"))[:, 0]
    assert int(np.isnan(charges).sum()) == 11
    assert set(tenure[np.isnan(charges)].tolist()) == {0.0}
    assert table.number("29.85") == float(np.float32(29.85)) != 29.85


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("tenure", "months", "no column tenure"),
        ("29.85,29.85,No", "29.85,much,No", "row 1: TotalCharges is `much`, not a number"),
        ("29.85,29.85,No", "29.85,29.85,Perhaps", "row 1: Churn is `Perhaps`, not one of No, Yes"),
    ],
)
def test_a_wrong_table_is_refused(
    old: str, new: str, message: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each with its place, on standard error, exit status 1, nothing written."""
    wrong = tmp_path / "wrong.csv"
    wrong.write_text(DATA.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
    assert train.main(["--data", str(wrong), "--out", str(tmp_path / "out")]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_conversion_that_differs_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One probability off by 2e-6 is enough, and nothing is written."""
    honest = model.ask_onnx

    def dishonest(onnx_model: onnx.ModelProto, rows: table.Table) -> model.Answers:
        answers = honest(onnx_model, rows)
        answers.probabilities[-1, 0] += 2e-6
        return answers

    monkeypatch.setattr(model, "ask_onnx", dishonest)
    assert train.main(["--data", str(DATA), "--out", str(tmp_path / "out")]) == 1
    assert "differs from scikit-learn" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
