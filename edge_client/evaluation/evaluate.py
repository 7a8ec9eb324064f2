"""`edge-client evaluate`: runs sections over the wire and writes the tables that they find.

It does not know what a section measures.

::

    OUT/records.jsonl, pictures/   every interaction of the four tasks, resumable
    OUT/SECTION/records.jsonl      what another section measured, resumable
    OUT/sections/SECTION.json      its tables and plots
    OUT/results.md, results.csv, plots/, qualitative.png   of all sections in OUT
"""

from __future__ import annotations

import importlib
import shlex
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_client.config import Settings
from edge_client.evaluation.codecs.external import ExternalCodec
from edge_client.evaluation.context import CmcOptions, Context, Section
from edge_client.evaluation.data import SAMPLES, Data, read_data
from edge_client.evaluation.pixel_loop.cmc_models import FILE, SERVER
from edge_client.evaluation.run_cases import check_same_run
from edge_client.evaluation.surroundings import surroundings
from edge_client.evaluation.tables import output
from edge_client.spawn import spawned_server
from shared_protocol.bundles.bundle import Bundle
from shared_protocol.bundles.find import load_bundle
from shared_protocol.compute import Compute
from shared_protocol.errors import ConfigError, UnimicError

SECTIONS = {
    "t2i": "t2i",
    "inpaint": "inpaint",
    "outpaint": "outpaint",
    "vqa": "vqa",
    "ablation": "ablation",
    "text": "text",
    "rate-control": "rate_control",
    "rounds": "rounds",
    "sessions": "sessions",
    "codecs": "codecs",
    "cmc": "cmc",
    "neck": "neck",
}
"""Name of a subcommand -> module in `sections`, in the order of the results."""
ALL = "all"


@dataclass(frozen=True)
class Evaluation:
    """What came of a run.

    Args:
        sections: what was measured.
        out: folder of the results.
        failures: sections that could not be run or finished and why, a line each.
        warnings: what could not be written or drawn and why, a line each.
    """

    sections: tuple[Section, ...]
    out: Path
    failures: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def run_sections(given: Namespace, settings: Settings) -> Evaluation:
    """Run the sections that were asked for; what one of them cannot do does not stop the others.

    Raises:
        UnimicError: nothing could be run.
    """
    names = list(SECTIONS) if ALL in given.sections else list(dict.fromkeys(given.sections))
    external_codecs(given.external), distinct(given.i2t), distinct(given.t2i)  # before all else
    data = read_data(given.data or SAMPLES)
    bundle = load_bundle(settings.bundle, Compute.named(settings.compute))
    check_same_run(given.out, run_facts(data, bundle, given))
    with _server(given, settings) as url:
        context = Context(
            data=data,
            out=given.out,
            bundle=bundle,
            server=url,
            api_key=settings.api_key,
            timeout=settings.timeout,
            limit=given.limit,
            seed=given.seed,
            steps=given.steps,
            keep_ratios=tuple(given.keep_ratios or ()),
            prompts=given.prompts,
            codecs=tuple(given.codecs),
            external=tuple(external_codecs(given.external)),
            qp=tuple(given.qp),
            cmc=CmcOptions(
                i2t=distinct(given.i2t),
                t2i=distinct(given.t2i),
                captions=given.captions,
                words=tuple(given.words),
                strengths=tuple(given.strength),
            ),
            quiet=bool(given.quiet or given.json),
        )
        with context.transport() as transport:
            info = transport.info()
        facts = surroundings(bundle, info, command_line(given))
        facts["data"] = f"{data.name}, {len(data.cases)} cases, limit {given.limit or 'none'}"
        sections, failures = _run(names, context, facts)
    return Evaluation(
        sections=tuple(sections),
        out=given.out,
        failures=tuple(failures),
        warnings=tuple(output.write_results(given.out, list(SECTIONS))),
    )


def external_codecs(given: Sequence[Sequence[str]]) -> list[ExternalCodec]:
    """The user's codecs: name, encoder, decoder and rates of each.

    Raises:
        ConfigError: a command lacks something, or two have one name.
    """
    codecs = [ExternalCodec(n, enc, dec, rates.split(",")) for n, enc, dec, rates in given]
    distinct([(codec.name, "") for codec in codecs])
    return codecs


def distinct(named: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Names and commands.

    Raises:
        ConfigError: a name occurs twice, or is one that always means something else.
    """
    names = [name for name, _ in named]
    taken = [name for name in names if names.count(name) > 1 or name in (SERVER, FILE)]
    if taken:
        raise ConfigError(f"the name {taken[0]!r} is taken", "give another: NAME=COMMAND")
    return tuple(named)


def run_facts(data: Data, bundle: Bundle, given: Namespace) -> dict[str, Any]:
    """What decides the results in a folder, so that none are mixed."""
    return {
        "bundle": bundle.name,
        "fingerprint": bundle.fingerprint.hex(),
        "data": data.name,
        "data_seed": data.seed,
        "steps": given.steps,
        "guidance": None,
        "seed": given.seed,
    }


def _run(
    names: Sequence[str], context: Context, facts: dict[str, str]
) -> tuple[list[Section], list[str]]:
    sections, failures = [], []
    for name in names:
        try:
            section: Section = importlib.import_module(_module(name)).run(context)
        except UnimicError as error:
            failures.append(f"{name}: {error}")
            continue
        output.keep_section(section, facts, context.out)
        output.write_results(context.out, list(SECTIONS))  # what there is, whatever comes
        sections.append(section)
    return sections, failures


def _module(name: str) -> str:
    return f"edge_client.evaluation.sections.{SECTIONS[name]}"


@contextmanager
def _server(given: Namespace, settings: Settings) -> Iterator[str]:
    """The address of the server that is to be asked."""
    if not given.spawn:
        yield settings.server
        return
    given.out.mkdir(parents=True, exist_ok=True)
    with spawned_server(given.out / "server.log", settings.bundle) as server:
        yield server.url


def _listed(given: Namespace) -> list[str]:
    """The options that are lists, or may be repeated."""
    words: list[str] = []
    for name in ("qp", "words", "strength"):
        values = getattr(given, name, ())
        if values:
            words += [f"--{name}", ",".join(f"{v:g}" if v != "paper" else v for v in values)]
    for name in ("i2t", "t2i"):
        for model, command in getattr(given, name, ()):
            words += [f"--{name}", f"{model}={command}"]
    for codec in getattr(given, "external", ()):
        words += ["--external", *codec]
    return words


def command_line(given: Namespace) -> str:
    """The command that repeats this run.

    >>> command_line(Namespace(sections=["t2i"], data=None, out=Path("o"), limit=2, spawn=True))
    'edge-client evaluate t2i --out o --limit 2 --spawn'
    """
    words = ["edge-client", "evaluate", *given.sections]
    for name in (
        "data",
        "out",
        "server",
        "bundle",
        "limit",
        "steps",
        "seed",
        "prompts",
        "captions",
    ):
        value = getattr(given, name, None)
        if value not in (None, 0) and not (name == "server" and given.spawn):
            words += [f"--{name}", str(value)]
    if getattr(given, "codecs", ()):
        words += ["--codecs", ",".join(given.codecs)]
    for ratio in getattr(given, "keep_ratios", None) or ():
        words += ["--keep-ratio", f"{ratio:g}"]
    words += _listed(given)
    return shlex.join([*words, *(["--spawn"] if given.spawn else [])])
