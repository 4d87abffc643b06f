"""Offline model kit of jetbench: trains, exports and checks the two miniature trackers that ship with the repository.

Nothing in this package is needed to run the benchmark. It exists so that the shipped weights are reproducible: every
file under the models folder can be rebuilt from random numbers with the commands listed by ``python -m jetbench_models``.
"""

import os

__version__ = "0.1.0"

# ONNX Runtime 1.29 and newer reports to its makers as it is imported, unless it is told not to.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
