"""The temperature of a run, where it is not learned."""

import math


def temperature_at(step: int, steps: int, start: float, end: float) -> float:
    """A temperature that goes from `start` to `end` along half a cosine; a high end closes the modality gap.

    Formula: `end + (start - end) (1 + cos(pi step / (steps - 1))) / 2`.

    Args:
        step: from 0 to steps - 1.
        steps: of the whole run.
        start, end: temperatures.

    Source: that temperature drives the gap, Liang et al., 2022 (Mind the Gap), section 4.2, and Yaras et al.,
    Explaining and mitigating the modality gap in contrastive multimodal learning, 2024.
    """
    share = step / (steps - 1) if steps > 1 else 1.0
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
