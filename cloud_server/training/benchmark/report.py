"""Prints and writes the table of what the built-in bundle can do, every row with its count.

Adds up what `verdicts` finds; the measured requests themselves are made by an edge client.
`cloud-server train report --data DATA --records OUT --judge FILE` writes REPORT.md and REPORT.json.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cloud_server.training.benchmark.cases import SEED
from cloud_server.training.benchmark.entropy_report import train_codes
from cloud_server.training.benchmark.judge_model import SHIPPED, Judge
from cloud_server.training.benchmark.rows import (
    Row,
    centre_crops,
    edit_rows,
    entropy_rows,
    generated_pictures,
    message_rows,
    scene_pictures,
    smear_rows,
    speed_rows,
    t2i_rows,
    tokenizer_rows,
    vqa_rows,
    wholeness_rows,
)
from cloud_server.training.benchmark.smears import (
    THRESHOLD,
    load_reader,
    probabilities,
    smeared,
)
from cloud_server.training.benchmark.verdicts import Evaluation, evaluate, load_rgb
from cloud_server.training.benchmark.wholeness import share_off
from cloud_server.training.recipes.entropy.sequences import Picture, Pool, Sampler
from cloud_server.training.scenes.render import Renderer
from cloud_server.training.scenes.world import Scene, World
from cloud_server.training.tokens.drawings import find_backbone
from cloud_server.training.tokens.token_cache import BlockEncoder, encode_scenes
from shared_protocol.bundles.bundle import Bundle
from shared_protocol.bundles.digests import digest_of_weights
from shared_protocol.bundles.find import bundle_folder, load_bundle
from shared_protocol.bundles.manifest import BUILTIN
from shared_protocol.errors import ConfigError
from shared_protocol.tokenizers.compact import load_compact
from shared_protocol.tokenizers.text import TextTokenizer

SCENES, ENTROPY_PICTURES, ORDER0_SCENES = 500, 100, 1500
SMOKE = 4
BEFORE = ("date", "commit", "bundle", "backbone", "cases")
"""Facts of an older report that are named beside its results."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--data", type=Path, required=True, help="folder of the cases")
    parser.add_argument("--records", type=Path, required=True, help="folder of records.jsonl")
    parser.add_argument("--judge", type=Path, default=SHIPPED, help="file [the shipped one]")
    parser.add_argument("--out", type=Path, help="report.md and report.json; default: --records")
    parser.add_argument("--bundle", default=BUILTIN, help="name or folder [builtin]")
    parser.add_argument("--photographs", type=Path, help="folder, never trained on (Kodak)")
    parser.add_argument("--tokens", type=Path, help="scene shards: more codes, order-0 counts")
    parser.add_argument("--photo-tokens", type=Path, help="photograph shards: the same")
    parser.add_argument("--scenes", type=int, default=SCENES, help=f"for the tokenizer [{SCENES}]")
    parser.add_argument(
        "--entropy-pictures", type=int, default=ENTROPY_PICTURES, help="of each domain at most"
    )
    parser.add_argument("--seed", type=int, default=SEED, help="of the tokenizer's scenes")
    parser.add_argument("--before", type=Path, help="an older report.json, to print beside")
    parser.add_argument("--no-smears", action="store_true", help="leave the slow count of them out")
    parser.add_argument("--backbone", type=Path, help="that finds smears [the bundle's]")
    parser.add_argument("--note", help="conditions of the run that a reader must know")
    parser.add_argument("--world", type=Path, help="another world.toml")
    parser.add_argument("--cache", type=Path, help="folder for downloads (default: $UNIMIC_CACHE)")
    parser.add_argument("--smoke", action="store_true", help="a handful of scenes only")


def run(args: argparse.Namespace) -> int:
    """Write the report; returns the process's exit status.

    Raises:
        ConfigError: a file is missing, or `--before` is no report.
        CheckpointError: no weights where `--backbone` says, or not the bundle's kind.
    """
    if args.smoke:
        args.scenes = args.entropy_pictures = SMOKE
    older = read_older(args.before) if args.before else None
    bundle = load_bundle(args.bundle)
    judge = Judge.load(args.judge)
    evaluation = evaluate(args.data, args.records, judge)
    rows = [
        *system_rows(evaluation),
        *smears_found(args, bundle, evaluation),
        *wholeness_found(args, evaluation),
        *model_rows(args, bundle, evaluation),
    ]
    header = facts(args, bundle, evaluation, judge)
    out: Path = args.out or args.records
    out.mkdir(parents=True, exist_ok=True)
    text = markdown(rows, header, judge_scores(args.judge), older)
    (out / "report.md").write_text(text, encoding="utf-8")
    data = {"about": header, "rows": [asdict(row) for row in rows]}
    (out / "report.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(text)
    return 0


def system_rows(evaluation: Evaluation) -> list[Row]:
    """Everything that the requests over the wire tell."""
    inpaint = {
        "present": "asked object present",
        "once": "known objects kept, none drawn twice, none that nobody asked for",
    }
    outpaint = {
        "background": "new area has the known background",
        "no_copies": "no object repeated",
    }
    return [
        *vqa_rows("questions on held-out scenes", evaluation.of("vqa"), by_wording=True),
        *vqa_rows("easy-vqa, official test split", evaluation.of("easy-vqa"), by_wording=False),
        *t2i_rows(evaluation.of("t2i")),
        *edit_rows("inpainting", inpaint, evaluation.of("inpaint")),
        *edit_rows("outpainting", outpaint, evaluation.of("outpaint")),
        *message_rows(evaluation),
        *speed_rows(evaluation),
    ]


def smears_found(args: argparse.Namespace, bundle: Bundle, evaluation: Evaluation) -> list[Row]:
    """Tokens that the backbone would not have put there; nothing where it is not at hand."""
    drawn = [v for v in evaluation.of("t2i") if v.record.tokens]
    path = None if args.no_smears else find_backbone(bundle, args.backbone)
    if path is None or not drawn:
        return []
    reader = load_reader(bundle, path)
    counts = []
    for verdict in drawn[: SMOKE if args.smoke else None]:
        prompt = bundle.text_tokenizer.encode(verdict.case.prompt).ids.astype(np.int64)
        codes = np.array(verdict.record.tokens, dtype=np.int64)
        counts.append(int(smeared(probabilities(reader, codes, prompt)).sum()))
    return smear_rows(counts)


def wholeness_found(args: argparse.Namespace, evaluation: Evaluation) -> list[Row]:
    """How far the objects that were asked for, and are there, look like their sprites."""
    renderer = Renderer(World.load(args.world), args.cache)
    offs = []
    for verdict in evaluation.of("t2i")[: SMOKE if args.smoke else None]:
        truth, seen = verdict.case.truth, {sighting.name for sighting in verdict.seen}
        names = [name for name in truth["asked"] if name in seen]
        if names and verdict.record.picture:
            picture = load_rgb(args.records / verdict.record.picture)
            offs += [share_off(picture, name, truth["background"], renderer) for name in names]
    return wholeness_rows(offs)


def model_rows(args: argparse.Namespace, bundle: Bundle, evaluation: Evaluation) -> list[Row]:
    """What the tokenizer and the entropy models do by themselves."""
    world = World.load(args.world)
    renderer = Renderer(world, args.cache)
    folder = bundle_folder(args.bundle)
    tokenizer = load_compact(folder / "image_tokenizer.safetensors")
    sources = {"held-out scenes": scene_pictures(world, renderer, args.scenes, args.seed)}
    if args.photographs:
        sources[f"{args.photographs.name}, centre crops of 256"] = centre_crops(args.photographs)
    shards = [
        path
        for given in (args.tokens, args.photo_tokens)
        for path in (sorted(given.glob("train_*.npy")) if given else [])
    ]
    rows, codes = tokenizer_rows(tokenizer, sources, shards)
    counts = train_codes([args.tokens])
    if not counts.any():
        counts = drawn_counts(world, renderer, BlockEncoder(tokenizer), args)
    few = slice(args.entropy_pictures)
    domains = {
        "held-out scenes": (_scenes(args, world, renderer, BlockEncoder(tokenizer)), counts),
        "text-to-image results": (generated_pictures(evaluation)[few], counts),
    }
    photographed = train_codes([args.photo_tokens])
    for name in list(sources)[1:]:
        if photographed.any():
            pictures = [Picture(grid.astype(np.int32)) for grid in codes[name]]
            domains[name] = (pictures[few], photographed)
    words = TextTokenizer.load(folder / "text_tokenizer.json")
    sampler = Sampler(words, {"text": 1.0}, {}, 0, split="test")
    return rows + entropy_rows(bundle.entropy, sampler, domains, args.seed)


def _scenes(
    args: argparse.Namespace, world: World, renderer: Renderer, encoder: BlockEncoder
) -> list[Picture]:
    """Held-out scenes as codes: from the shards if there are any, else drawn."""
    pool = Pool(args.tokens, "test_*.npy")
    if pool.refresh():
        return pool.pictures[: args.entropy_pictures]
    rng = np.random.default_rng((args.seed, 101))
    scenes = [world.sample_scene(rng, "test") for _ in range(args.entropy_pictures)]
    grids = encode_scenes(encoder, renderer, scenes)
    return [
        Picture(grid.astype(np.int32), scene) for grid, scene in zip(grids, scenes, strict=True)
    ]


def drawn_counts(
    world: World, renderer: Renderer, encoder: BlockEncoder, args: argparse.Namespace
) -> np.ndarray:
    """(V,) how often each code occurs in training scenes, where no shards are given."""
    rng = np.random.default_rng((args.seed, 102))
    count = SMOKE if args.smoke else ORDER0_SCENES
    scenes: list[Scene] = [world.sample_scene(rng, "train") for _ in range(count)]
    grids = encode_scenes(encoder, renderer, scenes)
    return np.bincount(grids.reshape(-1), minlength=8192)


def facts(
    args: argparse.Namespace, bundle: Bundle, evaluation: Evaluation, judge: Judge
) -> dict[str, Any]:
    """What a reader must know to make the numbers again."""
    noted = {"conditions": args.note} if args.note else {}
    path = None if args.no_smears else find_backbone(bundle, args.backbone)
    if path is not None:
        by = digest_of_weights(path)[:16]
        noted["tokens out of place"] = f"those less likely than {THRESHOLD:g} by the backbone {by}"
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": commit(),
        "bundle": f"{bundle.name} {bundle.fingerprint.hex()[:16]}",
        "backbone": backbone_digest(bundle),
        "hardware": f"{os.cpu_count()} cores of {platform.machine()}",
        "cases": f"seed {evaluation.about.get('seed')}, {evaluation.about.get('counts')}",
        "cases without a result": evaluation.missing,
        "failed requests": sum(bool(v.record.error) for v in evaluation.verdicts),
        "decoding": f"steps {evaluation.run.get('steps') or 'of the bundle'}, "
        f"guidance {evaluation.run.get('guidance') or 'of the bundle'}",
        "judge": ", ".join(f"{key} {value}" for key, value in judge.about.items()),
        "seed of the tokenizer's scenes": args.seed,
        **noted,
    }


def backbone_digest(bundle: Bundle) -> str:
    """First digits of the SHA-256 of the transformer, as it is now, if it is on this machine."""
    shipped = Path(__file__).parents[2] / "weights" / BUILTIN
    folder = shipped if bundle.name == BUILTIN else bundle.folder / "backbone"
    return digest_of_weights(folder)[:16] if folder.is_dir() else "not on this machine"


def commit() -> str:
    """The short commit of this checkout, "-changed" if files differ from it."""
    where = Path(__file__).parent

    def git(*words: str) -> str:
        command = ["git", "-C", str(where), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short", "HEAD") + ("-changed" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def judge_scores(judge: Path) -> dict[str, dict[str, float]]:
    """How often the judge was right, as its recipe noted beside its file."""
    path = judge.with_suffix(".json")
    if not path.is_file():
        return {}
    found: dict[str, dict[str, float]] = json.loads(path.read_text(encoding="utf-8"))
    return found


@dataclass(frozen=True)
class Older:
    """An older report, to print beside.

    Args:
        about: its facts.
        results: (ability, measure) -> its result, in words.
    """

    about: dict[str, Any]
    results: dict[tuple[str, str], str]

    def of(self, row: Row) -> str:
        """What it says in the place of `row`; a dash if nothing."""
        return self.results.get((row.ability, row.measure), "–")


def read_older(path: Path) -> Older:
    """The report that a `report.json` holds.

    Raises:
        ConfigError: it cannot be read, or is no report.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        results = {(row["ability"], row["measure"]): str(row["result"]) for row in data["rows"]}
        return Older(dict(data["about"]), results)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is no report: {error}", "name a report.json") from error


def markdown(
    rows: Sequence[Row],
    header: dict[str, Any],
    scores: dict[str, dict[str, float]],
    older: Older | None = None,
) -> str:
    """The whole report.

    Args:
        rows: in order.
        header: facts about it.
        scores: of the judge; may be empty.
        older: a report whose results stand in a column beside.
    """
    lines = ["# What the built-in bundle can do", ""]
    lines += [f"* {name}: {value}" for name, value in header.items()]
    if older is not None:
        known = (f"{name} {older.about[name]}" for name in BEFORE if name in older.about)
        lines.append(f"* before: {'; '.join(known)}")
    lines += ["", *_table([row for row in rows if not row.detail], older)]
    lines += ["", "## In detail", "", *_table([row for row in rows if row.detail], older)]
    if scores:
        columns = list(next(iter(scores.values())))
        lines += ["", "## The judge of pictures, on pictures with known truth", ""]
        lines += [
            "| pictures | " + " | ".join(columns) + " |",
            "| --- |" + " ---: |" * len(columns),
        ]
        for name, found in scores.items():
            cells = [f"{found[c]:.0f}" if c == "count" else f"{found[c]:.1%}" for c in columns]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _table(rows: Sequence[Row], older: Older | None) -> list[str]:
    before, border = ("before | ", " ---: |") if older else ("", "")
    heading = [f"| ability | measure | result | {before}count | 95 % interval |"]
    heading.append(f"| --- | --- | ---: |{border} ---: | ---: |")
    return [*heading, *(_line(row, older) for row in rows)]


def _line(row: Row, older: Older | None) -> str:
    interval = "–"
    if row.low is not None and row.high is not None:
        form = "{:.1%} to {:.1%}" if row.result.endswith("%") else "{:.1f} to {:.1f}"
        interval = form.format(row.low, row.high)
    before = [older.of(row)] if older else []
    cells = (row.ability, row.measure, row.result, *before, f"{row.count:,}", interval)
    return "| " + " | ".join(cells) + " |"
