"""Which tokens of a picture that the network drew itself are hidden, so that it learns from it.

Knows how the picture came about; no scenes, words or network. Half and half::

    whole   any share of all tokens, as of rendered pictures
    path    everything that was drawn, or mended, after a random moment of the drawing: what is seen
            is what decoding sees, the surest tokens first, most of them background
"""

from __future__ import annotations

import numpy as np

from cloud_server.training.recipes.backbone.hidden_tokens import thin_out
from cloud_server.training.tokens.kept_pictures import KeptPicture

PATH_SHARE = 0.5


def hidden_of_kept(picture: KeptPicture, rng: np.random.Generator) -> np.ndarray:
    """(H, W) bool, True = hidden; at least one token."""
    if rng.random() >= PATH_SHARE:
        return thin_out(np.ones(picture.codes.shape, dtype=bool), rng)
    # What was mended may have stood otherwise at that moment: it was not seen, so it is hidden.
    order = np.where(picture.draft == picture.codes, picture.order, picture.order.max())
    return np.asarray(order >= rng.integers(int(order.max()) + 1))
