"""Settings of the online slot model, with units and the reason for each value."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SlotConfig:
    """Defaults are for things of 3 to 12 cm seen by a 96x96 camera at 10 Hz about 1.2 m away."""

    # the arm and the background
    arm_margin_px: float = 0.5  # px, widening of the arm's mask: a pixel half covered is hidden
    thing_height: float = 0.09  # m, tallest thing: how far above the table the region of interest reaches
    table_margin: float = 0.03  # m around the table that is looked at too: there things at its edge end
    thing_size: float = 0.15  # m, a region wider than this is furniture, not a thing
    background_tolerance: float = 0.06  # rgb distance (0..1) below which a pixel is background
    background_rate: float = 0.02  # 1/frame, how fast the background follows slow changes of light
    region_tolerance: float = 0.03  # rgb distance of neighbouring pixels that belong to one surface
    # colour of things
    hue_tolerance: float = 0.05  # rgb, turned part of a colour between two faces of one thing
    shade_ratio: float = 2.6  # brightest over darkest face of one thing
    hue_std: float = 0.03  # rgb, spread of the turned part in the mixture
    shade_std: float = 0.6  # nats, spread of log brightness in the mixture; beyond 2 std no further penalty
    outlier_nats: float = 9.0  # a pixel that fits its best slot worse than this is unexplained
    em_steps: int = 3  # per frame
    # births and deaths
    birth_area: float = 3.5e-4  # m^2 of unexplained picture, facing the camera, that make a thing
    rim_inset: float = 0.01  # m, the middle of a thing is at least that far inside the table
    birth_frames: int = 2  # frames that a pixel stays unexplained before it counts
    birth_frames_near_arm: int = 6  # the same when the region touches the arm
    reidentify_distance: float = 0.22  # m, how far a thing may have been carried while unseen
    existence_decay: float = 0.75  # 1/frame, where a thing should be seen and is not
    missing_std: float = 0.05  # m per frame added to where it may be then
    existence_gone: float = 0.05  # below it the slot leaves the belief (it can still be re-identified)
    # motion (two modes, mixed by evidence: at rest, moving)
    rest_std: float = 1.0e-4  # m per step
    velocity_std: float = 0.08  # m/s change of velocity per 0.1 s
    to_motion: float = 0.05  # probability per step
    to_rest: float = 0.15  # probability per step
    pixel_std: float = 0.10  # px, of the centroid of a thing in full view
    edge_std: float = 0.5  # 1, mismatch of mask and template at an edge pixel
    bias_std: float = 0.002  # m, systematic error of positions (quantisation, shape), not averaged out
    height_std: float = 0.012  # m, systematic error of heights; moves positions along the line of sight
    # brightness
    brightness_std: float = 0.02  # 1, measurement
    brightness_drift: float = 0.01  # 1 per step
    brightness_jump: float = 4.0  # std, a larger innovation is a switched lamp: start anew from the picture
