"""Which of several variants are not shown to be worse than the best one."""

from collections.abc import Mapping

import numpy as np

from xgap_analysis.metrics.groups import Groups
from xgap_analysis.metrics.significance import Values, paired_test
from xgap_analysis.metrics.verdicts import LEVEL, verdict

BEST, TIED, LOWER = "best", "tied", "lower"
RESAMPLES = 10_000


def against_best(
    variants: Mapping[str, Values], groups: Groups | None = None, resamples: int = RESAMPLES
) -> dict[str, str]:
    """Which of several variants, evaluated on the same queries, is best, and which are tied with it.

    How to read it: `best` has the highest mean, `tied` is not shown to be below it (which is no proof that it is
    equal), and `lower` is. A table in which everything is tied ranks nothing.

    Formula: `paired_test` over groups of each variant and the best. The best was chosen by looking at all of them, so
    that each p-value is multiplied by the number of *all* pairs, `k (k - 1) / 2`, which bounds the chance that any
    variant is wrongly called lower whichever is best (Bonferroni). `lower` needs what a verdict needs (`verdict`):
    adjusted p below 0.05, an interval that excludes zero, and enough groups.

    Args:
        variants: name to `[n]` values, one a query, the same queries in the same order (Series are aligned).
        groups: n labels; queries of one label are drawn and flipped together.
        resamples: of each test; more are drawn where there are so many pairs that no p-value could be small enough.

    Returns:
        Name to `best`, `tied` or `lower`. Of several with the highest mean, the first is `best`.

    Raises:
        XgapError: values or groups that do not fit.

    Source: Hsu, Multiple comparisons, 1996, chapter 4 (comparison with the best); `paired_test` for the test.

    Example:
        >>> import numpy as np
        >>> value = np.random.default_rng(0).uniform(size=60)
        >>> against_best({"a": value, "b": value - 0.2, "c": value + np.tile([0.001, -0.001], 30)})
        {'a': 'best', 'b': 'lower', 'c': 'tied'}
    """
    if not variants:
        return {}
    means = {name: float(np.nanmean(np.asarray(values, dtype=float))) for name, values in variants.items()}
    best = max(means, key=lambda name: means[name])
    pairs = len(variants) * (len(variants) - 1) // 2
    enough = max(resamples, round(2 * pairs / LEVEL))
    found = {best: BEST}
    for name in variants.keys() - {best}:
        test = paired_test(variants[best], variants[name], groups=groups, resamples=enough)
        said = verdict(test.low, test.high, min(1.0, pairs * test.p_value), test.effective_groups)
        found[name] = LOWER if said.word == "lower" else TIED
    return {name: found[name] for name in variants}
