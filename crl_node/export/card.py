"""The model card: what goes into a plan file, what comes out, in which units, and how it was made."""

from __future__ import annotations

from crl_node.export.onnx_model import ModelInfo
from crl_node.export.spec import Tensor, call_inputs, learned_inputs, outputs, setting_inputs


def _table(tensors: tuple[Tensor, ...], optional: frozenset[str] | None) -> str:
    head = "| name | type | shape | meaning |" + (" may be left out |" if optional is not None else "")
    rule = "|---|---|---|---|" + ("---|" if optional is not None else "")
    rows = [
        f"| `{t.name}` | {t.dtype} | {list(t.shape)} | {t.meaning} |"
        + (f" {'yes' if t.name in optional else 'no'} |" if optional is not None else "")
        for t in tensors
    ]
    return "\n".join([head, rule, *rows])


def model_card(info: ModelInfo, size: int, nodes: int = 0) -> str:
    """Markdown beside the file. `size` in bytes, `nodes` operators (0: not counted)."""
    n = info.shape
    learned = (
        f"version {info.posterior_version}, hash `{info.posterior_hash}`, slots {list(info.slot_ids)}"
        if info.posterior_hash
        else "nothing yet: the initialisers mean an empty model"
    )
    how = "the steps in one Scan" if info.build == "scan" else "no Loop, Scan or If"
    return f"""# {info.path.name}

One call plans: {n.candidates} candidate action sequences of {n.horizon} steps are rolled out under the learned
mechanisms, valued by the information they are expected to bring about structure, parameters and states, and
improved by iCEM ({n.iterations} iterations, {n.elites} elites). It needs onnxruntime and nothing else.

- sizes: {n.slots} slots (row 0 is the robot's tip), {n.terms} terms ({n.body_terms} of them about the tip),
  {n.particles} particles
- learned: {learned}
- ONNX opset {info.opset}, {f"{nodes} operators, " if nodes else ""}static shapes, {how}, no data outside the
  file, {size} bytes
- sha256 of the file with the hash itself blanked: `{info.hash}`

## Inputs: learned
{_table(learned_inputs(n), info.optional)}

`term_kind`: 0 inertia, 1 action, 2 drift x, 3 drift y, 4 push, 5 drag, 6 spring, 7 wall, 20 decay, 21 glow,
22 lit by, 23 toggled by, 24 touch. The change of a slot in one step is the sum over its terms of weight times feature.

## Inputs: settings
{_table(setting_inputs(n), info.optional)}

## Inputs: every call
{_table(call_inputs(n), info.optional)}

## Outputs
{_table(outputs(n), None)}

## How it was made
`crl export --candidates {n.candidates} --horizon {n.horizon} --iterations {n.iterations} \
--build {info.build}` traces the pieces of `crl_node/export/plan_graph.py` with `torch.onnx.export` and joins them;
a run fills in what its robot has learned
(`crl_node.export.onnx_model.write_model`). Scores agree with the torch reference to 1e-4.

## Limits
The rollout follows the mean model, one trajectory a candidate: what several possible worlds would do differently
enters the value, not the path. Information about weights is a sum over terms (their correlations are left out), about
structure it is estimated from the variance of the particles' predictions and is never more than the entropy of each
variable's term sets among them. At most {n.body_terms} motion terms may have the tip as their target.
"""
