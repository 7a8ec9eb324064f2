"""Runs a task's command: one picture or many, saved, told, and gone on with after an interruption.

It does not print, and does not know what a task asks of the cloud; see `tasks`.
"""

from __future__ import annotations

import glob
import re
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_client.commands.made import made
from edge_client.commands.outcome import Outcome, exposed_key
from edge_client.commands.tasks import Cloud, Item, ask, cloud
from edge_client.config import Settings
from edge_client.report import interaction_report, interaction_table
from shared_protocol.errors import ConfigError, ImageError, InvalidInputError
from shared_protocol.messages import OnStep

if TYPE_CHECKING:
    from edge_client.pictures.outputs import Destination, Saved

STDIN = Path("-")
_SHEET_COLUMNS = 4
_LARGEST_SIDE = 8192


def pictures(given: Namespace, settings: Settings, on_step: OnStep | None) -> Outcome:
    """A picture, or several, as the command says."""
    given.prompt = _prompt(given)
    items = items_of(given)
    # All that can be checked here is checked before anything is loaded or sent.
    targets = _targets(given, items)
    many = len(items) > 1
    results, failed = [], []
    with cloud(given, settings, on_step) as ends:
        for number, (item, target) in enumerate(zip(items, targets, strict=True), 1):
            if target is None:
                continue
            if many:
                tell(on_step, number, len(items), target.path)
            try:
                results.append(_one(given, item, target, ends))
            except InvalidInputError as error:
                if not many or item.image is None:
                    raise
                failed.append((item.image, error))
    skipped = sum(target is None for target in targets)
    if not many and results:
        return _single(given, settings, results[0])
    return _several(given, settings, results, failed, skipped)


def _one(given: Namespace, item: Item, target: Destination, ends: Cloud) -> dict[str, Any]:
    """Everything about one picture that was made and saved, JSON-ready."""
    from edge_client.pictures.outputs import save_source

    done = ask(given, item, ends)
    assert done.made is not None, "these commands make pictures"
    report = interaction_report(done.interaction, ends.exchange.way)
    about = {} if given.no_metadata else made(given, item, ends.bundle.fingerprint, report)
    size = _size(given.size, done.made.size)
    saved = save_source(target, done.made, not given.no_tokens, size, made=about)
    wide, high = size or done.made.size
    return {
        **_files(saved),
        "size": [wide, high],
        "bundle": ends.bundle.name,
        "seed": item.seed,
        "notes": [*done.notes, *saved.notes],
        **report,
        "warnings": list(dict.fromkeys([*done.warnings, *report["warnings"], *saved.warnings])),
    }


def _files(saved: Saved) -> dict[str, Any]:
    told: dict[str, Any] = {"output": str(saved.path)}
    return told if saved.tokens is None else {**told, "tokens": str(saved.tokens)}


def _single(given: Namespace, settings: Settings, data: dict[str, Any]) -> Outcome:
    data["warnings"] = [*exposed_key(settings), *data["warnings"]]
    aside = data["output"] == "-"
    return Outcome(
        "" if aside else data["output"],
        data,
        _details(data),
        tuple(data["warnings"]),
        aside=aside,
    )


def _details(data: dict[str, Any]) -> str:
    lines = [*data["notes"], f"seed {data['seed']}, {data['size'][0]}x{data['size'][1]} pixels", ""]
    return "\n".join([*lines, interaction_table(data)])


def _several(
    given: Namespace,
    settings: Settings,
    results: list[dict[str, Any]],
    failed: list[tuple[Path, InvalidInputError]],
    skipped: int,
) -> Outcome:
    warnings = [f"{path}: {error}" for path, error in failed]
    for each in results:
        warnings += [f"{each['output']}: {told}" for told in each["warnings"]]
    warnings = [*exposed_key(settings), *dict.fromkeys(warnings)]
    data: dict[str, Any] = {
        "results": results,
        "failed": [{"image": str(path), "error": str(error)} for path, error in failed],
        "skipped": skipped,
        "warnings": warnings,
    }
    lines = [each["output"] for each in results]
    if given.count > 1 and results:
        data["sheet"] = str(_sheet(given, results))
        lines.append(data["sheet"])
    up = sum(each["uplink"]["bytes"]["total"] for each in results)
    down = sum(each["downlink"]["bytes"]["total"] for each in results)
    details = f"{len(results)} pictures, {up:,} bytes up, {down:,} down"
    details += f"; {skipped} were there already" if skipped else ""
    seeds = ", ".join(str(each["seed"]) for each in results)
    details += f"; seeds {seeds}" if given.count > 1 else ""
    return Outcome("\n".join(lines), data, details, tuple(warnings), failed=bool(failed))


def _sheet(given: Namespace, results: Sequence[dict[str, Any]]) -> Path:
    """All pictures of one command on one, in rows."""
    from edge_client.pictures.contact_sheet import Tile, contact_sheet
    from edge_client.pictures.outputs import free_name, save_picture

    tiles = [Tile(Path(each["output"]), f"seed {each['seed']}: {given.prompt}") for each in results]
    rows = [tiles[at : at + _SHEET_COLUMNS] for at in range(0, len(tiles), _SHEET_COLUMNS)]
    first = Path(results[0]["output"])
    path = free_name(first.with_name(f"{first.stem.rsplit('-', 1)[0]}-sheet.png"))
    save_picture(path, contact_sheet(rows))
    return path


def _prompt(given: Namespace) -> str:
    if given.prompt != "-":
        return str(given.prompt)
    if getattr(given, "image", None) == STDIN:
        raise ConfigError("picture and prompt cannot both come from standard input", "name one")
    return sys.stdin.read(1 << 20).strip()


def items_of(given: Namespace) -> list[Item]:
    """Every piece of work: each picture with each seed."""
    images: list[Path | None] = [None]
    if getattr(given, "image", None) is not None:
        images = list(_expanded(given.image))
    count = getattr(given, "count", 1)
    if given.seed + count - 1 > 2**32 - 1:
        raise InvalidInputError(f"seed {given.seed} and {count - 1} more", "use up to 4294967295")
    seeds = range(given.seed, given.seed + count)
    masks = [_masks_of(given, image) for image in images]
    return [
        Item(seed, image, found)
        for image, found in zip(images, masks, strict=True)
        for seed in seeds
    ]


def _expanded(path: Path) -> Iterator[Path]:
    """The pictures that a name means: a file, all of a folder, or what fits a pattern."""
    from edge_client.pictures.sources import PICTURES

    if path.is_dir():
        found = sorted(each for each in path.iterdir() if each.suffix.lower() in PICTURES)
        if not found:
            raise ImageError(f"there is no picture in the folder {path}", "name another folder")
        yield from found
        return
    if glob.has_magic(str(path)) and not path.exists():
        matches = sorted(Path(each) for each in glob.glob(str(path), recursive=True))
        files = [each for each in matches if each.is_file() and each.suffix.lower() in PICTURES]
        if not files:
            raise ImageError(f"no picture fits {str(path)!r}", "check the pattern")
        yield from files
        return
    yield path


def _masks_of(given: Namespace, image: Path | None) -> tuple[Path, ...]:
    """The mask files of a picture; a folder of masks holds one of the same name."""
    found = []
    for mask in getattr(given, "mask", None) or []:
        if not mask.is_dir():
            found.append(mask)
            continue
        assert image is not None, "masks belong to pictures"
        fits = sorted(each for each in mask.iterdir() if each.stem == image.stem)
        if not fits:
            raise ImageError(
                f"there is no mask for {image.name} in {mask}", f"name it {image.stem}.png"
            )
        found.append(fits[0])
    return tuple(found)


def _targets(given: Namespace, items: Sequence[Item]) -> list[Destination | None]:
    """Where each result goes; None for one that is there already."""
    from edge_client.pictures.outputs import destination

    pictures_ = len({item.image for item in items})
    if given.output is not None and (
        pictures_ > 1 or (len(items) > 1 and str(given.output) == "-")
    ):
        raise ConfigError(
            f"{len(items)} results do not fit into {given.output}", "name a folder with --out-dir"
        )
    folder = given.out_dir
    if folder is None and pictures_ > 1:
        folder = Path(f"{_folder_name(given.image)}-{given.command}")
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    stems = Counter(item.image.stem for item in items if item.image is not None)
    targets: list[Destination | None] = []
    for number, item in enumerate(items):
        name = _name(given, item, stems[item.image.stem] > given.count if item.image else False)
        path, default = given.output, (folder or Path()) / name
        if given.count > 1:
            turn = f"-{number % given.count + 1}"
            path = path and path.with_name(f"{path.stem}{turn}{path.suffix}")
            default = default.with_name(f"{default.stem}{turn}{default.suffix}")
        reads = (item.image, *item.masks)
        if folder is not None and path is None:
            path = default
            if path.exists() and not given.force:
                targets.append(None)
                continue
        target = destination(path, default, reads, given.force, given.format)
        targets.append(replace(target, named=given.output is not None))
    return targets


def _folder_name(path: Path) -> str:
    if path.is_dir():
        return path.resolve().name
    kept = [part for part in path.parts[:-1] if not glob.has_magic(part)]
    return kept[-1] if kept and kept[-1] not in (".", "..", "/") else "pictures"


def _name(given: Namespace, item: Item, doubled: bool) -> str:
    """The default name of a result; `doubled` tells files apart that differ by suffix only."""
    suffix = f".{given.format}" if given.format else ".png"
    if item.image is None:
        return f"{given.command}{suffix}"
    stem = "stdin" if item.image == STDIN else item.image.stem
    stem = item.image.name if doubled else stem
    return f"{stem}-{given.command}{suffix}"


def _size(text: str | None, size: tuple[int, int]) -> tuple[int, int] | None:
    """(width, height) that `--size` means for a picture; None for its own."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+)(?:[xX*](\d+))?", text.strip())
    if found is None:
        raise InvalidInputError(f"--size {text!r} is no size", "write 512, or 800x600")
    if found[2] is not None:
        wanted = int(found[1]), int(found[2])
    else:
        scale = int(found[1]) / max(size)
        wanted = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    if not all(1 <= side <= _LARGEST_SIDE for side in wanted):
        raise InvalidInputError(
            f"--size {text} is {wanted[0]}x{wanted[1]}", f"use 1 to {_LARGEST_SIDE} pixels a side"
        )
    return wanted


def tell(on_step: OnStep | None, number: int, count: int, path: Path) -> None:
    """Say which of many is at work, where somebody watches."""
    item = getattr(on_step, "item", None)
    if item is not None:
        item(number, count, str(path))
