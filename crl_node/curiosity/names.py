"""The names of the policies. Nothing else is here: what only needs the names imports no planner."""

#: Ours, then the baselines from the simplest to those that learn models of their own.
POLICIES = ("curious", "skills", "random", "disagreement", "rnd")
