"""The causal world model as one object: observe transitions, refine the structure posterior, predict.

No clocks and no hidden randomness: the same beliefs, actions and calls give the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from crl_node import graph as causal_graph
from crl_node import prediction
from crl_node.checkpoint import FORMAT, Arrays, CheckpointError, read_arrays, write_arrays
from crl_node.data import BODY, MAX_SLOTS, STATE_SIZE, Array, Belief, Edge, Posterior, TermKind
from crl_node.mechanisms import grammar, tail, terms
from crl_node.mechanisms.environments import renamed
from crl_node.mechanisms.registry import Registry
from crl_node.mechanisms.statistics import bounded_influence
from crl_node.mechanisms.watch import Watch
from crl_node.model_config import ModelConfig as ModelConfig
from crl_node.model_config import Observation as Observation
from crl_node.posterior import PARTICLES, sealed
from crl_node.structure import prior
from crl_node.structure.induction import Induction
from crl_node.structure.planner_terms import select
from crl_node.structure.variables import BRIGHTNESS_NOISE, MOTION_NOISE, Variables


def _position_variance(belief: Belief, rows: np.ndarray) -> Array:
    """m^2 of the axis that is known worse, for each of `rows`; of no meaning where a row is -1."""
    return np.asarray(np.maximum(belief.cov[rows, 0, 0], belief.cov[rows, 1, 1]))


class WorldModel:
    """Bayesian mechanisms with structure uncertainty over up to MAX_SLOTS slots."""

    def __init__(self, config: ModelConfig | None = None, seed: int = 0) -> None:
        self.config, self.seed = config or ModelConfig(), seed
        self.registry = Registry(
            confirm=self.config.confirm, certainty=self.config.certainty, absent_after=self.config.absent_after
        )
        self.motion = Variables(
            grammar.MOTION, MOTION_NOISE, tail=2 * tail.TAIL_FEATURES, engine=self.config.engine
        )
        self.brightness = Variables(grammar.BRIGHTNESS, BRIGHTNESS_NOISE, engine=self.config.engine)
        self.environments = ["first"]  # names; the last one is live
        self.watch: Watch | None = None
        self.set_watch(self.config.watch_changes)
        self.step = 0
        self.version = 0
        self._cursor = np.zeros(2, np.int64)  # next slot to refresh: motion, brightness
        self._refreshes = 0
        self._dirty = True
        self._posterior: Posterior | None = None
        self._last: Belief | None = None
        self._trusted = np.zeros(MAX_SLOTS, bool)  # slots that could be learned from in the last belief
        self.induction = Induction(self.motion) if self.config.induce else None
        self._tables: tuple[terms.TermTable, terms.TermTable] | None = None
        self._lengths: tuple[Array, Array] = self._make_lengths()

    def set_watch(self, on: bool) -> None:
        """Whether another environment begins by itself when a mechanism is found to have changed."""
        self.config = replace(self.config, watch_changes=on)
        self.watch = Watch((self.motion, self.brightness)) if on else None

    # -- learning ---------------------------------------------------------------------------------------------------

    def observe(self, belief: Belief, action: Array | None) -> Observation:
        """Take the next belief; `action` [2] m/s led to it from the previous one (None: the stream was broken)."""
        notes: list[str] = []
        if not np.isfinite(belief.mean).all() or not np.isfinite(belief.cov).all():
            self._last = None
            self._trusted[:] = False
            return Observation(False, 0.0, notes=(f"belief at {belief.stamp:.3f} s is not finite; skipped",))
        new, recycled = self.registry.update(belief)
        for index in recycled:
            self._forget(index)
        if new:
            self._slots_changed(new)
            notes += [f"slot_{self.registry.ids[i]} is now variable {i}" for i in new]
        before, self._last = self._last, belief
        if action is None or before is None:
            self._trusted[:] = False
            self.registry.note_pause(np.inf if before is None else belief.stamp - before.stamp)
            return Observation(False, 0.0, notes=tuple(notes))
        action = np.asarray(action, float)
        if action.shape != (2,) or not np.isfinite(action).all():
            notes.append(f"action {action.tolist()} at {belief.stamp:.3f} s is not two finite numbers; step skipped")
            return Observation(False, 0.0, notes=tuple(notes))
        observation = self._learn(before, action, belief)
        return Observation(observation.learned, observation.surprise, observation.slots, tuple(notes))

    def _learn(self, before: Belief, action: Array, after: Belief) -> Observation:
        config = self.config
        rows, rows_after = self.registry.rows(before), self.registry.rows(after)
        here = (rows >= 0) & (rows_after >= 0)
        state, next_state = self._state(before, rows), self._state(after, rows_after)
        scene = self._scene(here)
        step = next_state - state
        trusted = here & self._certain(before, rows) & self._certain(after, rows_after)
        trusted[BODY] = here[BODY]
        # The velocity of what was hidden or unsure one belief earlier is a guess.
        steady, self._trusted = trusted & self._trusted, trusted
        steady[BODY] = trusted[BODY]
        # A thing beside something we cannot see well may be moved by it: learning from it would blame the wrong cause.
        near = terms.contact_degrees(state[:, :2], scene) > 0
        confused = (near & (here & ~trusted)[None]).any(axis=1)
        moved = np.linalg.norm(step[:, :2], axis=1)
        settled = self.registry.age > config.settle
        settled[BODY] = True
        use = steady & ~confused & settled & (moved < config.most_step)
        jumped = here & (moved >= config.most_step)
        self.registry.note_places(next_state[:, :2], _position_variance(after, rows_after), use, jumped)
        use[BODY] &= not terms.presses_a_stack(near)
        if not here[BODY] or moved[BODY] >= config.most_step:
            return Observation(False, 0.0)  # the step of the body is an input of every other variable
        body_step = step[BODY, :2]
        phi_motion, phi_light = self._phi(state, action, body_step, scene)
        regime, light_regime = prediction.regimes(self, state, body_step, scene, phi_motion, phi_light)
        residual, variance = self.motion.predictive(phi_motion, step[:, :2], regime)
        density = 0.5 * (np.square(residual) / variance[:, None] + np.log(2.0 * np.pi * variance)[:, None]).sum(axis=1)
        credible = np.maximum(variance, config.least_deviation**2)
        weight = use * bounded_influence(residual, credible, most=config.most_deviation)
        with_tail = np.concatenate([phi_motion.transpose(0, 2, 1), tail.tail_features(state, body_step)], axis=2)
        # Not bounded like motion: a lamp changes seldom and all at once, and the mechanism not yet believed in is seen
        # in nothing but such jumps (with bounded ones a button that holds was taken for one that toggles).
        lit = use.astype(float)
        lit[BODY] = 0.0
        sums = [(self.motion.statistics, self.brightness.statistics)]
        for motion, brightness in sums + ([self.watch.filling] if self.watch is not None else []):
            motion.add(with_tail, step[:, :2], regime, weight)
            brightness.add(phi_light[:, None, :], step[:, 4:5], light_regime, lit)
        self.motion.slides.add(state, next_state, scene, use)
        if self.induction is not None:
            self.induction.reservoir.add(state, action, body_step, step[:, :2], regime, weight, scene)
        if self.watch is not None:
            self.watch.stepped(np.flatnonzero(self.registry.present))
        self.step += 1
        self._dirty = True
        surprise = float(density[use].mean()) if use.any() else 0.0
        return Observation(True, surprise, tuple(int(i) for i in self.registry.ids[use]))

    def _certain(self, belief: Belief, rows: np.ndarray) -> np.ndarray:
        return np.asarray(
            (rows >= 0)
            & (_position_variance(belief, rows) < self.config.most_position_std**2)
            & (belief.visible[rows] >= self.config.least_visible)
            & (belief.existence[rows] > 0.5)
        )

    def refresh(self) -> str:
        """A bounded slice of structure work: the next few variables, round robin over the slots there are.

        Returns sentences about lengths that were found and about another environment that has begun; often empty.
        """
        used = np.flatnonzero(self.registry.present)
        if not used.size:
            return ""
        odds = self.log_prior_odds()
        self._refreshes += 1
        notes: list[str] = []
        work = (
            (self.motion, odds[0], used, self.config.motion_per_refresh),
            (self.brightness, odds[1], used[used != BODY], self.config.brightness_per_refresh),
        )
        for number, (block, prior_odds, slots, count) in enumerate(work):
            for _ in range(min(count, len(slots))):
                later = slots[slots >= self._cursor[number]]
                slot = int(later[0] if later.size else slots[0])
                self._cursor[number] = slot + 1
                if block is self.motion and not notes:
                    notes += self._induce(slot, odds[0][slot])
                rng = np.random.default_rng([self.seed, self._refreshes, number, slot])
                block.refresh(slot, prior_odds[slot], rng)
        self._dirty = True
        found = self.watch.judge_next(odds) if self.watch is not None else None
        if found is None:
            return "; ".join(notes)
        which, index, group, probability = found
        columns = (self.motion, self.brightness)[which].columns
        kind = TermKind(int(columns.group_kind[group])).name.lower()
        notes.append(
            f"'{self.begin_environment(recent=True)}' begins: {kind} of slot_{self.registry.ids[index]} has changed "
            f"(probability {probability:.3f})"
        )
        return "; ".join(notes)

    def _induce(self, slot: int, log_prior_odds: Array) -> list[str]:
        """Another contact radius for one pair, where the evidence asks for it."""
        if self.induction is None:
            return []
        change = self.induction.judge(slot, self._lengths[0], self._scene(self.registry.used), log_prior_odds)
        if change is None:
            return []
        self._lengths, self._tables = self._make_lengths(), None
        if self.watch is not None:
            self.watch.drop_windows()
        parent = int(grammar.MOTION.parent[change.column])
        return [
            f"push of slot_{self.registry.ids[slot]} by slot_{self.registry.ids[parent]}: "
            f"{change.after:.4f} m instead of {change.before:.4f} m is tried ({change.nats:.1f} nats)"
        ]

    def begin_environment(self, name: str = "", *, recent: bool = False) -> str:
        """Another environment begins: any mechanism may differ from now on. Returns its name.

        `recent`: what the watch has in its windows belongs to it already. ValueError when the name is taken.
        """
        name = name or f"environment at step {self.step}"
        self.environments = renamed(self.environments, name)
        parts = self.watch.recent() if recent and self.watch is not None else (None, None)
        for block, part in zip((self.motion, self.brightness), parts, strict=True):
            block.begin_environment(part)
        if self.induction is not None:
            self.induction.finish()
        if self.watch is not None:
            self.watch.restart()
        self._dirty = True
        return name

    def refresh_all(self) -> None:
        """Refresh every variable once (for evaluation and tests; not bounded)."""
        count = int(self.registry.present.sum())
        for _ in range(-(-count // min(self.config.motion_per_refresh, self.config.brightness_per_refresh))):
            self.refresh()

    def traits(self) -> prior.Traits:
        """What is believed about every thing's solidity and movability."""
        experience = self.motion.experience
        springs = experience.pairs(TermKind.SPRING)
        things = self.registry.used.copy()
        things[BODY] = False
        return prior.traits(experience.pairs(TermKind.PUSH), springs, things, self.registry.displaced)

    def log_prior_odds(self) -> tuple[Array, Array]:
        """Set priors [S, F] of motion and brightness candidates, given all that is known about other edges."""
        present, trait = self.registry.present, self.traits()
        springs = self.motion.experience.pairs(TermKind.SPRING)
        motion_ok = grammar.allowed(grammar.MOTION, present)
        motion_ok &= (grammar.MOTION.kind != TermKind.SPRING) | (self._lengths[0] > 0)
        return (
            prior.log_prior_odds(self.motion.experience, motion_ok, trait, springs),
            prior.log_prior_odds(self.brightness.experience, grammar.allowed(grammar.BRIGHTNESS, present), trait, None),
        )

    # -- what it knows ----------------------------------------------------------------------------------------------

    def posterior(self) -> Posterior:
        """The planner's posterior; the same object until something changed, then a new version."""
        if self._posterior is not None and not self._dirty:
            return self._posterior
        self.version += 1
        self._dirty = False
        self._posterior = self._assemble()
        return self._posterior

    @property
    def posterior_hash(self) -> str:
        """Hash of the posterior that was last asked for; empty before the first. Safe from another thread."""
        posterior = self._posterior
        return "" if posterior is None else posterior.hash

    def _assemble(self) -> Posterior:
        present = self.registry.present
        blocks = [(self.motion, self._lengths[0]), (self.brightness, self._lengths[1])]
        chosen = select(blocks, present)
        noise = np.stack([self.motion.noise, self.brightness.noise], axis=-1)
        return sealed(
            Posterior(
                version=self.version,
                step=self.step,
                dt=self.config.dt,
                slot_ids=np.where(present, self.registry.ids, -1).astype(np.int64),
                slot_extent=np.where(present, self.registry.extent, 0.0).astype(np.float32),
                term_kind=chosen.kind,
                term_target=chosen.target,
                term_parent=chosen.parent,
                term_length=chosen.length,
                term_probability=chosen.probability,
                weight_mean=chosen.mean,
                weight_variance=chosen.variance,
                weight_set_mean=chosen.set_mean,
                weight_sample=chosen.sample,
                particle_log_weight=np.full(PARTICLES, -np.log(PARTICLES), np.float32),
                noise_std=noise.astype(np.float32),
                wall=np.array(self.config.wall, np.float32),
                hash="",
            )
        )

    def graph(self) -> tuple[Edge, ...]:
        """Every possible edge between the variables there are, most probable first."""
        return causal_graph.edges(self.registry, self.motion, self.brightness, self._lengths)

    def structure_entropy(self) -> float:
        """Nats, summed over the inclusion probabilities of all candidate terms of present slots."""
        total = 0.0
        for block in (self.motion, self.brightness):
            p = np.clip(block.inclusion[self.registry.present], 1e-12, 1.0 - 1e-12)
            total -= float((p * np.log(p) + (1.0 - p) * np.log1p(-p)).sum())
        return total

    def shares(self) -> dict[int, tuple[float, float, float]]:
        """Share of each slot's motion variance that sparse core, dense tail and noise explain, by identity."""
        return {
            int(self.registry.ids[i]): (float(core), float(dense), float(rest))
            for i, (core, dense, rest) in enumerate(self.motion.shares)
            if self.registry.used[i]
        }

    def predict(self, belief: Belief, action: Array) -> tuple[Array, Array]:
        """Mean and std [S, 3] (m, m, 1 per step) of the next step of every slot of `belief` under `action` [2] m/s.

        The std holds the disagreement of the particles and the noise. Slots the model does not know are predicted
        to stay, with the noise of a thing never seen.
        """
        return prediction.predict(self, belief, np.asarray(action, float))

    def body_step(self, state: Array, action: Array, scene: terms.Scene) -> Array:
        """[2] m, expected displacement of the body under `action` [2] m/s. `state` [S, 5]."""
        phi, _ = self._phi(state, action, action * self.config.dt, scene)
        return np.asarray(self.motion.mean[BODY] @ phi[BODY])

    @property
    def lengths(self) -> tuple[Array, Array]:
        """[S, F] m, lengths of the candidates of motion and brightness."""
        return self._lengths

    # -- the parts ---------------------------------------------------------------------------------------------------

    def _state(self, belief: Belief, rows: np.ndarray) -> Array:
        state = np.zeros((MAX_SLOTS, STATE_SIZE))
        state[rows >= 0] = belief.mean[rows[rows >= 0]]
        return state

    def _scene(self, here: np.ndarray) -> terms.Scene:
        return terms.Scene(self.registry.extent, here, np.array(self.config.wall), self.config.dt)

    def _phi(self, state: Array, action: Array, body_step: Array, scene: terms.Scene) -> tuple[Array, Array]:
        """Motion features [S, F, 2] and brightness features [S, F'] of every candidate."""
        if self._tables is None:
            self._tables = (
                grammar.table(grammar.MOTION, self._lengths[0]),
                grammar.table(grammar.BRIGHTNESS, self._lengths[1]),
            )
        motion = terms.features(self._tables[0], state, action, body_step, scene)[:, :2]
        light = terms.features(self._tables[1], state, action, body_step, scene)[:, 2]
        return motion.reshape(MAX_SLOTS, -1, 2), light.reshape(MAX_SLOTS, -1)

    def _make_lengths(self) -> tuple[Array, Array]:
        motion = grammar.motion_lengths(self.registry.extent, self.registry.distance)
        if self.induction is not None:
            motion = self.induction.applied(motion)
        return motion, np.zeros((MAX_SLOTS, len(grammar.BRIGHTNESS)))

    def _slots_changed(self, new: list[int]) -> None:
        """New variables: their candidates' lengths, and a first posterior (the prior) so that planning sees them."""
        self._lengths, self._tables = self._make_lengths(), None
        odds = self.log_prior_odds()
        self._refreshes += 1
        # The old variables gain candidates too (new parents), so all are due; without data this is cheap.
        for slot in np.flatnonzero(self.registry.present):
            for number, block in enumerate((self.motion, self.brightness)):
                if slot in new or number == 0:
                    rng = np.random.default_rng([self.seed, self._refreshes, number, int(slot)])
                    block.refresh(int(slot), odds[number][slot], rng)
        self._dirty = True

    def _forget(self, index: int) -> None:
        self.motion.forget(index)
        self.brightness.forget(index)
        if self.induction is not None:
            self.induction.forget(index)
        if self.watch is not None:
            self.watch.forget(index)

    # -- checkpoints -------------------------------------------------------------------------------------------------

    def checkpoint(self, extra: Mapping[str, Arrays] | None = None) -> dict[str, Arrays]:
        """Copies of everything as arrays, for `checkpoint.write_arrays` (which another thread may do).

        `extra` arrays (the encoder's state) travel along and come back from `checkpoint.load_extra`.
        """
        posterior = self.posterior()
        arrays: dict[str, Arrays] = {
            "format": np.array(FORMAT),
            "config": np.array(json.dumps(asdict(self.config))),
            "hash": np.array(posterior.hash),
            "counters": np.array([self.seed, self.step, self.version, self._refreshes, *self._cursor], np.int64),
            "environments": np.array(self.environments),
            **self.registry.state(),
            **self.motion.state("motion"),
            **self.brightness.state("brightness"),
            **({} if self.induction is None else self.induction.state()),
            **{f"extra_{name}": np.asarray(array) for name, array in (extra or {}).items()},
        }
        return {name: array.copy() for name, array in arrays.items()}

    def save(self, path: str | Path, extra: Mapping[str, Arrays] | None = None) -> str:
        """Write a checkpoint to `path` atomically; returns the posterior's hash."""
        arrays = self.checkpoint(extra)
        write_arrays(path, arrays)
        return str(arrays["hash"])

    @classmethod
    def load(cls, path: str | Path) -> WorldModel:
        """Read a checkpoint; CheckpointError says what is wrong with it. The posterior is the one that was saved."""
        return cls.from_arrays(read_arrays(path), path)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Arrays], path: str | Path) -> WorldModel:
        """The model in the arrays of a checkpoint; `path` names it in CheckpointErrors."""
        try:
            raw = json.loads(str(arrays["config"]))
            raw["wall"] = tuple(raw["wall"])
            counters = [int(c) for c in arrays["counters"]]
            model = cls(ModelConfig(**raw), seed=counters[0])
            model.registry.restore(arrays)
            model.environments = [str(n) for n in arrays.get("environments", np.array(["first"]))]
            for block, prefix in ((model.motion, "motion"), (model.brightness, "brightness")):
                block.restore(arrays, prefix, len(model.environments) - 1)
            if model.induction is not None:
                model.induction.restore(arrays)
            model.step, model.version, model._refreshes = counters[1:4]
            model._cursor = np.array(counters[4:6], np.int64)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise CheckpointError(f"checkpoint {path} does not hold a world model of this version: {error}") from error
        model._lengths, model._dirty = model._make_lengths(), False
        model._posterior = model._assemble()
        if model._posterior.hash != str(arrays["hash"]):
            raise CheckpointError(
                f"checkpoint {path}: its posterior hashes to {model._posterior.hash[:12]}…, the file says "
                f"{str(arrays['hash'])[:12]}…; not loaded"
            )
        return model
