"""The pictures that a neck is judged on: held-out scenes, photographs, an edge client's records.

It does not know tables or how anything was trained.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cloud_server.generation.work import PictureResult, filling
from cloud_server.serving.load import backbone_path, load_engine
from cloud_server.serving.loaded_model import Runner
from cloud_server.settings import Settings
from cloud_server.training.benchmark.neck_measures import (
    DECODED,
    NECK,
    PIXELS,
    Marks,
    Models,
    Ranks,
    marks,
    places_of,
    ranks_of,
)
from cloud_server.training.recipes.image_tokenizer.crops import load_photos, read_photo
from cloud_server.training.recipes.image_tokenizer.scores import encode_pictures
from cloud_server.training.recipes.neck.examples import check_tokenizer
from cloud_server.training.scenes.render import Renderer
from cloud_server.training.scenes.world import Scene, World
from cloud_server.training.tokens.scene_tokens import TokenShards
from cloud_server.training.tokens.shards import META
from shared_protocol.bundles.bundle import Bundle
from shared_protocol.cases import load_cases
from shared_protocol.errors import ConfigError, InvalidInputError
from shared_protocol.tokenizers.compact import CompactTokenizer

HELD_OUT = "test_*.npy"


@dataclass(frozen=True)
class Pictures:
    """Pictures one batch at a time.

    Attributes:
        truth: labels of what each shows; None where nobody knows.
        side: pixels of a side.
        said: what they are, for a table.
    """

    truth: list[set[int]] | None
    side: int
    said: str
    _scenes: tuple[Scene, ...] = ()
    _codes: np.ndarray | None = None
    _renderer: Renderer | None = None
    _photos: np.ndarray | None = None
    _tokenizer: CompactTokenizer | None = None

    @classmethod
    def open(cls, args: argparse.Namespace, bundle: Bundle, models: Models) -> Pictures:
        """The pictures that `--images` names.

        Raises:
            ConfigError: shards of another tokenizer.
            InvalidInputError: there are none.
        """
        side = bundle.grid[0] * bundle.stride
        folder: Path = args.images
        if not (folder / META).is_file():
            photos = load_photos(folder, args.limit)
            said = f"{len(photos)} photographs of {folder.name}; the truth is the pixels' label."
            return cls(None, side, said, _photos=photos, _tokenizer=models.tokenizer)
        own = bundle.manifest.digest("image_tokenizer") or ""
        try:
            check_tokenizer(folder, own)
            tokenizer = None
        except ConfigError:  # an updated tokenizer: its codes are made from the pixels
            tokenizer = models.tokenizer
        shards = TokenShards(folder, HELD_OUT)
        count = min(args.limit, len(shards))
        if not count:
            raise InvalidInputError(f"no {HELD_OUT} in {folder}", "make them: --split test")
        some = [shards[index] for index in range(count)]
        names = {name: place for place, name in enumerate(models.encoder.labels)}
        world = World.load(args.world)
        return cls(
            [places_of(names, [thing.name for thing in one.scene.objects]) for one in some],
            side,
            f"{count} held-out scenes of the built-in world.",
            tuple(one.scene for one in some),
            np.stack([one.codes for one in some]),
            Renderer(world, args.cache),
            _tokenizer=tokenizer,
        )

    def batches(self, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Codes (B, h, w) and pictures uint8 (B, H, W, 3)."""
        count = len(self._scenes) if self._photos is None else len(self._photos)
        for start in range(0, count, size):
            rows = slice(start, start + size)
            pictures = self._drawn(rows)
            if self._tokenizer is not None:
                yield encode_pictures(self._tokenizer, pictures), pictures
            else:
                assert self._codes is not None, "shards have codes"
                yield self._codes[rows], pictures

    def _drawn(self, rows: slice) -> np.ndarray:
        if self._photos is not None:
            return self._photos[rows]
        assert self._renderer is not None, "scenes come with a renderer"
        return np.stack([self._renderer.render(scene) for scene in self._scenes[rows]])


@dataclass(frozen=True)
class Judged:
    """One way in which an edge client sent pictures.

    Attributes:
        name: for a table.
        bytes: mean of a picture; None where nothing was sent.
        marks: how right it was.
    """

    name: str
    bytes: float | None
    marks: Marks


def judged_records(records: Path, data: Path, bundle: Bundle, models: Models) -> list[Judged]:
    """Judge what `edge-client evaluate neck` wrote.

    Args:
        records: folder with records.jsonl and pictures/.
        data: folder that it read.
        bundle: that it used.
        models: see there.

    Raises:
        ConfigError: the records cannot be read.
    """
    found = read_records(records / "records.jsonl")
    names = list(dict.fromkeys(str(one["picture"]) for one in found))
    codes = {str(o["picture"]): o["codes"] for o in found if "codes" in o}
    grids = np.array([codes[name] for name in names]).reshape(len(names), *bundle.grid)
    pictures = np.stack([read_photo(data / name) for name in names])
    plain = ranks_of(models, iter([(grids, pictures)]), (PIXELS, DECODED, NECK))
    truth = truths(data, names, models, plain[PIXELS])
    filler = GapFiller(bundle)
    judged = [Judged(PIXELS, None, marks(plain[PIXELS], truth, plain[PIXELS]))]
    for method in dict.fromkeys(str(one["method"]) for one in found):
        mine = [one for one in found if one["method"] == method]
        size = float(np.mean([one["picture_bytes"] for one in mine]))
        if "shown" in mine[0]:
            shown = np.stack([read_photo(records / str(one["shown"])) for one in mine])
            ways = {method: ranks_of(models, iter([(grids, shown)]), (PIXELS,))[PIXELS]}
        else:
            filled = filler.whole(mine)
            ranks = ranks_of(models, iter([(filled, pictures)]), (DECODED, NECK))
            ways = {f"{method}: {name}": found_ for name, found_ in ranks.items()}
        judged += [Judged(n, size, marks(r, truth, plain[PIXELS])) for n, r in ways.items()]
    return judged


def read_records(path: Path) -> list[dict[str, Any]]:
    """The records of an edge client; of several with one id the last counts.

    Raises:
        ConfigError: there are none, or a line is none.
    """
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        found = {str(one["id"]): one for one in lines}
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ConfigError(
            f"{path} holds no records: {error}", "make them: 'edge-client evaluate neck'"
        ) from error
    if not found:
        raise ConfigError(f"{path} is empty", "make them: 'edge-client evaluate neck'")
    return list(found.values())


def truths(data: Path, names: Sequence[str], models: Models, pixels: Ranks) -> list[set[int]]:
    """What the cases say that each picture shows, else the likeliest label of its pixels."""
    places = {name: place for place, name in enumerate(models.encoder.labels)}
    known: dict[str, set[int]] = {}
    cases = load_cases(data) if (data / "cases.jsonl").is_file() else []
    for case in cases:
        objects = [str(thing[0]) for thing in case.truth.get("objects", [])]
        whole = case.task in ("vqa", "inpaint")  # an outpainting's picture is a part of the scene
        if case.image is not None and whole and objects and set(objects) <= places.keys():
            known.setdefault(case.image, places_of(places, objects))
    return [known.get(name, {int(best[0])}) for name, best in zip(names, pixels, strict=True)]


class GapFiller:
    """Makes up the tokens that were left out, as the server does.

    Args:
        bundle: whose transformer is read on first use.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle

    @cached_property
    def _engine(self) -> Runner:
        return load_engine(self._bundle, backbone_path(self._bundle, Settings()), "cpu", 1)

    def whole(self, records: Sequence[dict[str, Any]]) -> np.ndarray:
        """int64 (N, h, w): the codes of some records."""
        return np.stack([self._filled(one) for one in records])

    def _filled(self, record: dict[str, Any]) -> np.ndarray:
        codes = np.array(record["codes"], dtype=np.int64)
        missing = np.zeros(codes.size, dtype=bool)
        missing[record["dropped"]] = True
        if not missing.any():
            return codes.reshape(self._bundle.grid)
        grid = self._bundle.grid
        work = filling(codes.reshape(grid), missing.reshape(grid), 0)
        result = self._engine.run([work])[0]
        assert isinstance(result, PictureResult)
        return result.codes
