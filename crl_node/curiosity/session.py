"""The plan graph in an ONNX Runtime session: one thread, IO binding, weights in two buffers that are flipped.

A CUDA provider that cannot load falls back to the CPU silently in ONNX Runtime; here `provider` says what runs.
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
from crl_node.export.spec import Tensor, Values, all_inputs, learned_inputs, outputs

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
#: Where a driver shows itself: without one of these the CUDA provider is not even tried by "auto".
_GPU_DEVICES = ("/dev/nvidiactl", "/dev/nvhost-ctrl-gpu", "/dev/dxg")


class SessionError(RuntimeError):
    """The session cannot be made as asked, or a call does not fit; the text says what and why."""


class _Buffers:
    """One complete set of learned inputs, bound to the session. Its values are copies that nobody else holds."""

    def __init__(self, session: ort.InferenceSession, values: Values, device: str) -> None:
        self.lock = threading.Lock()  # held while a call reads these or a swap writes them
        self.arrays = {name: np.array(value) for name, value in values.items()}
        # On the CPU an OrtValue aliases its array: these arrays are private to this set.
        self.values = {
            name: ort.OrtValue.ortvalue_from_numpy(array, device, 0) for name, array in self.arrays.items()
        }
        self.binding = session.io_binding()
        for name, value in self.values.items():
            self.binding.bind_ortvalue_input(name, value)


class PlanSession:
    """Runs plan calls. `swap` may be called from another thread than `run`."""

    def __init__(
        self, path: str | Path, *, provider: str = "auto", require_gpu: bool = False, data: bytes | None = None
    ) -> None:
        """`data`: the file's bytes when they were read already (`quarantine.read_examined`)."""
        if provider not in ("auto", "cpu", "cuda"):
            raise SessionError(f"provider is '{provider}', it must be auto, cpu or cuda")
        data, self.info = load(path, data)
        self.provider, self.provider_note = "", ""
        self.require_gpu, self._data = require_gpu, data
        self._session = self._open(data, provider, require_gpu)
        self._device = "cuda" if self.provider == CUDA else "cpu"
        self._inputs = {tensor.name: tensor for tensor in all_inputs(self.info.shape)}
        self._learned = {tensor.name for tensor in learned_inputs(self.info.shape)}
        start = {name: value for name, value in self._initialisers(data).items() if name in self._learned}
        self._make_buffers(start)
        self._fixed: Values = {}
        self.swap_ms = 0.0
        self.swaps = 0

    def _open(self, data: bytes, provider: str, require_gpu: bool) -> ort.InferenceSession:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4  # the fallback is reported here, in words
        wants = provider == "cuda" or require_gpu
        available = CUDA in ort.get_available_providers()
        driver = any(Path(device).exists() for device in _GPU_DEVICES)
        if available and (wants or (provider == "auto" and driver)):
            session = ort.InferenceSession(data, options, providers=[CUDA, CPU])
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

    def _leave_gpu(self, error: Exception) -> None:
        """The GPU is gone: plan on the CPU with the weights in use, and say so."""
        live = {name: np.array(array) for name, array in self._buffers[self._live].arrays.items()}
        self._session = self._open(self._data, "cpu", False)
        self._device = "cpu"
        self._make_buffers(live)
        text = " ".join(str(error).split())[:200]
        self.provider_note = f"the GPU was lost while planning ({text}): planning on the CPU from now on"

    def _make_buffers(self, start: Values) -> None:
        self._buffers = (
            _Buffers(self._session, start, self._device),
            _Buffers(self._session, start, self._device),
        )
        self._live = 0
        for buffers in self._buffers:
            for tensor in outputs(self.info.shape):
                buffers.binding.bind_output(tensor.name, "cpu")

    @staticmethod
    def _initialisers(data: bytes) -> Values:
        import onnx

        graph = onnx.load_model_from_string(data).graph
        return {tensor.name: np.array(onnx.numpy_helper.to_array(tensor)) for tensor in graph.initializer}

    @property
    def version(self) -> int:
        """Posterior version of the live weights."""
        return int(self._buffers[self._live].arrays["posterior_version"][0])

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
                np.copyto(spare.arrays[name], array)
                if self._device != "cpu":
                    spare.values[name].update_inplace(spare.arrays[name])
        self._live = 1 - self._live
        self.swaps += 1
        self.swap_ms = 1e3 * (time.perf_counter() - began)
        return self.swap_ms

    def warm(self) -> Values:
        """One plan about an empty table, so that the first real one does not pay for what is done once."""
        absent = {t.name: t for t in all_inputs(self.info.shape) if t.name not in self.info.optional}
        return self.run({name: np.full(t.shape, t.default, t.dtype) for name, t in absent.items()})

    def run(self, values: Mapping[str, NDArray[np.generic]]) -> Values:
        """One plan. `values` must hold every input without an initialiser; all outputs come back, as copies."""
        call = {name: self._checked(name, value) for name, value in {**self._fixed, **values}.items()}
        missing = sorted(set(self._inputs) - set(call) - self.info.optional)
        if missing:
            raise SessionError(f"plan call lacks the input '{missing[0]}', which has no initialiser")
        learned = sorted(self._learned & set(call))
        if learned:
            raise SessionError(f"plan call holds the learned input '{learned[0]}'; use swap()")
        buffers = self._buffers[self._live]
        with buffers.lock:
            for name, array in call.items():
                # Not bind_cpu_input: it does not know inputs that also have an initialiser.
                value = ort.OrtValue.ortvalue_from_numpy(array, "cpu", 0)
                buffers.binding.bind_ortvalue_input(name, value)
            try:
                self._session.run_with_iobinding(buffers.binding)
                results = buffers.binding.copy_outputs_to_cpu()
            except Exception as error:  # ONNX Runtime has no exception of its own for a device that is gone
                if self.provider != CUDA or self.require_gpu:
                    raise SessionError(f"the plan failed on {self.provider}: {error}") from error
                self._leave_gpu(error)
                return self.run(values)
        return {t.name: np.array(r) for t, r in zip(outputs(self.info.shape), results, strict=True)}
