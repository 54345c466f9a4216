"""Pairs of images with pairs of captions that differ in one respect: whether each is matched with its own."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from xgap_analysis.core.errors import XgapError


def winoground(scores: ArrayLike) -> pd.DataFrame:
    """Text, image and group score of each pair.

    Formula, with `s_ij` the score of caption i and image j:

    | column | is true where |
    |---|---|
    | `text` | `s_00 > s_10` and `s_11 > s_01`: for each image, its own caption scores higher |
    | `image` | `s_00 > s_01` and `s_11 > s_10`: for each caption, its own image scores higher |
    | `group` | both |

    How to read it: the mean of a column is a share in [0, 1]. Independent scores give 1/4, 1/4 and 1/6. Scores of a
    model are not independent: where one caption scores higher with both images, the text score is 0, so values far
    below 1/4 say that the model prefers a caption (or an image) and not that it prefers the wrong one. A tie counts
    as wrong, so a scorer that cannot see the difference gives 0.

    Args:
        scores: `[n, 2, 2]`, pairs, captions, images.

    Returns:
        n rows of 0 and 1.

    Raises:
        XgapError: another shape, or a score that is not a number.

    Example:
        >>> winoground([[[0.9, 0.1], [0.2, 0.8]], [[0.9, 0.8], [0.7, 0.6]]])
           text  image  group
        0     1      1      1
        1     0      0      0

    Source: Thrush et al., Winoground, CVPR 2022.
    """
    s = np.asarray(scores, dtype=np.float64)
    if s.ndim != 3 or s.shape[1:] != (2, 2):
        raise XgapError(f"scores are [n, 2, 2] (pairs, captions, images), not {list(s.shape)}")
    if np.isnan(s).any():
        raise XgapError(f"{int(np.isnan(s).any(axis=(1, 2)).sum())} pairs have a score that is not a number")
    text = (s[:, 0, 0] > s[:, 1, 0]) & (s[:, 1, 1] > s[:, 0, 1])
    image = (s[:, 0, 0] > s[:, 0, 1]) & (s[:, 1, 1] > s[:, 1, 0])
    return pd.DataFrame({"text": text, "image": image, "group": text & image}).astype(int)
