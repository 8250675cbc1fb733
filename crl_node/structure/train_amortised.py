"""`python -m crl_node.structure.train_amortised`: train the amortised policy and write it as ONNX with its card.

Needs torch; nothing that runs the policy imports this. The same options and seed give the same weights on the same
machine and torch version.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Training:
    """How much, and from which seed."""

    problems: int = 6000
    steps: int = 10000
    batch: int = 512
    width: int = 32
    rate: float = 3e-3  # of Adam at its highest
    seed: int = 0


def train(options: Training, say: Callable[[str], None] = lambda _: None):  # type: ignore[no-untyped-def]
    """The trained `Correction`, in evaluation mode. One torch thread."""
    import torch
    from torch.nn.functional import softplus

    from crl_node.structure.amortised_data import Decisions, decisions, training_problem
    from crl_node.structure.nets import Correction

    torch.set_num_threads(1)
    parts, began = [], time.process_time()
    for number in range(options.problems):
        rng = np.random.default_rng([options.seed, number])
        parts.append(decisions(training_problem(rng), rng))
        if number % 1000 == 999:
            say(f"{number + 1} of {options.problems} problems, {time.process_time() - began:.0f} s")
    data = Decisions.joined(parts)
    del parts
    torch.manual_seed(options.seed)
    network = Correction(options.width)
    torch.nn.init.zeros_(network.last.weight)
    torch.nn.init.zeros_(network.last.bias)
    optimiser = torch.optim.Adam(network.parameters(), options.rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, options.rate, total_steps=options.steps)
    order = np.random.default_rng([options.seed, options.problems])
    average = 0.0
    for step in range(options.steps):
        rows = order.integers(0, len(data.row), options.batch)
        row, pair, held, base, exact, weight = (
            torch.from_numpy(getattr(data, n)[rows])
            for n in ("row", "pair", "held", "logit", "exact", "weight")
        )
        logit = base + network(row, pair, held)
        p = torch.sigmoid(exact)
        gap = softplus(logit) - p * logit - softplus(exact) + p * exact
        loss = (weight * gap).sum() / weight.sum()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        average += float(loss.detach())
        if step % 1000 == 999:
            say(f"step {step + 1} of {options.steps}: {1e3 * average / 1000:.3f} millinats, "
                f"{time.process_time() - began:.0f} s")  # fmt: skip
            average = 0.0
    return network.eval()


def main() -> None:
    """Parse, train, write, say what was written."""
    parser = argparse.ArgumentParser(prog="python -m crl_node.structure.train_amortised", description=__doc__)
    parser.add_argument("--folder", default="models", help="where the file and its card go (models)")
    for name in ("problems", "steps", "batch", "width", "seed"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Training, name))
    given = parser.parse_args()
    options = Training(given.problems, given.steps, given.batch, given.width, seed=given.seed)
    from crl_node.structure.amortised_export import export

    began = time.process_time()
    network = train(options, lambda text: print(text, file=sys.stderr, flush=True))
    seconds = time.process_time() - began
    command = (
        f"python -m crl_node.structure.train_amortised --problems {options.problems} --steps {options.steps} "
        f"--batch {options.batch} --width {options.width} --seed {options.seed}"
    )
    info = export(network, Path(given.folder), command=command, seconds=seconds)
    print(
        f"{info.path}: {info.path.stat().st_size} bytes, sha256 {info.hash[:12]}…, {seconds:.0f} s of one core"
    )


if __name__ == "__main__":
    main()
