"""A boosted tree ensemble over categorical codes, taken apart into leaves and restricted to a few positions.

    code c       a vector of P categories, each in {0, …, K − 1}: a flattened grid of VQ-VAE indices
    leaf         a value and, for some positions, the set of categories that lead to it
    ensemble     c ↦ base score + Σ over trees of the value of the one leaf that c reaches
    restriction  an ensemble with most positions fixed: it has no leaf that can no longer be reached, and one
                 class for all categories that no remaining leaf tells apart

All sums are in double precision over the booster's own single-precision leaf values.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import xgboost as xgb


class Leaf(NamedTuple):
    """A value and the categories that lead to it, as a bool vector for each position that matters."""

    value: float
    allowed: dict[int, np.ndarray]


@dataclass(frozen=True)
class Ensemble:
    """base_score + Σ over trees of the leaf that a code of `positions` numbers below `categories` reaches."""

    base_score: float
    trees: list[list[Leaf]]
    positions: int
    categories: int

    def leaf_values(self, code: np.ndarray) -> np.ndarray:
        """Return the value of the leaf that `code`, (P,), reaches in each tree, (trees,)."""
        return np.array(
            [
                next(leaf.value for leaf in tree if all(m[code[p]] for p, m in leaf.allowed.items()))
                for tree in self.trees
            ]
        )


@dataclass(frozen=True)
class Restriction:
    """An ensemble as a function of t free positions: constant + Σ over trees of the leaf reached.

    Variable i is position `free[i]`. Its labels are the classes `classes[i]`, arrays of categories that no
    leaf tells apart. The masks of the leaves are over labels. `excluded` holds the assignments, (n, t), that
    are not allowed.
    """

    free: tuple[int, ...]
    constant: float
    trees: list[list[Leaf]]
    classes: list[list[np.ndarray]]
    excluded: np.ndarray

    @property
    def interaction(self) -> int:
        """The largest number of variables that one leaf depends on."""
        return max((len(leaf.allowed) for tree in self.trees for leaf in tree), default=0)

    def value(self, labels: Sequence[int] | np.ndarray) -> float:
        """Return the ensemble's value at an assignment of labels, (t,)."""
        return self.constant + sum(
            next(leaf.value for leaf in tree if all(m[labels[i]] for i, m in leaf.allowed.items()))
            for tree in self.trees
        )


def parse(booster: xgb.Booster, categories: int) -> Ensemble:
    """Take apart an xgboost regressor (squared error) whose features are all categories below `categories`.

    In xgboost's model format the list of a categorical node holds the categories that go right. All others,
    including those never seen in training, go left.

    Raises ValueError for a booster that is not a tree ensemble of one squared-error output, that splits a
    feature as a number, or that lists a category beyond `categories`.
    """
    learner = json.loads(bytes(booster.save_raw("json")))["learner"]
    booster_name, objective = learner["gradient_booster"]["name"], learner["objective"]["name"]
    if booster_name != "gbtree" or objective != "reg:squarederror":
        raise ValueError(
            f"the booster is {booster_name} for {objective}; it must be gbtree for reg:squarederror"
        )
    base_score = np.array(json.loads(learner["learner_model_param"]["base_score"]), dtype=np.float32)
    if base_score.size != 1:
        raise ValueError(f"the booster has {base_score.size} outputs; it must have one")
    trees = [_leaves(tree, categories) for tree in learner["gradient_booster"]["model"]["trees"]]
    positions = int(learner["learner_model_param"]["num_feature"])
    return Ensemble(float(base_score.item()), trees, positions, categories)


def _leaves(tree: dict[str, Any], categories: int) -> list[Leaf]:
    """Return the leaves that some code can reach, from left to right."""
    left, right, feature = tree["left_children"], tree["right_children"], tree["split_indices"]
    listed = np.asarray(tree["categories"], dtype=np.int64)
    if listed.size and listed.max() >= categories:
        raise ValueError(f"the booster splits on category {listed.max()}; there are {categories}, from 0 on")
    starts, sizes = tree["categories_segments"], tree["categories_sizes"]
    segment = {node: (starts[k], starts[k] + sizes[k]) for k, node in enumerate(tree["categories_nodes"])}
    value = np.asarray(tree["split_conditions"], dtype=np.float32)
    leaves: list[Leaf] = []

    def walk(node: int, allowed: dict[int, np.ndarray]) -> None:
        if left[node] < 0:
            leaves.append(Leaf(float(value[node]), allowed))
            return
        if node not in segment:
            raise ValueError(
                f"the booster splits feature {feature[node]} as a number; all must be categories"
            )
        position = feature[node]
        goes_right = np.zeros(categories, dtype=bool)
        goes_right[listed[slice(*segment[node])]] = True
        for child, mask in ((left[node], ~goes_right), (right[node], goes_right)):
            if position in allowed:  # the position was split further up
                mask = mask & allowed[position]
                if not mask.any():
                    continue
            walk(child, {**allowed, position: mask})

    walk(0, {})
    return leaves


def restrict(
    ensemble: Ensemble, base: np.ndarray, free: Sequence[int], tried: np.ndarray | None = None
) -> Restriction:
    """Fix all positions but `free` to the entries of `base`, (P,), and exclude the codes `tried`, (n, P).

    A category that occurs in a relevant tried code is a class of its own. Excluding the code then excludes
    only that assignment, and no other member of its class.

    Raises ValueError where `base` is no code of the ensemble or `free` are not distinct positions.
    """
    base, free = np.asarray(base, dtype=np.int64), tuple(int(p) for p in free)
    if base.shape != (ensemble.positions,) or base.min() < 0 or base.max() >= ensemble.categories:
        raise ValueError(
            f"the base code has shape {base.shape} and values {base.min()} to {base.max()}; "
            f"it must be {ensemble.positions} categories below {ensemble.categories}"
        )
    if len(set(free)) != len(free) or not all(0 <= p < ensemble.positions for p in free):
        raise ValueError(f"the free positions are {free}; they must differ and be below {ensemble.positions}")
    variable = {position: i for i, position in enumerate(free)}

    constant, trees = ensemble.base_score, []
    for tree in ensemble.trees:
        reachable = [
            Leaf(value, {variable[p]: mask for p, mask in allowed.items() if p in variable})
            for value, allowed in tree
            if all(mask[base[p]] for p, mask in allowed.items() if p not in variable)
        ]
        if len(reachable) == 1:
            constant += reachable[0].value
        else:
            trees.append(reachable)

    relevant = _differ_in_free_only(tried, base, free)
    class_of, classes = _merge(trees, len(free), ensemble.categories, relevant)
    representatives = [[members[0] for members in labels] for labels in classes]
    trees = [
        [Leaf(v, {i: mask[representatives[i]] for i, mask in allowed.items()}) for v, allowed in tree]
        for tree in trees
    ]
    excluded = np.empty_like(relevant)
    for i in range(len(free)):
        excluded[:, i] = class_of[i][relevant[:, i]]
    return Restriction(free, constant, trees, classes, excluded)


def _differ_in_free_only(tried: np.ndarray | None, base: np.ndarray, free: tuple[int, ...]) -> np.ndarray:
    """Return the free entries, (n, t), of those tried codes that agree with `base` in all fixed positions."""
    if tried is None or len(tried) == 0:
        return np.empty((0, len(free)), dtype=np.int64)
    fixed = np.setdiff1d(np.arange(len(base)), free)
    tried = np.asarray(tried, dtype=np.int64)
    matching = (tried[:, fixed] == base[fixed]).all(1)
    return np.unique(tried[matching][:, list(free)], axis=0)


def _merge(
    trees: list[list[Leaf]], variables: int, categories: int, apart: np.ndarray
) -> tuple[list[np.ndarray], list[list[np.ndarray]]]:
    """Return, per variable, the class of each category and the members of each class.

    Two categories are equivalent if the mask of every leaf has both or neither. The columns of `apart`,
    (n, t), list categories that stay in a class of their own.
    """
    masks: list[dict[bytes, np.ndarray]] = [{} for _ in range(variables)]
    for tree in trees:
        for leaf in tree:
            for i, mask in leaf.allowed.items():
                masks[i][mask.tobytes()] = mask
    class_of, classes = [], []
    for i in range(variables):
        alone = np.unique(apart[:, i])
        columns = [*masks[i].values(), *(np.arange(categories) == category for category in alone)]
        rows = np.packbits(np.array(columns, dtype=bool).reshape(-1, categories), axis=0).T
        if rows.shape[1] == 0:
            labels = np.zeros(categories, dtype=np.int64)
        else:
            keys = np.ascontiguousarray(rows).view(f"V{rows.shape[1]}").ravel()
            labels = np.unique(keys, return_inverse=True)[1]
        class_of.append(labels)
        order = np.argsort(labels, kind="stable")
        classes.append(np.split(order, np.flatnonzero(np.diff(labels[order])) + 1))
    return class_of, classes
