"""Every limit of a manifest: the last value that is taken, and the first that is not."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from shared_protocol.bundles.manifest import manifest_from
from shared_protocol.errors import ConfigError

BUILTIN = Path(__file__).parents[4] / "shared_protocol" / "weights" / "builtin" / "bundle.json"


@pytest.fixture
def content() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(BUILTIN.read_text())
    return found


def changed(content: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    made = deepcopy(content)
    at = made
    *way, last = path.split(".")
    for step in way:
        at = at[step]
    at[last] = value
    return made


LIMITS = [
    ("grid", [1, 16], [0, 16]),
    ("grid", [16, 1], [16, 0]),
    ("grid", [64, 16], [65, 16]),
    ("grid", [16, 64], [16, 65]),
    ("stride", 1, 0),
    ("stride", 64, 65),
    ("max_text_tokens", 1, 0),
    ("max_text_tokens", 4096, 4097),
    ("vocabulary.text_size", 1, 0),
    ("vocabulary.codebook_size", 2, 1),
    ("defaults.steps", 1, 0),
    ("defaults.steps", 100, 101),
    ("defaults.guidance", 0, -0.01),
    ("defaults.guidance", 25.0, 25.1),
    ("defaults.max_new_tokens", 1, 0),
    ("defaults.max_new_tokens", 512, 513),
    ("name", "n" * 64, "n" * 65),
    ("name", "n", ""),
]


@pytest.mark.parametrize(("path", "last", "first"), LIMITS)
def test_the_last_value_is_taken_and_the_first_beyond_is_not(
    content: dict[str, Any], path: str, last: Any, first: Any
) -> None:
    manifest_from(changed(content, path, last))
    with pytest.raises(ConfigError, match=r"is not a bundle manifest"):
        manifest_from(changed(content, path, first))


def test_ids_are_counted_together_with_the_special_ones(content: dict[str, Any]) -> None:
    made = manifest_from(content).vocabulary
    special = made.size - made.text_size - made.codebook_size
    most = (1 << 22) - made.codebook_size - special
    assert manifest_from(changed(content, "vocabulary.text_size", most)).vocabulary.size == 1 << 22
    with pytest.raises(ConfigError, match="number of ids"):
        manifest_from(changed(content, "vocabulary.text_size", most + 1))


def test_a_picture_has_at_most_16_pixels_for_each_token_of_the_largest_grid(
    content: dict[str, Any],
) -> None:
    wide = changed(content, "stride", 32)
    manifest_from(changed(wide, "grid", [16, 32]))
    for grid in ([16, 33], [33, 16]):
        with pytest.raises(ConfigError, match="in pixels"):
            manifest_from(changed(wide, "grid", grid))


def test_what_is_told_of_a_wrong_manifest_is_short(content: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        manifest_from(changed(content, "image_tokenizer", "x" * 5000))
    text = str(caught.value)
    assert "x" * 100 in text
    assert len(text) < 400


def test_all_fields_but_typing_make_the_fingerprint(content: dict[str, Any]) -> None:
    usual = manifest_from(content).fingerprint
    assert manifest_from(changed(content, "typing", {})).fingerprint == usual
    assert manifest_from(changed(content, "stride", 8)).fingerprint != usual
