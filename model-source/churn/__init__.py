"""The example model: which customers of a telephone company leave.

[`table`](table.py) reads and splits the rows, [`model`](model.py) fits them and converts the fit to ONNX,
[`profile`](profile.py) describes the reference rows for the drift monitor, [`train`](train.py) puts them together.
"""

__version__ = "0.1.0"
