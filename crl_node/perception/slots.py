"""The iterative encoder: an online Bayesian mixture over pixels (x, y, r, g, b), without pretraining.

Each frame: what the arm hides is missing data; what the background explains is set aside; the rest is shared out
among the slots by a few EM steps that start from the predicted belief (space first, then hue, so that a lamp that
lights keeps its identity); the visible part of each slot's silhouette gives its centre; a two-mode Kalman filter
turns centres into positions and velocities; what no slot explains becomes a slot when it lasts.

The centre of the silhouette of a box, a cylinder or a ball is the image of its middle, so the ray through it is met
with the plane at half its height; the height is learned from the silhouette's slant-corrected length.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crl_node.camera import Camera
from crl_node.data import Array, Belief, Frame
from crl_node.perception.background import Background
from crl_node.perception.births import Births
from crl_node.perception.config import SlotConfig
from crl_node.perception.encoder import Capsule
from crl_node.perception.geometry import Geometry
from crl_node.perception.register import Register
from crl_node.perception.self_filter import SelfFilter
from crl_node.perception.shapes import hull_touches, moments, top_brightness
from crl_node.perception.validate import FrameError, check_image

_WINDOW = 12  # px, half side of the window around a slot
_CLEAR = 9  # px, half side of the part of it that a template covers

#: A frame stamped this much before the last one is from another clock, not late, s.
CLOCK_JUMP = 1.0


@dataclass
class _Sight:
    """What one slot looks like in one frame."""

    row: int
    window: tuple[slice, slice]
    centre: Array  # [2] px
    guess: Array  # [2] px, predicted
    guess_std: float  # px
    scale: float  # px/m
    seen: Array  # [h, w] of the window, 1 where nothing hides the slot
    share: Array  # [h, w] of the window, the slot's share of each pixel
    expected: float  # px, visible part of the template
    full: bool  # nothing hides or touches it
    clear: bool  # nothing still (arm, edge of the region) hides any of it


class SlotEncoder:
    """Encoder of frames of one fixed, calibrated `camera` over `table` (x_min, x_max, y_min, y_max) m.

    `body_extent` is the radius of the tool, m. Deterministic; state in arrays (`state`, `restore`).
    """

    def __init__(
        self,
        camera: Camera,
        table: tuple[float, float, float, float],
        body_extent: float,
        config: SlotConfig | None = None,
    ) -> None:
        self.config = config or SlotConfig()
        self.camera = camera
        self.body_extent = body_extent
        self.geometry = Geometry(camera, table, self.config.thing_height, self.config.table_margin)
        self.filter = SelfFilter(camera, self.config.arm_margin_px, self.geometry.roi)
        self.background = Background(camera.height, camera.width, self.config)
        self.register = Register(self.config)
        self.births = Births(self.geometry, self.register, self.config)
        self._owner: NDArray[np.int64] = np.full((camera.height, camera.width), -1, np.int64)

    # ------------------------------------------------------------------ the one call per frame
    def encode(self, frame: Frame, tip: Array, tip_velocity: Array, capsules: list[Capsule]) -> Belief:
        """Belief at `frame.stamp`; see `Encoder.encode`."""
        rgb = check_image(frame.image, width=self.camera.width, height=self.camera.height)
        register = self.register
        last = float(register.stamp[0])
        if not np.isfinite(frame.stamp):
            raise FrameError(f"frame's stamp is {frame.stamp} s; frame dropped")
        if frame.stamp < last - CLOCK_JUMP:
            last = np.nan  # the clock was set back or the simulator reset: waiting for the old time would be blindness
        if frame.stamp < last:
            raise FrameError(
                f"frame of {frame.stamp:.3f} s is older than the last one ({last:.3f} s); frame dropped"
            )
        if not (np.all(np.isfinite(tip)) and np.all(np.isfinite(tip_velocity))):
            raise FrameError(f"tip {list(tip)} m, {list(tip_velocity)} m/s is not finite; frame dropped")
        dt = min(frame.stamp - last, 1.0) if np.isfinite(last) else 0.0
        register.stamp[0] = frame.stamp
        register.counters[1] += 1
        arm = self.filter.mask(capsules)
        open_view = self.geometry.roi & ~arm
        rgb = rgb / self.background.exposure(rgb, open_view)
        thing = self._foreground(rgb, open_view)
        if dt > 0:
            register.motion.predict(dt, np.where(register.visible > 0.2, 1.0, 0.8))
            register.brightness_var += self.config.brightness_drift**2
        sights, unexplained = self._explain(rgb, thing, open_view)
        self._measure(rgb, sights)
        taken = self.births.step(rgb, unexplained, arm, float(self.background.noise[0]))
        if taken.furniture.any():
            self.background.absorb(rgb, taken.furniture)
        register.age[register.used] += 1
        self.background.absorb(rgb, open_view & ~thing)
        return self._belief(frame.stamp, tip, tip_velocity)

    def _foreground(self, rgb: Array, open_view: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Pixels in view that the background does not explain.

        The background is learned from the first frame, and again when most of the picture has changed.
        """
        if self.background.ready[0]:
            thing = self.background.foreground(rgb) & open_view
            if thing.sum() < 0.5 * open_view.sum():
                return thing
        limit = self.config.thing_size * self.geometry.pixel_scale
        self.background.initialise(rgb, open_view, limit)
        return self.background.foreground(rgb) & open_view

    # ------------------------------------------------------------------ pixels -> slots
    def _explain(
        self, rgb: Array, thing: NDArray[np.bool_], open_view: NDArray[np.bool_]
    ) -> tuple[list[_Sight], NDArray[np.bool_]]:
        """Share the pixels `thing` out among the slots; returns sights and the pixels that no slot explains."""
        register, config = self.register, self.config
        rows = register.rows()
        self._owner[:] = -1
        if not rows.size:
            return [], thing
        mean, cov = register.motion.moments()
        guess, jacobian = self.geometry.to_pixels(mean[rows, :2], 0.5 * register.height[rows])
        guess_cov = jacobian @ cov[rows, :2, :2] @ jacobian.transpose(0, 2, 1)
        scale = self.geometry.scale(np.column_stack([mean[rows, :2], 0.5 * register.height[rows]]))
        shape = register.shapes.spread[rows] * scale[:, None, None] ** 2
        # a slot that may be anywhere must not swallow everything: at most a few pixels of slack
        slack = np.minimum(1.0, 9.0 / np.maximum(np.trace(guess_cov, axis1=1, axis2=2), 1e-9))
        guess_cov_mix = guess_cov * slack[:, None, None]
        sights = [
            self._sight(int(r), guess[i], guess_cov[i], float(scale[i]), open_view)
            for i, r in enumerate(rows)
        ]
        v, u = np.nonzero(thing)
        points, colours = self.geometry.pixels[v, u], rgb[v, u]  # [F, 2], [F, 3]
        length = np.sum(colours**2, axis=1)
        along = colours @ register.hue[rows].T  # [F, S]
        turned = np.maximum(length[:, None] - along**2, 0.0)
        shade = np.log(np.maximum(along, 1e-3) / np.maximum(register.shade[rows], 1e-3)) / config.shade_std
        colour_fit = -0.5 * turned / config.hue_std**2 - 0.5 * np.minimum(shade**2, 4.0)
        centre = guess.copy()
        share = np.zeros_like(colour_fit)
        for step in range(config.em_steps):
            spatial = shape + (guess_cov_mix if step == 0 else 0.25 * guess_cov_mix) + 0.1 * np.eye(2)
            off = points[:, None] - centre[None]
            distance = np.einsum("fsi,sij,fsj->fs", off, np.linalg.inv(spatial), off)
            fit = colour_fit - 0.5 * distance
            fit = np.column_stack([fit, np.full(len(fit), -config.outlier_nats)])
            fit -= fit.max(axis=1, keepdims=True)
            share = np.exp(fit)
            share /= share.sum(axis=1, keepdims=True)
            for i, sight in enumerate(sights):
                centre[i] = self._recentre(sight, points, share[:, i], centre[i])
        unexplained = thing.copy()
        unexplained[v, u] = share[:, -1] > 0.6
        best = np.argmax(share[:, :-1], axis=1)
        sure = share[np.arange(len(best)), best] > 0.5
        self._owner[v[sure], u[sure]] = rows[best[sure]]
        base = self.camera.project(np.column_stack([mean[rows, :2], np.zeros(rows.size)]))[:, 1]
        full_share = np.zeros((*thing.shape, rows.size))
        full_share[v, u] = share[:, :-1]
        for i, sight in enumerate(sights):
            sight.centre = centre[i]
            self._finish_sight(sight, full_share[..., i], open_view, rows[base > base[i]])
        return sights, unexplained

    def _sight(
        self, row: int, guess: Array, cov: Array, scale: float, open_view: NDArray[np.bool_]
    ) -> _Sight:
        window = self._window(guess)
        std = float(np.sqrt(max(0.5 * np.trace(cov), 0.0)))
        seen = open_view[window].astype(float)
        clear = bool(open_view[self._window(guess, _CLEAR)].all())
        return _Sight(row, window, guess, guess, std, scale, seen, np.zeros_like(seen), 0.0, False, clear)

    def _window(self, centre: Array, half: int = _WINDOW) -> tuple[slice, slice]:
        height, width = self.geometry.roi.shape
        column = int(np.clip(centre[0], 1, width - 1))
        row = int(np.clip(centre[1], 1, height - 1))
        return (
            slice(max(row - half, 0), min(row + half + 1, height)),
            slice(max(column - half, 0), min(column + half + 1, width)),
        )

    def _recentre(self, sight: _Sight, points: Array, share: Array, centre: Array) -> Array:
        """Next EM centre [2] px: moves as the visible mass does against the visible part of the template."""
        mass = share.sum()
        if mass < 2.0:
            return centre
        observed = share @ points / mass
        if sight.clear:
            return np.asarray(centre + np.clip(observed - centre, -4.0, 4.0))
        template = self.register.shapes.sample(
            sight.row, (self.geometry.pixels[sight.window] - centre) / sight.scale
        )
        visible = template * sight.seen
        if visible.sum() < 0.15 * max(template.sum(), 1e-9):
            return centre
        expected = np.tensordot(visible, self.geometry.pixels[sight.window], axes=2) / visible.sum()
        if visible.sum() > 0.97 * template.sum():
            expected = centre
        return np.asarray(centre + np.clip(observed - expected, -4.0, 4.0))

    def _finish_sight(
        self, sight: _Sight, share: Array, open_view: NDArray[np.bool_], in_front: NDArray[np.int64]
    ) -> None:
        """Fill in what is hidden, the slot's share, and whether it is seen in full."""
        sight.window = self._window(sight.centre)
        owner = self._owner[sight.window]
        hidden = ~open_view[sight.window] | np.isin(owner, in_front[in_front != sight.row])
        sight.seen = (~hidden).astype(float)
        sight.share = share[sight.window] * sight.seen
        template = self.register.shapes.sample(
            sight.row, (self.geometry.pixels[sight.window] - sight.centre) / sight.scale
        )
        sight.expected = float(np.sum(template * sight.seen))
        total = float(template.sum())
        self.register.visible[sight.row] = min(1.0, sight.expected / total) if total > 0 else 0.0
        support = (template > 0.1) | (sight.share > 0.5)
        others = (owner >= 0) & (owner != sight.row)
        sight.full = not hull_touches(support, hidden | others)

    # ------------------------------------------------------------------ slots -> belief
    def _measure(self, rgb: Array, sights: list[_Sight]) -> None:
        register, config = self.register, self.config
        value = rgb.max(axis=2)
        rows, positions, noises = [], [], []
        for sight in sights:
            row, mass = sight.row, float(sight.share.sum())
            if register.visible[row] < 0.12 or sight.expected < 4.0:
                if not self.geometry.on_table(register.motion.moments()[0][row, :2]):
                    self._miss(row, 1.0)
                continue  # hidden: nothing learned, nothing lost
            if mass < 0.3 * sight.expected:
                self._miss(row, float(register.visible[row]))
                continue
            register.existence[row] += 0.5 * (1.0 - register.existence[row])
            pixels = self.geometry.pixels[sight.window]
            hull = not hull_touches(sight.share > 0.5, sight.seen < 0.5)
            if sight.full or (hull and register.visible[row] > 0.97):
                centre, spread = moments(sight.share, pixels)
                information = np.eye(2) / config.pixel_std**2
                if sight.full:
                    self._learn_shape(sight, value, centre, spread)
            else:
                centre, information = register.shapes.align(
                    row,
                    sight.share,
                    sight.seen,
                    pixels,
                    sight.centre,
                    max(sight.guess_std, 1.0),
                    sight.scale,
                    config.edge_std,
                )
            # a sliver fits almost anywhere: trust shrinks with what is seen
            information = information * register.visible[row] ** 2
            noise_px = np.linalg.inv(information + np.eye(2) / 20.0**2)
            point, slope = self.geometry.to_table(centre, 0.5 * register.height[row])
            if not np.all(np.isfinite(point)):
                continue
            rows.append(row)
            positions.append(point)
            noises.append(slope @ noise_px @ slope.T)
            self._learn_colour(rgb[sight.window], sight, centre)
        register.motion.update(
            np.array(rows, np.int64), np.reshape(positions, (-1, 2)), np.reshape(noises, (-1, 2, 2))
        )

    def _miss(self, row: int, evidence: float) -> None:
        """The slot is not where `evidence` (share of it, 0..1) says it should be seen."""
        register = self.register
        register.existence[row] *= self.config.existence_decay**evidence
        register.motion.loosen(row, self.config.missing_std * evidence)
        if register.existence[row] < self.config.existence_gone:
            register.retire(row, remember=True)

    def _learn_shape(self, sight: _Sight, value: Array, centre: Array, spread: Array) -> None:
        """Template, shades, height and extent from a view in full; `value` [h, w] px brightness of the image."""
        register, row = self.register, sight.row
        views = register.shapes.views[row]
        rate = max(1.0 / (views + 1.0), 0.03)
        mask = np.zeros(self.geometry.roi.shape)
        mask[sight.window] = sight.share
        bright = max(top_brightness(value[mask > 0.5]), 0.01)
        register.shapes.learn(row, mask, value / bright, centre, sight.scale, spread / sight.scale**2, rate)
        mean = register.motion.moments()[0][row, :2]
        height, extent = self.births.size(spread / sight.scale**2, mean)
        slow = max(1.0 / (views + 1.0), 0.005)  # a drifting height would look like motion
        register.height[row] += slow * (height - register.height[row])
        register.extent[row] += slow * (extent - register.extent[row])

    def _learn_colour(self, rgb: Array, sight: _Sight, centre: Array) -> None:
        """Hue, shade and brightness from the slot's own pixels; `rgb` is that of the window."""
        register, config, row = self.register, self.config, sight.row
        own = sight.share > 0.5
        if own.sum() < 4:
            return
        mean = rgb[own].mean(0)
        length = float(np.linalg.norm(mean))
        if length > 0.03:
            hue = register.hue[row] + 0.05 * (mean / length - register.hue[row])
            register.hue[row] = hue / np.linalg.norm(hue)
        register.shade[row] += 0.3 * (length - register.shade[row])
        value = rgb.max(axis=2)
        if sight.full:
            bright = top_brightness(value[own])
        else:
            offsets = (self.geometry.pixels[sight.window] - centre) / sight.scale
            bright = register.shapes.brightness(row, value, own, offsets)
        if not np.isfinite(bright):
            return
        noise = (config.brightness_std / max(float(register.visible[row]), 0.1)) ** 2
        variance = register.brightness_var[row] + noise
        innovation = bright - register.brightness[row]
        if innovation**2 > config.brightness_jump**2 * variance:
            register.brightness[row], register.brightness_var[row] = bright, noise
            return
        gain = register.brightness_var[row] / variance
        register.brightness[row] += gain * innovation
        register.brightness_var[row] *= 1.0 - gain

    def _belief(self, stamp: float, tip: Array, tip_velocity: Array) -> Belief:
        register = self.register
        rows = register.rows()
        count = rows.size + 1
        mean, cov = np.zeros((count, 5)), np.zeros((count, 5, 5))
        moving, moving_cov = register.motion.moments()
        mean[1:, :4], mean[1:, 4] = moving[rows], register.brightness[rows]
        cov[1:, :4, :4] = moving_cov[rows]
        cov[1:, :2, :2] += self._bias(moving[rows, :2])
        cov[1:, 4, 4] = register.brightness_var[rows]
        mean[0, :2], mean[0, 2:4] = tip[:2], tip_velocity[:2]
        cov[0] = np.diag([1e-8, 1e-8, 1e-6, 1e-6, 1e-8])
        colour = np.clip(register.hue[rows] * register.shade[rows, None], 0.0, 1.0)
        return Belief(
            stamp=float(stamp),
            ids=np.concatenate([[0], register.ids[rows]]).astype(np.int64),
            mean=mean,
            cov=cov,
            colour=np.concatenate([[[0.5, 0.5, 0.5]], colour]),
            extent=np.concatenate([[self.body_extent], register.extent[rows]]),
            existence=np.concatenate([[1.0], register.existence[rows]]),
            visible=np.concatenate([[1.0], register.visible[rows]]),
        )

    def _bias(self, positions: Array) -> Array:
        """Covariance [N, 2, 2] m^2 of the errors that no filtering averages out, for slots at `positions` [N, 2] m."""
        eye = self.camera.pose[:3, 3]
        lean = (positions - eye[:2]) / max(float(eye[2]), 1e-3)  # m of table per m of height
        along = 0.5 * self.config.height_std * lean
        return np.asarray(self.config.bias_std**2 * np.eye(2) + along[:, :, None] * along[:, None, :])

    # ------------------------------------------------------------------ checkpoints
    def _arrays(self) -> dict[str, NDArray[np.generic]]:
        found = self.register.arrays()
        for prefix, part in (("background", self.background), ("births", self.births)):
            for name, value in vars(part).items():
                if isinstance(value, np.ndarray):
                    found[f"{prefix}/{name}"] = value
        return found

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Copies of all arrays that the next frame depends on."""
        return {name: value.copy() for name, value in self._arrays().items()}

    def restore(self, state: dict[str, NDArray[np.generic]]) -> None:
        """Go on from `state`; raises ValueError naming the array that is absent or has another shape."""
        live = self._arrays()
        for name, value in live.items():
            if name not in state:
                raise ValueError(
                    f"encoder state lacks the array '{name}' (got {len(state)} arrays); nothing restored"
                )
            if state[name].shape != value.shape:
                raise ValueError(
                    f"encoder state '{name}' has shape {state[name].shape}, expected {value.shape}; nothing restored"
                )
        for name, value in live.items():
            value[...] = state[name]
