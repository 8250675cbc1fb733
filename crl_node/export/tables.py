"""The posterior and the settings as index rows, masks and matrices: made once a call, used by every step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crl_node.data import TermKind
from crl_node.export.information import InformationGraph
from crl_node.export.parts import BIG, Model, State, TermRows, Vec
from crl_node.export.spec import DEAD, RIM_MARGIN, PlanShape

#: Where slots that do not exist are put: out of reach of every term [m].
FAR = 50.0
#: What length - distance is multiplied with to make a 0 or 1 of it [1/m].
SHARP = 1e9
#: Weights that differ by less are those of the same term set.
SAME = 1e-6


def _column(values: Tensor) -> Tensor:
    return values[:, None]


def _vec(pairs: Tensor) -> Vec:
    """Rows [R, 2] as a vector [R, 1]."""
    return Vec(pairs[:, 0:1], pairs[:, 1:2])


class Tables(nn.Module):
    """Inputs of `spec.all_inputs` by name -> `Model` and the `State` in which every roll-out begins."""

    def __init__(self, shape: PlanShape, information: InformationGraph) -> None:
        super().__init__()
        self.shape, self.information = shape, information
        self.register_buffer("slot_numbers", torch.arange(shape.slots), persistent=False)
        self.slot_numbers: Tensor

    def model(self, x: dict[str, Tensor]) -> Model:
        """Everything a step needs."""
        s = self.shape.slots
        kind, target = x["term_kind"].long(), x["term_target"].long()
        parent = x["term_parent"].long().clamp(min=0)
        exists = (x["exists"] > 0.5).float()

        def one_hot(*kinds: TermKind) -> Tensor:
            return sum((kind == int(k)).float() for k in kinds)  # type: ignore[return-value]

        bright = (kind >= int(TermKind.DECAY)).float()
        on_body = (target == 0).float()
        # A term counts only while its target and the slot that acts exist.
        uses_parent = (x["term_parent"] >= 0).float()
        valid = exists[target] * (1.0 - uses_parent * (1.0 - exists[parent]))
        mean = x["weight_mean"] * valid
        is_target = (_column(self.slot_numbers) == target[None, :]).float()  # [S, P]
        terms = self._rows(kind, target, parent, x["term_length"])
        # The largest weights first: padding (weight 0, target 0) must not crowd out what moves the body.
        _, body = torch.topk(on_body * (1.0 - bright) * mean.abs(), self.shape.body_terms)
        body_terms = TermRows(*(field[body] for field in terms))
        # In the body's own table of steps -a dt comes first, which is row S of everybody's.
        body_terms = body_terms._replace(
            parent=torch.where(body_terms.parent >= s, body_terms.parent - s, body_terms.parent),
            push=(body_terms.push - s).clamp(min=0),
        )

        limited = torch.where(kind == int(TermKind.WALL), 0, target)  # 0: no limit
        lights = self.lights(x)
        lit = (bright * valid)[lights]
        e, wall, box, jams = _column(x["slot_extent"]), x["wall"], x["workspace"][:, None, None], x["jams"]
        rim = RIM_MARGIN * e[1:]
        camera, tool = x["camera"][:, None, None], x["tool"]
        return Model(
            target=target, room_back=s + limited, room_forth=2 * s + limited, terms=terms,
            weights=(is_target * mean * (1.0 - bright))[1:],
            body_terms=body_terms, body_weights=(mean * on_body * (1.0 - bright))[body][None, :],
            wall_low=Vec(wall[0] + e[1:], wall[2] + e[1:]), wall_high=Vec(wall[1] - e[1:], wall[3] - e[1:]),
            rim_low=Vec(wall[0] + rim, wall[2] + rim), rim_high=Vec(wall[1] - rim, wall[3] - rim),
            box_low=Vec(box[0], box[2]), box_high=Vec(box[1], box[3]), reach=e[:1] + e[1:],
            jam_at=_vec(jams[:, :2]), jam_along=_vec(jams[:, 2:]), jam_across=Vec(*jams[:, 2:].T.unsqueeze(1)),
            **self._lights(kind[lights], target[lights], parent[lights]),
            light_weights=is_target[:, lights] * mean[lights] * lit,
            apart=self.information.apart(x["slot_extent"]),
            **self._doubts(x, is_target * (1.0 - bright) * valid, lights, is_target[:, lights] * lit),
            **self._precision(x["noise_std"], exists),
            look=torch.zeros(1, s),  # `PlanGraph.prepare` knows the state it depends on
            thing=_column((torch.arange(s) > 0).float()),
            camera=Vec(camera[0], camera[1]),
            shadow=tool[0:1] / (x["camera"][2:3] - tool[0:1]).clamp(min=1e-3),
            shade=(tool[1] + 0.5 * e).clamp(min=0.0) ** 2,
            goal=_vec(x["goal"]), goal_weight=(x["goal_weight"] * exists)[None, :],
        )  # fmt: skip

    def _doubts(
        self, x: dict[str, Tensor], motion: Tensor, lights: Tensor, light: Tensor
    ) -> dict[str, Tensor]:
        """What is not known. `motion` [S, P] and `light` [S, L] are 1 at the slot that each counted term is about."""
        share = torch.softmax(x["particle_log_weight"], dim=0)[:, None]  # [K, 1]
        off = x["weight_set_mean"] - (share * x["weight_set_mean"]).sum(0, keepdim=True)
        lit = off[:, lights]
        rows = torch.cat([torch.arange(self.shape.terms), lights])
        about = torch.cat([nn.functional.pad(motion, (0, len(lights))), nn.functional.pad(light, (motion.shape[1], 0))])
        held = x["term_probability"][rows]
        entropy = self.entropy(x["weight_set_mean"][:, rows], share, about)
        return {
            "spread": (off * share).T @ off * (motion.T @ motion),
            "light_spread": (lit * share).T @ lit * (light.T @ light),
            "summed": motion, "light_summed": light, "variable": self.variables(x, lights),
            "variance": _column(about.sum(0) * x["weight_variance"][rows]), "held": about * held,
            "half_share": 0.5 * held[None, :], "doubt": _column(-0.5 / entropy.clamp(min=1e-6)),
            "entropy": entropy[None, :],
        }  # fmt: skip

    def variables(self, x: dict[str, Tensor], lights: Tensor) -> Tensor:
        """[R] the variable that each row is about, whether it counts or not."""
        target = x["term_target"].long()
        return torch.cat([target, self.shape.slots + target[lights]])

    @staticmethod
    def entropy(set_mean: Tensor, share: Tensor, about: Tensor) -> Tensor:
        """[V] nats, of the term sets of each variable: particles whose weights of its terms agree hold the same set.

        `set_mean` [K, R], `share` [K, 1] of each particle, `about` [V, R] 1 where a row is about a variable.
        """
        k = len(share)
        differ = ((set_mean[:, None] - set_mean[None]).abs() > SAME).float().reshape(k * k, -1)
        same = ((about @ differ.T) < 0.5).float().reshape(-1, k, k)
        likelihood = (same @ share)[:, :, 0]  # [V, K] of the set that particle k holds
        return -(likelihood.clamp(min=1e-9).log() @ share)[:, 0]

    @staticmethod
    def _precision(noise_std: Tensor, exists: Tensor) -> dict[str, Tensor]:
        """1 / variance of the change in a step."""
        free, contact = (exists[:, None, None] / noise_std**2).permute(1, 2, 0).unsqueeze(3).unbind(0)
        return {"precision": free, "precision_more": contact - free}

    def lights(self, x: dict[str, Tensor]) -> Tensor:
        """Rows [L] of the terms of brightness, those that can change most first."""
        bright = (x["term_kind"] >= int(TermKind.DECAY)).float()
        influence = x["weight_mean"].abs() + x["weight_sample"].abs().amax(0)
        return torch.topk(bright * (1.0 + influence), self.shape.light_terms)[1]

    def _rows(self, kind: Tensor, target: Tensor, parent: Tensor, length: Tensor) -> TermRows:
        """All terms of motion as rows of the tables of `MotionGraph.move`."""
        s = self.shape.slots
        push, drag, spring = ((kind == int(k)).float() for k in (TermKind.PUSH, TermKind.DRAG, TermKind.SPRING))
        pair = push + drag + spring
        on_body = target == 0
        # Steps: the body's, the things', then -a dt, inertia of the body, walls (S), a dt, two drifts, nothing.
        step = torch.full_like(kind, 2 * s + 5)
        for k, row in (
            (TermKind.INERTIA, torch.where(on_body, s + 1, target)),
            (TermKind.WALL, s + 2 + target),
            (TermKind.ACTION, torch.full_like(kind, 2 * s + 2)),
            (TermKind.DRIFT_X, torch.full_like(kind, 2 * s + 3)),
            (TermKind.DRIFT_Y, torch.full_like(kind, 2 * s + 4)),
        ):
            step = torch.where(kind == int(k), row, step)
        step = torch.where(pair > 0, torch.where(on_body, s, parent), step)
        # Places: slots anticipated (S), slots where they stand (S: what the body meets). Linear features look at one
        # as well, whichever it is: nothing comes of it.
        place = torch.where(pair > 0, torch.where(on_body, s + parent, parent), 0)
        # PUSH acts on the inside (dead zone up to 0), SPRING beyond +-DEAD, the others never.
        low = push * -BIG + spring * -DEAD + (1.0 - push - spring) * -BIG
        high = spring * DEAD + (1.0 - push - spring) * BIG
        return TermRows(
            parent=place, push=step, length=_column(length), low=_column(low), high=_column(high),
            cap=_column((1.0 - push) * BIG), slide=_column(drag * SHARP), linear=_column(1.0 - pair),
        )  # fmt: skip

    def _lights(self, kind: Tensor, target: Tensor, parent: Tensor) -> dict[str, Tensor]:
        """Where the light terms look and what their own brightness does.

        Causes: slots pressed (S), the terms' pairs pressed (L), the rise of both (S + L), one, zero.
        """
        s, r = self.shape.slots, self.shape.slots + self.shape.light_terms
        source = torch.full_like(kind, 2 * r + 1)
        for k, row in (
            (TermKind.GLOW, torch.full_like(kind, 2 * r)), (TermKind.LIT_BY, parent), (TermKind.TOGGLE_BY, r + parent),
            (TermKind.TOUCH, s + torch.arange(self.shape.light_terms)),
        ):  # fmt: skip
            source = torch.where(kind == int(k), row, source)
        touch = (kind == int(TermKind.TOUCH)).float()
        own = touch + (kind == int(TermKind.DECAY)).float() + (kind == int(TermKind.LIT_BY)).float()
        return {
            "light_target": target, "light_source": source,
            "light_pair": self.information.pair_table[target * s + parent],
            "light_gain": _column(-own),
            "light_toggle": _column(-2.0 * (kind == int(TermKind.TOGGLE_BY)).float()),
        }  # fmt: skip

    def begin(self, x: dict[str, Tensor]) -> State:
        """The state before the first step, the same for all candidates."""
        s, n = self.shape.slots, self.shape.candidates
        exists = (x["exists"] > 0.5).float()
        away = FAR + 5.0 * self.slot_numbers.float()
        z = torch.where(exists[:, None] > 0, x["position"], away[:, None])
        v = x["velocity"] * x["dt"] * exists[:, None]

        def wide(column: Tensor) -> Tensor:
            return column.expand(-1, n).contiguous()

        return State(
            wide(z[:, 0:1]), wide(z[:, 1:2]), wide(v[:, 0:1]), wide(v[:, 1:2]), wide(_column(x["brightness"])),
            told=torch.zeros(self.shape.terms + self.shape.light_terms, n), between=torch.zeros(2 * s, n),
            known=torch.zeros(2, n), worth=torch.zeros(2, n), seen=torch.zeros(s, n), far=torch.zeros(1, n),
        )  # fmt: skip
