"""The plan graph in an ONNX Runtime session: one thread, IO binding, weights in two buffers that are flipped.

Inputs and outputs are bound once and written in place, so on a GPU the unrolled build is captured as a CUDA graph, one
for each buffer set. A CUDA provider that cannot load falls back to the CPU silently in ONNX Runtime; here `provider`
and `cuda_graph` say what runs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from crl_node.export.onnx_model import load
from crl_node.export.spec import Tensor, Values, all_inputs, defaults, learned_inputs, outputs

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
#: Where a driver shows itself: without one of these the CUDA provider is not even tried by "auto".
_GPU_DEVICES = ("/dev/nvidiactl", "/dev/nvhost-ctrl-gpu", "/dev/dxg")


class SessionError(RuntimeError):
    """The session cannot be made as asked, or a call does not fit; the text says what and why."""


def _short(error: Exception) -> str:
    """ONNX Runtime's errors run over many lines."""
    return " ".join(str(error).split())[:200]


class _Bound:
    """An array and the OrtValue that is bound for it: the same memory on the CPU, a copy on a GPU."""

    def __init__(self, array: NDArray[np.generic], device: str) -> None:
        self.array, self.device = np.array(array), device
        self.value = ort.OrtValue.ortvalue_from_numpy(self.array, device, 0)

    def write(self, array: NDArray[np.generic]) -> None:
        """Put other values in; the addresses stay."""
        np.copyto(self.array, array)
        if self.device != "cpu":
            self.value.update_inplace(self.array)

    def read(self) -> NDArray[np.generic]:
        """What is in it now, as a copy."""
        return np.array(self.value.numpy())


class _Buffers:
    """A complete set of inputs and outputs, bound to the session for good: a CUDA graph remembers their addresses.

    Nobody else holds these arrays. `number` tells a device's graphs apart.
    """

    def __init__(
        self, session: ort.InferenceSession, inputs: Values, results: Values, device: str, number: int
    ) -> None:
        self.lock = threading.Lock()  # held while a call reads these or a swap writes them
        self.inputs = {name: _Bound(array, device) for name, array in inputs.items()}
        self.outputs = {name: _Bound(array, device) for name, array in results.items()}
        self.binding = session.io_binding()
        for name, bound in self.inputs.items():
            self.binding.bind_ortvalue_input(name, bound.value)
        for name, bound in self.outputs.items():
            self.binding.bind_ortvalue_output(name, bound.value)
        self.options = ort.RunOptions()
        self.options.add_run_config_entry("gpu_graph_id", str(number))  # of no meaning to the CPU


class PlanSession:
    """Runs plan calls. `swap` may be called from another thread than `run`."""

    def __init__(
        self, path: str | Path, *, provider: str = "auto", require_gpu: bool = False, data: bytes | None = None
    ) -> None:
        """`data`: the file's bytes when they were read already (`quarantine.read_examined`)."""
        if provider not in ("auto", "cpu", "cuda"):
            raise SessionError(f"provider is '{provider}', it must be auto, cpu or cuda")
        data, self.info = load(path, data)
        self.provider, self.provider_note, self.cuda_graph = "", "", False
        self.require_gpu, self._data = require_gpu, data
        self._session = self._open(data, provider, require_gpu)
        self._inputs = {tensor.name: tensor for tensor in all_inputs(self.info.shape)}
        self._learned = {tensor.name for tensor in learned_inputs(self.info.shape)}
        #: What an input holds that a call leaves out: its initialiser, else its default.
        self._start = defaults(tuple(self._inputs.values())) | {
            name: value for name, value in self._initialisers(data).items() if name in self._inputs
        }
        self._make_buffers(self._start)
        self._fixed: Values = {}
        self.swap_ms = 0.0
        self.swaps = 0

    def _open(
        self, data: bytes, provider: str, require_gpu: bool, *, graphs: bool = True
    ) -> ort.InferenceSession:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4  # the fallback is reported here, in words
        wants = provider == "cuda" or require_gpu
        available = CUDA in ort.get_available_providers()
        driver = any(Path(device).exists() for device in _GPU_DEVICES)
        if available and (wants or (provider == "auto" and driver)):
            session = self._open_on_gpu(data, options, graphs and self.info.build == "unrolled")
        else:
            session = ort.InferenceSession(data, options, providers=[CPU])
        self.provider = session.get_providers()[0]
        if self.provider != CUDA and provider != "cpu":
            reason = (
                "this build of ONNX Runtime has no CUDA provider" if not available
                else "the CUDA provider did not load" if wants or driver else "there is no NVIDIA driver"
            )  # fmt: skip
            self.provider_note = f"planning on the CPU: {reason}"
            if require_gpu:
                raise SessionError(f"a GPU is required, but {reason} (provider in use: {self.provider})")
        return session

    def _open_on_gpu(self, data: bytes, options: ort.SessionOptions, graph: bool) -> ort.InferenceSession:
        """On the GPU where it loads, as a CUDA graph if asked and all of the plan can run there."""
        if graph:
            captured = (CUDA, {"enable_cuda_graph": "1"})
            try:
                session = ort.InferenceSession(data, options, providers=[captured, CPU], enable_fallback=0)
            except RuntimeError as error:  # ONNX Runtime refuses when an operator would run on the CPU
                self.provider_note = f"planning without a CUDA graph: {_short(error)}"
            else:
                self.cuda_graph = session.get_providers()[0] == CUDA
                return session
        return ort.InferenceSession(data, options, providers=[CUDA, CPU])

    def _fall_back(self, error: Exception) -> None:
        """Plan without the CUDA graph that failed, or without the GPU that is gone; with the weights in use. Say so."""
        live = {name: np.array(bound.array) for name, bound in self._buffers[self._live].inputs.items()}
        graph, self.cuda_graph = self.cuda_graph, False
        self._session = self._open(self._data, "cuda" if graph else "cpu", False, graphs=False)
        self._make_buffers(live)
        if self.provider == CUDA:
            self.provider_note = f"the CUDA graph failed ({_short(error)}): planning on the GPU without it from now on"
        else:
            self.provider_note = f"the GPU was lost while planning ({_short(error)}): planning on the CPU from now on"

    def _make_buffers(self, start: Values) -> None:
        results, device = defaults(outputs(self.info.shape)), "cuda" if self.provider == CUDA else "cpu"
        self._buffers = (
            _Buffers(self._session, start, results, device, 1),
            _Buffers(self._session, start, results, device, 2),
        )
        self._live = 0

    @staticmethod
    def _initialisers(data: bytes) -> Values:
        import onnx

        graph = onnx.load_model_from_string(data).graph
        return {tensor.name: np.array(onnx.numpy_helper.to_array(tensor)) for tensor in graph.initializer}

    @property
    def version(self) -> int:
        """Posterior version of the live weights."""
        return int(self._buffers[self._live].inputs["posterior_version"].array[0])

    def _checked(self, name: str, value: NDArray[np.generic]) -> NDArray[np.generic]:
        tensor: Tensor | None = self._inputs.get(name)
        if tensor is None:
            raise SessionError(f"the plan graph has no input '{name}' (it has {', '.join(self._inputs)})")
        array = np.ascontiguousarray(value, dtype=tensor.dtype)
        if array.shape != tensor.shape:
            raise SessionError(f"plan input '{name}' has shape {array.shape}, the graph takes {tensor.shape}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise SessionError(
                f"plan input '{name}' holds {int((~np.isfinite(array)).sum())} non-finite values; not planning"
            )
        return array

    def fix(self, **values: NDArray[np.generic]) -> None:
        """Set inputs that stay the same for all further calls (workspace, camera…)."""
        self._fixed.update({name: np.array(self._checked(name, value)) for name, value in values.items()})

    def swap(self, values: Mapping[str, NDArray[np.generic]]) -> float:
        """Put new learned values in without reloading; returns the milliseconds it took.

        They are copied into the set that is not in use, then the sets are flipped: a running call keeps the old ones.
        """
        began = time.perf_counter()
        missing = sorted(self._learned - set(values))
        if missing:
            raise SessionError(f"new weights lack '{missing[0]}'; keeping the old ones")
        checked = {name: self._checked(name, values[name]) for name in self._learned}
        spare = self._buffers[1 - self._live]
        with spare.lock:  # waits only if a call that began before the last swap still reads it
            for name, array in checked.items():
                spare.inputs[name].write(array)
        self._live = 1 - self._live
        self.swaps += 1
        self.swap_ms = 1e3 * (time.perf_counter() - began)
        return self.swap_ms

    def warm(self) -> Values:
        """A plan about an empty table with each set of weights: the first real one must not pay for what is done once.

        On a GPU that is where CUDA graphs are captured.
        """
        absent = {t.name: t for t in all_inputs(self.info.shape) if t.name not in self.info.optional}
        empty = {name: np.full(t.shape, t.default, t.dtype) for name, t in absent.items()}
        self._run(self._buffers[1 - self._live], empty)
        return self.run(empty)

    def run(self, values: Mapping[str, NDArray[np.generic]]) -> Values:
        """One plan. `values` must hold every input without an initialiser; all outputs come back, as copies.

        An input with an initialiser that is left out has that value, whatever earlier calls gave.
        """
        return self._run(self._buffers[self._live], values)

    def _run(self, buffers: _Buffers, values: Mapping[str, NDArray[np.generic]]) -> Values:
        call = {name: self._checked(name, value) for name, value in {**self._fixed, **values}.items()}
        missing = sorted(set(self._inputs) - set(call) - self.info.optional)
        if missing:
            raise SessionError(f"plan call lacks the input '{missing[0]}', which has no initialiser")
        learned = sorted(self._learned & set(call))
        if learned:
            raise SessionError(f"plan call holds the learned input '{learned[0]}'; use swap()")
        with buffers.lock:
            for name, bound in buffers.inputs.items():
                if name not in self._learned:
                    bound.write(call.get(name, self._start[name]))
            try:
                self._session.run_with_iobinding(buffers.binding, buffers.options)
                return {name: bound.read() for name, bound in buffers.outputs.items()}
            except Exception as error:  # ONNX Runtime has no exception of its own for a device that is gone
                if self.provider != CUDA or self.require_gpu:
                    raise SessionError(f"the plan failed on {self.provider}: {error}") from error
                self._fall_back(error)
        return self.run(values)
