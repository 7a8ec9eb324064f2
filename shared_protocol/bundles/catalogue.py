"""The published bundles: which repositories they are made of, and where files of those are kept.

It does not know how files get here (see `hub`), nor what is inside them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shared_protocol.bundles.digests import cache_folder
from shared_protocol.bundles.manifest import Defaults
from shared_protocol.vocabulary import Vocabulary

MODELS_VARIABLE = "UNIMIC_MODELS"
CONFIG = "config.json"
TOKENIZER_NAMES = ("tokenizer.json",)
IMAGE_TOKENIZER, TEXT_TOKENIZER = "showlab/magvitv2", "microsoft/phi-1_5"
SHOWO = Vocabulary(50295, 8192)
STRIDE = 16
"""Pixels per token side of MAGVIT-v2."""
_MAX_TEXT_LEN = 128
_TEXT_FRAME = 2
"""The ids that open and close a prompt take places of its block."""


@dataclass(frozen=True)
class Published:
    """A bundle of published files.

    Args:
        name: of the bundle.
        transformer: repository of what the server needs besides.
        vocabulary: the unified id space.
        side: native grid side in tokens.
        defaults: what the authors ran it with.
    """

    name: str
    transformer: str
    side: int
    defaults: Defaults
    vocabulary: Vocabulary = SHOWO

    def content(self, files: Mapping[str, str]) -> dict[str, Any]:
        """All manifest fields but the digests."""
        return {
            "name": self.name,
            "vocabulary": asdict(self.vocabulary),
            "grid": [self.side, self.side],
            "stride": STRIDE,
            "max_text_tokens": _MAX_TEXT_LEN - _TEXT_FRAME,
            "image_tokenizer": "magvitv2",
            "files": dict(files),
            "defaults": asdict(self.defaults),
        }


CATALOGUE = {
    bundle.name: bundle
    for bundle in (
        Published("show-o", "showlab/show-o", 16, Defaults(16, 1.75, 100)),
        Published("show-o-512", "showlab/show-o-512x512", 32, Defaults(50, 5.0, 100)),
    )
}


def models_folder() -> Path:
    """Where fetched files lie: a folder per repository."""
    named = os.environ.get(MODELS_VARIABLE)
    return Path(named) if named else cache_folder() / "models"


def folder_of(repository: str, models: Path) -> Path:
    """A repository's folder.

    >>> folder_of("showlab/magvitv2", Path("models")).as_posix()
    'models/magvitv2'
    """
    return models / repository.rpartition("/")[2]
