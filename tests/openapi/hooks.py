"""What JSON Schema cannot say about a valid request, said to schemathesis.

A request that is meant to be valid gets a `shape` that fits its `data`, every input once, outputs named once, and as
many rows in all inputs. Requests that are meant to be invalid are sent as generated.
"""

import base64
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


def proper(spec: dict[str, Any], value: Any) -> Any:
    """What `format: float` and `contentEncoding: base64` mean, which schemathesis does not read.

    JSON Schema takes 5.0 for an integer as well; the server wants integers written as such.
    """
    if isinstance(value, dict):
        return {"b64": base64.b64encode(value["b64"].encode(errors="surrogatepass")).decode()}
    if spec["datatype"] == "FP32" and abs(value) > LARGEST_FLOAT:
        return 0.5
    if "INT" in spec["datatype"]:
        return int(value)
    return value


def all_proper(spec: dict[str, Any], data: Any) -> Any:
    """The same for nested arrays, and rows by name."""
    if isinstance(data, dict) and spec["name"] in data:
        return data | {spec["name"]: all_proper(spec, data[spec["name"]])}
    return [all_proper(spec, item) for item in data] if isinstance(data, list) else proper(spec, data)


def fitted(spec: dict[str, Any], data: Any, rows: int) -> tuple[list[int], Any]:
    """A shape of the model, and the data in it, repeated or cut."""
    shape = [size if size >= 0 else rows for size in spec["shape"]]
    values = [proper(spec, value) for value in flat(data)] or [DEFAULTS.get(spec["datatype"], 0)]
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
    """Writes values as they have to be, and gives whole tensors by name one row each."""
    for row in body.get("instances", []):
        if isinstance(row, dict) and "b64" not in row:
            row |= {spec["name"]: all_proper(spec, row[spec["name"]]) for spec in specs if spec["name"] in row}
    if "instances" in body and len(specs) == 1:
        body["instances"] = all_proper(specs[0], body["instances"])
    given = body.get("inputs")
    if isinstance(given, dict) and "b64" not in given:
        for spec in specs:
            name, shape = spec["name"], [size if size >= 0 else 1 for size in spec["shape"]]
            values = flat(given.get(name, [])) or [DEFAULTS.get(spec["datatype"], 0)]
            given[name] = nested(itertools.cycle(all_proper(spec, values)), shape)
    elif given is not None:
        body["inputs"] = all_proper(specs[0], given)


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, Any]) -> None:
    """Completes what is meant to be valid."""
    found = INFERENCE.match(case.operation.path)
    if found is None or case.meta is None or not case.meta.generation.mode.is_positive:
        return
    specs = inputs_of(found["model"])
    if case.media_type == "application/octet-stream":
        # Raw binary data: the whole body is the input, of two bytes a value here.
        case.headers["Inference-Header-Content-Length"] = "0"
        case.body = b"\x00\x3c" * 3
        return
    if not isinstance(case.body, dict):
        return
    complete = valid_v2 if found["protocol"] == "2" else valid_v1
    case.body = json.loads(json.dumps(case.body))
    complete(case.body, specs)
