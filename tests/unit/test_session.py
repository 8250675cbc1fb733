"""The planning session: swaps without reloading, never writes into what a call reads, says where it runs."""

from __future__ import annotations

import threading

import numpy as np
import onnxruntime
import pytest

from crl_node.curiosity.session import CPU, CUDA, PlanSession, SessionError
from crl_node.export.spec import Values, learned_inputs, posterior_values
from crl_node.paths import share
from tests.support.plan_inputs import random_call, random_posterior

MODEL = share() / "models" / "plan_s12_p96_k16_n64_h30_i2.onnx"


@pytest.fixture
def session() -> PlanSession:
    return PlanSession(MODEL, provider="cpu")


class Failing:
    """What a session looks like from here when the device, or what was captured on it, fails."""

    def __init__(self, text: str) -> None:
        self.text = text

    def run_with_iobinding(self, binding: object, options: object) -> None:
        raise RuntimeError(self.text)


def call_of(session: PlanSession, seed: int = 0) -> Values:
    learned = {tensor.name for tensor in learned_inputs(session.info.shape)}
    return {k: v for k, v in random_call(session.info.shape, seed).items() if k not in learned}


def test_swap_changes_the_outcome_without_reloading(session: PlanSession, monkeypatch: pytest.MonkeyPatch) -> None:
    call = call_of(session)
    monkeypatch.setattr(onnxruntime, "InferenceSession", None)  # any reload would fail
    first = session.run(call)
    session.swap(posterior_values(random_posterior(1, version=8)))
    second = session.run(call)
    session.swap(posterior_values(random_posterior(2, version=9)))
    third = session.run(call)
    assert [int(out["version"][0]) for out in (first, second, third)] == [0, 8, 9]
    assert not np.allclose(first["scores"], second["scores"])
    assert not np.allclose(second["scores"], third["scores"])
    assert session.swaps == 2
    assert session.swap_ms > 0


def test_swapping_back_gives_the_same_bytes_again(session: PlanSession) -> None:
    call, one, two = call_of(session), posterior_values(random_posterior(1)), posterior_values(random_posterior(2))
    session.swap(one)
    first = session.run(call)
    session.swap(two)
    session.run(call)
    session.swap(one)
    again = session.run(call)
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])


def test_neither_the_givers_arrays_nor_the_live_set_are_aliased(session: PlanSession) -> None:
    values = posterior_values(random_posterior(1))
    session.swap(values)
    live, spare = session._buffers[session._live], session._buffers[1 - session._live]
    for name, array in values.items():
        assert not np.shares_memory(array, live.inputs[name].array)
        assert not np.shares_memory(live.inputs[name].array, spare.inputs[name].array)
    before = session.run(call_of(session))
    for array in values.values():
        array[...] = 0
    np.testing.assert_array_equal(before["scores"], session.run(call_of(session))["scores"])


def test_swap_writes_only_into_the_set_that_is_not_live(session: PlanSession) -> None:
    session.swap(posterior_values(random_posterior(1)))
    live = session._buffers[session._live]
    kept = {name: bound.array.copy() for name, bound in live.inputs.items()}
    session.swap(posterior_values(random_posterior(2)))
    assert session._buffers[session._live] is not live
    for name, bound in live.inputs.items():
        np.testing.assert_array_equal(bound.array, kept[name])


def test_swap_waits_for_a_call_that_still_reads_the_spare_set(session: PlanSession) -> None:
    spare = session._buffers[1 - session._live]
    spare.lock.acquire()  # as a call does that began before the last swap
    done = threading.Event()
    thread = threading.Thread(target=lambda: (session.swap(posterior_values(random_posterior(1))), done.set()))
    thread.start()
    assert not done.is_set()
    version = session.version
    spare.lock.release()
    thread.join(timeout=30)
    assert done.is_set()
    assert version == 0
    assert session.version == 3


def test_outputs_are_copies_that_a_later_call_does_not_change(session: PlanSession) -> None:
    first = session.run(call_of(session, 0))
    kept = first["best_actions"].copy()
    session.run(call_of(session, 1))
    np.testing.assert_array_equal(first["best_actions"], kept)


def test_non_finite_missing_misshapen_and_unknown_inputs_are_refused_in_words(session: PlanSession) -> None:
    call = call_of(session)
    with pytest.raises(SessionError, match="'position' holds 1 non-finite values"):
        bad = call["position"].copy()
        bad[0, 0] = np.nan
        session.run({**call, "position": bad})
    with pytest.raises(SessionError, match="lacks the input 'position'"):
        session.run({k: v for k, v in call.items() if k != "position"})
    with pytest.raises(SessionError, match=r"'exists' has shape \(3,\), the graph takes \(12,\)"):
        session.run({**call, "exists": np.ones(3)})
    with pytest.raises(SessionError, match="no input 'colour'"):
        session.run({**call, "colour": np.ones(3)})
    with pytest.raises(SessionError, match="use swap"):
        session.run({**call, "weight_mean": np.zeros(96, np.float32)})


def test_incomplete_weights_are_refused_and_the_old_ones_stay(session: PlanSession) -> None:
    values = posterior_values(random_posterior(1, version=8))
    session.swap(values)
    broken = {k: v for k, v in posterior_values(random_posterior(2, version=9)).items() if k != "noise_std"}
    with pytest.raises(SessionError, match="lack 'noise_std'; keeping the old ones"):
        session.swap(broken)
    assert session.version == 8


def test_cpu_is_named_and_a_missing_gpu_is_said(session: PlanSession) -> None:
    assert session.provider == CPU
    assert session.provider_note == ""
    automatic = PlanSession(MODEL)
    assert automatic.provider in (CPU, CUDA)
    assert automatic.provider == CUDA or "planning on the CPU: " in automatic.provider_note


def test_a_gpu_that_is_required_but_does_not_load_is_an_error_not_a_silent_fallback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CPU])
    with pytest.raises(SessionError, match="a GPU is required, but .* no CUDA provider"):
        PlanSession(MODEL, require_gpu=True)


def test_unknown_provider_is_refused() -> None:
    with pytest.raises(SessionError, match="must be auto, cpu or cuda"):
        PlanSession(MODEL, provider="tpu")


def test_a_gpu_that_is_lost_while_planning_leaves_the_cpu_with_the_weights_in_use(session: PlanSession) -> None:
    session.swap(posterior_values(random_posterior(1, version=8)))
    wanted = session.run(call_of(session))

    session._session, session.provider = Failing("CUDA failure 999: unknown error ; GPU=0"), CUDA
    got = session.run(call_of(session))
    assert session.provider == CPU
    assert "the GPU was lost while planning (CUDA failure 999" in session.provider_note
    assert int(got["version"][0]) == 8
    for name, value in wanted.items():
        np.testing.assert_array_equal(got[name], value)


def test_a_cuda_graph_that_fails_is_left_before_the_gpu_is(session: PlanSession) -> None:
    session.swap(posterior_values(random_posterior(1, version=8)))
    wanted = session.run(call_of(session))
    asked: list[tuple[str, bool]] = []
    opens = session._open

    def noted(data: bytes, provider: str, require_gpu: bool, *, graphs: bool = True) -> onnxruntime.InferenceSession:
        asked.append((provider, graphs))
        return opens(data, provider, require_gpu, graphs=graphs)

    session._open = noted  # type: ignore[method-assign]
    failing = Failing("CUDA error cudaErrorStreamCaptureUnsupported")
    session._session, session.provider, session.cuda_graph = failing, CUDA, True  # type: ignore[assignment]
    got = session.run(call_of(session))
    assert asked == [("cuda", False)]
    assert not session.cuda_graph
    for name, value in wanted.items():
        np.testing.assert_allclose(got[name], value, atol=1e-5)


def test_what_a_call_leaves_out_is_what_the_file_says_again(session: PlanSession) -> None:
    call = call_of(session)
    without = {name: value for name, value in call.items() if name not in ("jams", "goal", "goal_weight")}
    first = session.run(without)
    goal = np.full_like(call["goal"], 0.5)
    other = session.run({**without, "goal": goal, "goal_weight": np.full_like(call["goal_weight"], 50.0)})
    again = session.run(without)
    assert not np.array_equal(first["scores"], other["scores"])
    np.testing.assert_array_equal(first["scores"], again["scores"])


def test_inputs_and_outputs_stay_where_they_were_bound(session: PlanSession) -> None:
    """A captured CUDA graph reads and writes the addresses of its first run."""
    session.warm()
    places = [
        {name: bound.value.data_ptr() for name, bound in {**b.inputs, **b.outputs}.items()} for b in session._buffers
    ]
    session.swap(posterior_values(random_posterior(1)))
    session.run(call_of(session))
    for buffers, before in zip(session._buffers, places, strict=True):
        assert {name: bound.value.data_ptr() for name, bound in {**buffers.inputs, **buffers.outputs}.items()} == before


def test_a_gpu_that_is_required_and_lost_stops_the_planning(session: PlanSession) -> None:
    session._session, session.provider, session.require_gpu = Failing("CUDA failure 999"), CUDA, True
    with pytest.raises(SessionError, match="the plan failed on CUDAExecutionProvider"):
        session.run(call_of(session))


def test_a_session_is_warm_before_it_plans(session: PlanSession) -> None:
    assert np.isfinite(session.warm()["scores"]).all()
