"""A short animation: what the camera saw, with what the robot made of it drawn on top."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from crl_node.bags.messages import PlanRecord, Truth
from crl_node.camera import Camera
from crl_node.curiosity.goals import Goal
from crl_node.data import BODY, Array, Belief

#: Pixels on the screen per pixel of a 96 pixel picture; other sizes come out about as large.
WIDTH = 384
CAPTION = 40  # px
FRAMES = 150
MILLISECONDS = 100
LIMIT = 3_000_000  # bytes
_COLOURS = ("#00E5FF", "#FFD400", "#FF5CF4", "#7CFF4F", "#FF8A3D", "#B59BFF", "#FFFFFF", "#4FA3FF")


def busiest(truths: Sequence[Truth], stamps: Sequence[float], frames: int = FRAMES) -> range:
    """Indices of the `frames` frames on end in which things moved most; the last ones when that is not known."""
    count = len(stamps)
    if count <= frames:
        return range(count)
    if len(truths) < 2:
        return range(count - frames, count)
    positions = np.array([t.positions for t in truths if t.names == truths[0].names])
    when = np.array([t.stamp for t in truths if t.names == truths[0].names])
    step = np.linalg.norm(np.diff(positions, axis=0), axis=-1)
    # Each step counts up to 1 cm: one thing sliding far is less of a story than many pushes.
    motion = np.concatenate([[0.0], np.minimum(step, 0.01).sum(1)])
    per_frame = np.interp(np.asarray(stamps), when, motion)
    window = np.convolve(per_frame, np.ones(frames), "valid")
    first = int(window.argmax())
    return range(first, first + frames)


def draw_frame(
    image: NDArray[np.uint8],
    camera: Camera | None,
    belief: Belief | None,
    plan: PlanRecord | None,
    names: Mapping[int, str],
    caption: str,
    goals: Sequence[Goal] = (),
) -> Image.Image:
    """One frame: the picture enlarged, slots with id, name, velocity and brightness, goals, the planned tip path."""
    height, width = image.shape[:2]
    scale = WIDTH / width
    size = (WIDTH, round(height * scale))
    canvas = Image.new("RGB", (size[0], size[1] + CAPTION), "#101418")
    canvas.paste(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC), (0, 0))
    pen = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size=11)
    if camera is not None and belief is not None:
        for row in range(len(belief.ids)):
            if int(belief.ids[row]) != BODY:
                _draw_slot(pen, font, camera, scale, belief, row, names)
        for goal in goals:
            _draw_goal(pen, camera, scale, belief, goal)
    if camera is not None and plan is not None and len(plan.path) > 1:
        path = project(camera, scale, np.column_stack([plan.path, np.full(len(plan.path), 0.02)]))
        if len(path) > 1:
            pen.line(path, fill="#FF3030", width=2)
            x, y = path[-1]
            pen.ellipse([x - 3, y - 3, x + 3, y + 3], outline="#FF3030", width=2)
    for line, text in enumerate(caption.split("\n")[:2]):
        pen.text((6, size[1] + 4 + 17 * line), text, fill="#DDE3EA", font=font)
    return canvas


def project(camera: Camera, scale: float, points: Array) -> list[tuple[float, float]]:
    """Screen pixels of points [N, 3] m; points behind the camera are left out."""
    pixels = camera.project(points) * scale
    return [(float(x), float(y)) for x, y in pixels if np.isfinite(x) and np.isfinite(y)]


def ellipse(centre: Array, cov: Array, sigmas: float, points: int = 24) -> Array:
    """Outline [P, 2] of the `sigmas`-sigma ellipse of a 2D Gaussian."""
    values, vectors = np.linalg.eigh(0.5 * (cov + cov.T))
    angle = np.linspace(0, 2 * np.pi, points)
    circle = np.stack([np.cos(angle), np.sin(angle)])
    radii = np.sqrt(np.maximum(values, 0.0))[:, None]
    return np.asarray(centre + sigmas * (vectors @ (radii * circle)).T)


def _draw_slot(
    pen: ImageDraw.ImageDraw,
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
    camera: Camera,
    scale: float,
    belief: Belief,
    row: int,
    names: Mapping[int, str],
) -> None:
    slot = int(belief.ids[row])
    colour = _COLOURS[slot % len(_COLOURS)]
    centre = belief.mean[row, :2]

    def outline(points: Array) -> list[tuple[float, float]]:
        return project(camera, scale, np.column_stack([points, np.zeros(len(points))]))

    hidden = belief.visible[row] < 0.5
    footprint = outline(ellipse(centre, np.eye(2) * belief.extent[row] ** 2, 1.0))
    doubt = outline(ellipse(centre, belief.cov[row, :2, :2], 3.0))
    if len(footprint) > 1:
        pen.line(footprint, fill=colour, width=1 if hidden else 2)
    if len(doubt) > 1:
        pen.line(doubt, fill=colour, width=1)
    ahead = outline(np.stack([centre, centre + 0.5 * belief.mean[row, 2:4]]))
    if len(ahead) == 2 and np.linalg.norm(belief.mean[row, 2:4]) > 0.01:
        pen.line(ahead, fill=colour, width=3)
    if not footprint:
        return
    x, y = max(p[0] for p in footprint) + 2, min(p[1] for p in footprint) - 6
    label = names.get(slot, f"slot {slot}").replace("_", " ") + (" (hidden)" if hidden else "")
    pen.text((x, y), label, fill=colour, font=font, stroke_width=1, stroke_fill="black")
    level = float(np.clip(belief.mean[row, 4], 0.0, 1.0))
    pen.rectangle([x, y + 14, x + 20, y + 17], outline=colour)
    pen.rectangle([x, y + 14, x + 20 * level, y + 17], fill=colour)


def _draw_goal(pen: ImageDraw.ImageDraw, camera: Camera, scale: float, belief: Belief, goal: Goal) -> None:
    """A cross where the thing is wanted, and a thin line there from where it is."""
    colour, place = _COLOURS[goal.slot % len(_COLOURS)], np.array(goal.place)
    arm = 0.015  # m

    def line(a: Array, b: Array, width: int) -> None:
        ends = project(camera, scale, np.column_stack([np.stack([a, b]), np.zeros(2)]))
        if len(ends) == 2:
            pen.line(ends, fill=colour, width=width)

    for way in (np.array([arm, arm]), np.array([arm, -arm])):
        line(place - way, place + way, 3)
    row = belief.index_of(goal.slot)
    if row is not None:
        line(belief.mean[row, :2], place, 1)


def encode(frames: Sequence[Image.Image], *, milliseconds: int = MILLISECONDS, limit: int = LIMIT) -> bytes:
    """An endless GIF smaller than `limit` bytes: fewer colours, then fewer frames, then smaller ones."""
    if not frames:
        raise ValueError("there are no frames to animate")
    # One palette for all, so that what stands still costs nothing.
    sheet = Image.new("RGB", (frames[0].width, frames[0].height * min(len(frames), 4)))
    for n, frame in enumerate(frames[:: max(len(frames) // 4, 1)][:4]):
        sheet.paste(frame, (0, n * frame.height))
    data = b""
    for colours, every, scale in ((128, 1, 1.0), (64, 1, 1.0), (64, 2, 1.0), (64, 2, 0.75), (32, 3, 0.5)):
        palette = sheet.quantize(colours)
        chosen = [
            f if scale == 1.0 else f.resize((int(f.width * scale), int(f.height * scale)))
            for f in frames[::every]
        ]
        coded = [f.quantize(palette=palette, dither=Image.Dither.NONE) for f in chosen]
        buffer = io.BytesIO()
        coded[0].save(
            buffer,
            format="GIF",
            save_all=True,
            append_images=coded[1:],
            duration=milliseconds * every,
            loop=0,
            optimize=False,
        )
        data = buffer.getvalue()
        if len(data) < limit:
            break
    return data


def write(
    path: Path,
    images: Sequence[tuple[float, NDArray[np.uint8]]],
    camera: Camera | None,
    beliefs: Mapping[float, Belief],
    plans: Mapping[float, PlanRecord],
    names: Mapping[int, str],
    start: float,
    goals: Callable[[float], Sequence[Goal]] = lambda stamp: (),
) -> None:
    """Write the animation of `images` [(stamp s, rgb)] with beliefs and plans by stamp (rounded to the ms)."""
    frames = []
    for stamp, image in images:
        key = round(stamp, 3)
        plan = plans.get(key)
        gain = f"expects to learn {plan.gain.total:.2f} nats" if plan else ""
        caption = f"{stamp - start:6.1f} s   {gain}\n{plan.label if plan else ''}"
        frames.append(draw_frame(image, camera, beliefs.get(key), plan, names, caption, goals(stamp)))
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(encode(frames))
    temporary.replace(path)
