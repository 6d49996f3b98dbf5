"""What JSON Schema cannot say about a valid request, said to schemathesis.

A request that is meant to be valid gets a `shape` that fits its `data`, every input once, outputs named once, and as
many rows in all inputs. Requests that are meant to be invalid are sent as generated.
"""

import itertools
import json
import math
import os
import re
import urllib.parse
import urllib.request
from functools import cache
from typing import Any

import schemathesis

BASE = os.environ["PLUMBLINE_URL"]
INFERENCE = re.compile(r"/v(?P<protocol>[12])/models/(?P<model>[^/:]+)(/infer|:predict)$")
LARGEST_FLOAT = 3.4028234663852886e38
DEFAULTS = {"BYTES": "", "BOOL": False}


@cache
def inputs_of(model: str) -> list[dict[str, Any]]:
    """The model's inputs, as its metadata has them."""
    with urllib.request.urlopen(f"{BASE}/v2/models/{model}", timeout=10) as answer:
        return json.load(answer)["inputs"]


def flat(data: Any) -> list:
    """The values of nested arrays."""
    return [value for item in data for value in flat(item)] if isinstance(data, list) else [data]


def nested(values: Any, shape: list[int]) -> Any:
    """Arrays of this shape, from an iterator of values."""
    return [nested(values, shape[1:]) for _ in range(shape[0])] if shape else next(values)


def in_range(spec: dict[str, Any], value: Any) -> Any:
    """What `format: float` means, which schemathesis does not read: numbers of single precision."""
    return 0.5 if spec["datatype"] == "FP32" and abs(value) > LARGEST_FLOAT else value


def ranged(spec: dict[str, Any], data: Any) -> Any:
    """The same for nested arrays, and rows by name."""
    if isinstance(data, dict):
        return {name: ranged(spec, value) for name, value in data.items()}
    return [ranged(spec, item) for item in data] if isinstance(data, list) else in_range(spec, data)


def fitted(spec: dict[str, Any], data: Any, rows: int) -> tuple[list[int], Any]:
    """A shape of the model, and the data in it, repeated or cut."""
    shape = [size if size >= 0 else rows for size in spec["shape"]]
    values = [in_range(spec, value) for value in flat(data)] or [DEFAULTS.get(spec["datatype"], 0)]
    is_nested = isinstance(data, list) and any(isinstance(item, list) for item in data)
    form = shape if is_nested else [math.prod(shape)]
    return shape, nested(itertools.cycle(values), form)


def valid_v2(body: dict[str, Any], specs: list[dict[str, Any]]) -> None:
    """Makes the inputs fit each other and the model."""
    given = {tensor["name"]: tensor for tensor in body["inputs"]}
    rows = 1 + sum(len(flat(tensor["data"])) for tensor in given.values()) % 3
    body["inputs"] = []
    for spec in specs:
        tensor = given.get(spec["name"], {"name": spec["name"], "datatype": spec["datatype"], "data": []})
        tensor["shape"], tensor["data"] = fitted(spec, tensor["data"], rows)
        body["inputs"].append(tensor)
    if body.get("outputs"):
        body["outputs"] = list({output["name"]: output for output in body["outputs"]}.values())


def valid_v1(body: dict[str, Any], specs: list[dict[str, Any]]) -> None:
    """Puts numbers in range, and gives whole tensors by name one row each."""
    only = specs[0] if len(specs) == 1 else None
    for form, given in body.items():
        if form not in ("inputs", "instances"):
            continue
        if only and only["datatype"] == "FP32" and (form == "instances" or not isinstance(given, dict)):
            body[form] = ranged(only, given)
        elif form == "inputs" and isinstance(given, dict) and "b64" not in given:
            for spec in specs:
                name, shape = spec["name"], [size if size >= 0 else 1 for size in spec["shape"]]
                values = flat(given.get(name, [])) or [DEFAULTS.get(spec["datatype"], 0)]
                given[name] = nested(itertools.cycle(ranged(spec, values)), shape)


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, Any]) -> None:
    """Completes what is meant to be valid."""
    found = INFERENCE.match(case.operation.path)
    if found is None or case.meta is None or not case.meta.generation.mode.is_positive:
        return
    if not isinstance(case.body, dict):
        return
    specs = inputs_of(found["model"])
    complete = valid_v2 if found["protocol"] == "2" else valid_v1
    case.body = json.loads(json.dumps(case.body))
    complete(case.body, specs)
