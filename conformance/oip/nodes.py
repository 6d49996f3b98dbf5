"""Serves every ONNX node test that ONNX Runtime passes, and compares the answers bit for bit.

Usage: python -m oip.nodes --server target/release/plumbline-model-server
"""

from __future__ import annotations

import argparse
import collections
import pathlib
import re
import sys
import tempfile
import time
from collections.abc import Callable

from . import mapping, tensors
from .reference import Case, collect
from .report import TOLD
from .rest import RefusedError, Rest
from .rpc import Rpc
from .server import Server
from .tensors import Tensor

#: Fewer cases than these mean that the collection is broken, not that the server is good.
MINIMUM = {"REST binary": 1590, "gRPC raw": 1590, "REST JSON": 1515, "gRPC typed": 1530}
#: Models that one server serves at a time.
BATCH = 400


def main() -> int:
    """Run all cases; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", type=pathlib.Path, required=True, help="the server's binary")
    parser.add_argument(
        "--only", default="", help="cases whose name matches this pattern; the minimum is not asked for"
    )
    options = parser.parse_args()
    started = time.monotonic()
    collected = collect()
    cases = [case for case in collected.cases if re.search(options.only, case.name)]
    print(f"ONNX node tests generated    {collected.generated}")
    for reason, count in sorted(collected.excluded.items()):
        print(f"  not asked: {count:>4}  {reason}")
    print(f"  asked:     {len(cases):>4}  which ONNX Runtime passes and the protocol can carry")
    wrapped = sum(case.wrapped for case in cases)
    print(
        f"             {wrapped:>4}  of them with sequences or optionals as inputs, made of tensors by nodes in front"
    )
    mapped = sum(any(isinstance(value, list) for value in case.outputs.values()) for case in cases)
    print(f"             {mapped:>4}  of them with sequences as outputs, which the server maps to tensors")
    results = Results()
    for start in range(0, len(cases), BATCH):
        serve(options.server, cases[start : start + BATCH], results)
    failed = results.table(not options.only)
    print(
        f"nodes: {'FAILED' if failed else 'every answer is that of ONNX Runtime'}, {time.monotonic() - started:.0f} s"
    )
    return 1 if failed else 0


class Results:
    """What came out, by way of asking."""

    def __init__(self) -> None:
        self._equal: collections.Counter[str] = collections.Counter()
        self._other: dict[str, list[str]] = {way: [] for way in MINIMUM}
        self._left_out: dict[str, collections.Counter[str]] = {way: collections.Counter() for way in MINIMUM}

    def equal(self, way: str) -> None:
        """One case is bit-equal."""
        self._equal[way] += 1

    def other(self, way: str, case: Case, what: str) -> None:
        """One case is not."""
        self._other[way].append(f"{case.name}: {what}")

    def left_out(self, way: str, reason: str) -> None:
        """One case cannot be asked this way."""
        self._left_out[way][reason] += 1

    def table(self, enough: bool) -> bool:
        """Print a row a way and the differences; whether anything is wrong."""
        wrong = False
        for way, minimum in MINIMUM.items():
            equal, other = self._equal[way], self._other[way]
            few = enough and equal < minimum
            wrong |= bool(other) or few
            print(
                f"{way:<12} {equal:>5} bit-equal {len(other):>5} not" + (f", expected {minimum}: FAILED" if few else "")
            )
            for reason, count in sorted(self._left_out[way].items()):
                print(f"  not asked: {count:>4}  {reason}")
            for line in other[:TOLD]:
                print(f"  FAILED {line}")
            if len(other) > TOLD:
                print(f"  FAILED and {len(other) - TOLD} more")
        return wrong


def serve(binary: pathlib.Path, cases: list[Case], results: Results) -> None:
    """Serve the cases' models from one repository and ask for each."""
    with tempfile.TemporaryDirectory() as root:
        repository = pathlib.Path(root)
        for case in cases:
            (repository / case.name).mkdir()
            (repository / case.name / "model.onnx").write_bytes(case.model)
        arguments = ["--model-repository", root, "--instances", "1", "--nan-policy", "literal"]
        # Explicit: a model that does not load is a failure of its own, not of the whole server.
        arguments += ["--model-control", "explicit", "--load-model", "*"]
        with Server(binary, *arguments) as server:
            rest, rpc = Rest(server.address), Rpc(server.address)
            try:
                for case in cases:
                    ask(case, rest, rpc, results)
            finally:
                rest.close()
                rpc.close()


def ask(case: Case, rest: Rest, rpc: Rpc, results: Results) -> None:
    """The four ways."""
    one(case, "REST binary", lambda: rest.infer_binary(case.name, case.inputs), results)
    one(case, "gRPC raw", lambda: rpc.infer(case.name, case.inputs, raw=True), results)
    if not case.is_text:
        for way in ("REST JSON", "gRPC typed"):
            results.left_out(way, "FP16 or BF16, which have raw forms only")
        return
    one(case, "gRPC typed", lambda: rpc.infer(case.name, case.inputs, raw=False), results)
    if any(tensors.has_non_finite(one) for one in case.inputs):
        refused(case, rest, results)
    else:
        one(case, "REST JSON", lambda: rest.infer_json(case.name, case.inputs), results)


def refused(case: Case, rest: Rest, results: Results) -> None:
    """JSON has no NaN and no infinity: bare words for them are malformed."""
    try:
        rest.infer_json(case.name, case.inputs)
        results.other("REST JSON", case, "NaN or infinity in an input is not refused")
    except RefusedError as error:
        if str(error).startswith("400 ") and "malformed_json" in str(error):
            results.left_out("REST JSON", "an input with NaN or infinity, which JSON has no form for: refused with 400")
        else:
            results.other("REST JSON", case, str(error))


def one(case: Case, way: str, infer: Callable[[], list[Tensor]], results: Results) -> None:
    """Ask one way and compare."""
    try:
        got = {output.name: output for output in infer()}
    except Exception as error:  # whatever a client raises is the server's answer
        results.other(way, case, f"{type(error).__name__}: {error}"[:300])
        return
    # A NaN in JSON has no sign and no payload; every other bit has to come through.
    exact_nan = way != "REST JSON"
    for expected in mapping.expected(case.outputs):
        difference = tensors.difference(expected, got.pop(expected.name, None), exact_nan=exact_nan)
        if difference is not None:
            results.other(way, case, difference)
            return
    if got:
        results.other(way, case, f"unexpected outputs {sorted(got)}")
        return
    results.equal(way)


if __name__ == "__main__":
    sys.exit(main())
