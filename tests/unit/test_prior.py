"""What one edge teaches about another."""

from __future__ import annotations

import numpy as np
import pytest

from crl_node.data import BODY, MAX_SLOTS, TermKind
from crl_node.mechanisms import grammar
from crl_node.structure import prior

S = MAX_SLOTS


def things(count: int) -> np.ndarray:
    out = np.zeros(S, bool)
    out[1 : count + 1] = True
    return out


def believed(count: int, evidence: dict[tuple[int, int], float]) -> prior.Traits:
    """Traits after log Bayes factors {(target, parent): nats} of PUSH."""
    push = np.zeros((S, S))
    for (target, parent), nats in evidence.items():
        push[target, parent] = nats
    return prior.traits(push, np.zeros((S, S)), things(count), np.zeros(S))


def test_without_evidence_every_thing_is_as_movable_and_solid_as_the_prior_says() -> None:
    trait = believed(3, {})
    np.testing.assert_allclose(trait.movable[1:4], prior.MOVABLE)
    np.testing.assert_allclose(trait.solid[1:4], prior.SOLID)
    assert trait.push[1, BODY] == pytest.approx(0.97 * 0.75 + 0.02 * 0.25)


def test_what_the_body_moved_is_expected_to_be_moved_by_other_things_too() -> None:
    trait = believed(3, {(1, BODY): 20.0, (2, BODY): 20.0})
    assert trait.push[1, 2] > 0.9
    assert trait.push[2, 1] > 0.9
    assert trait.push[1, 3] > 0.9


def test_nothing_is_expected_to_push_what_did_not_yield_to_the_body() -> None:
    trait = believed(3, {(1, BODY): -20.0})
    assert trait.push[1, 2] < 0.1
    assert trait.push[2, BODY] == pytest.approx(believed(3, {}).push[2, BODY])


def test_what_blocks_the_body_is_solid_and_not_movable() -> None:
    trait = believed(3, {(BODY, 1): 20.0})
    assert trait.movable[1] < 0.1
    assert trait.solid[1] > 0.95
    assert trait.push[1, BODY] < 0.1
    assert trait.push[1, 2] < 0.1


def test_what_moves_does_not_block_the_body() -> None:
    assert believed(3, {(1, BODY): 20.0}).push[BODY, 1] < 0.05


def test_an_edge_is_not_its_own_witness() -> None:
    one, other = believed(3, {(1, BODY): 3.0}), believed(3, {(1, BODY): -3.0})
    assert one.push[1, BODY] == pytest.approx(other.push[1, BODY], abs=0.02)


def odds_of(evidence: prior.Experience, count: int = 4) -> np.ndarray:
    registered = things(count)
    registered[BODY] = True
    trait = prior.traits(np.zeros((S, S)), np.zeros((S, S)), things(count), np.zeros(S))
    springs = evidence.pairs(TermKind.SPRING) if evidence.columns is grammar.MOTION else None
    return prior.log_prior_odds(evidence, grammar.allowed(evidence.columns, registered), trait, springs)


def test_alternatives_of_a_group_share_one_unit_of_prior() -> None:
    odds = odds_of(prior.Experience(grammar.MOTION))
    group = grammar.MOTION.of_group(TermKind.PUSH, 2)
    columns = grammar.MOTION.group == group
    inclusion = np.exp(odds[1, columns]).sum() / (1 + np.exp(odds[1, columns]).sum())
    assert inclusion == pytest.approx(0.97 * 0.75 * 0.95 + 0.02 * (1 - 0.75 * 0.95), rel=1e-6)


def test_a_radius_that_fits_elsewhere_is_expected_here() -> None:
    experience = prior.Experience(grammar.MOTION)
    wide = (grammar.MOTION.kind == TermKind.PUSH) & (grammar.MOTION.alternative == 2) & (grammar.MOTION.parent == BODY)
    for target in (1, 2, 3):
        experience.inclusion[target, wide] = 1.0
        experience.log_bayes_factor[target, grammar.MOTION.of_group(TermKind.PUSH, BODY)] = 8.0
    odds = odds_of(experience)
    columns = np.flatnonzero(grammar.MOTION.group == grammar.MOTION.of_group(TermKind.PUSH, BODY))
    assert np.argmax(odds[4, columns]) == 2


def test_a_kind_seen_often_is_expected_more() -> None:
    fresh, seen = prior.Experience(grammar.MOTION), prior.Experience(grammar.MOTION)
    group = grammar.MOTION.of_group(TermKind.INERTIA)
    for target in (1, 2, 3):
        seen.inclusion[target, 0] = 1.0
        seen.log_bayes_factor[target, group] = 8.0
    assert odds_of(seen)[4, 0] > odds_of(fresh)[4, 0] + 1.0


def test_a_spring_found_in_one_direction_is_expected_in_the_other() -> None:
    experience = prior.Experience(grammar.MOTION)
    experience.log_bayes_factor[1, grammar.MOTION.of_group(TermKind.SPRING, 2)] = 8.0
    odds, before = odds_of(experience), odds_of(prior.Experience(grammar.MOTION))
    column = np.flatnonzero((grammar.MOTION.kind == TermKind.SPRING) & (grammar.MOTION.parent == 1))[0]
    other = np.flatnonzero((grammar.MOTION.kind == TermKind.SPRING) & (grammar.MOTION.parent == 3))[0]
    assert odds[2, column] > before[2, column] + 2.0
    assert odds[2, other] < odds[2, column]


def test_what_the_grammar_forbids_has_no_prior() -> None:
    odds = odds_of(prior.Experience(grammar.MOTION))
    motion = grammar.MOTION
    assert np.isneginf(odds[1, motion.parent == 1]).all()  # no self pairs
    assert np.isneginf(odds[1, motion.kind == TermKind.ACTION]).all()  # the action moves only the body
    assert np.isneginf(odds[1, motion.parent == 7]).all()  # nobody is registered there
    assert np.isneginf(odds[9]).all()
    assert np.isfinite(odds[BODY, motion.kind == TermKind.ACTION]).all()


def test_recorded_bayes_factors_do_not_contain_the_prior() -> None:
    experience = prior.Experience(grammar.MOTION)
    size = len(grammar.MOTION)
    log_odds = np.full(size, -np.inf)
    inclusion = np.zeros(size)
    log_odds[0], inclusion[0] = np.log(0.25), 0.2  # posterior equals prior
    log_odds[4], inclusion[4] = np.log(0.25), 0.8  # 16 times the prior odds
    experience.record(1, inclusion, log_odds)
    groups = grammar.MOTION.group
    assert experience.log_bayes_factor[1, groups[0]] == pytest.approx(0.0, abs=1e-9)
    assert experience.log_bayes_factor[1, groups[4]] == pytest.approx(np.log(16.0))
