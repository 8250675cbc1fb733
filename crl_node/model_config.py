"""What the world model has to be told, and what one call of `observe` says it did."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelConfig:
    """What the model has to be told."""

    dt: float = 0.1  # s, control step
    wall: tuple[float, float, float, float] = (0.38, 0.82, -0.30, 0.30)  # m, x_min, x_max, y_min, y_max
    confirm: int = 2  # beliefs in which a slot must be certain before it becomes a variable
    certainty: float = 0.9  # existence above which a slot counts as certain
    absent_after: int = 50  # beliefs after which a lost slot leaves the planner's posterior
    settle: int = 2  # beliefs after registration in which nothing is learned about a slot
    #: Share of a slot that must be in view before and after to learn from it. What is seen by half follows its thing a
    #: frame late, which looks like inertia (of weight 2, in one run).
    least_visible: float = 0.6
    most_position_std: float = 0.008  # m, beliefs less certain than this teach nothing
    most_deviation: float = 4.0  # predicted standard deviations beyond which a step's influence is bounded
    least_deviation: float = 0.002  # m per step, smallest predicted standard deviation for that purpose
    most_step: float = 0.06  # m, nothing on the table moves further in one step: a tracking error
    motion_per_refresh: int = 2  # variables whose structure is recomputed in one refresh
    brightness_per_refresh: int = 1
    #: Begin another environment by itself when a mechanism is found to have changed.
    watch_changes: bool = False
    #: Find contact radii beyond those of the grammar (`structure.induction`).
    induce: bool = False
    engine: str = "greedy"  # structure engine, a name of `structure.engines`


@dataclass(frozen=True)
class Observation:
    """What one call of `observe` did."""

    learned: bool  # a transition was absorbed for at least one slot
    surprise: float  # nats, mean over slots of the negative log predictive density of their motion
    slots: tuple[int, ...] = ()  # identities learned from
    notes: tuple[str, ...] = ()
