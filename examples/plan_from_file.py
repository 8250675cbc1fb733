"""Plans from a model file with onnxruntime and numpy alone: python examples/plan_from_file.py runs/latest/model.onnx"""

import os
import sys

import numpy as np

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # otherwise it sends usage data to its makers
import onnxruntime

onnxruntime.set_default_logger_severity(3)  # it warns of every input that has a default
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
needed = {value.name: np.zeros(value.shape, np.float32) for value in session.get_inputs()}
slots, (candidates, horizon, _) = len(needed["exists"]), needed["proposals"].shape

# A scene: the tip (row 0) and one thing in front of it. Metres, in the robot's base frame.
needed["position"][:2] = [[0.45, 0.0], [0.60, 0.05]]
needed["exists"][:2] = 1.0
needed["position_variance"][:] = 1e-6
noise = np.random.default_rng(0).standard_normal((candidates, 1, 2))
needed["proposals"][:] = 0.15 * noise + 0.05 * np.random.default_rng(1).standard_normal((candidates, horizon, 2))

names = [output.name for output in session.get_outputs()]
plan = dict(zip(names, session.run(names, needed), strict=True))
structure, parameters, states = plan["best_gain"]
print(f"model version {plan['version'][0]}, first command {plan['best_actions'][0]} m/s")
print(f"expected information: structure {structure:.2f}, parameters {parameters:.2f}, states {states:.2f} nats")
