"""`t2i`, `inpaint`, `outpaint` and `vqa`: what the four tasks' commands do.

It does not print, and leaves the interaction itself to `client`. Imports are local, so that a wrong
argument is told before anything heavy is loaded.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_client.commands.outcome import Outcome, exposed_key, picture_output, source_picture
from edge_client.config import Settings
from edge_client.report import interaction_report, interaction_table
from shared_protocol.compute import Compute
from shared_protocol.errors import MaskError
from shared_protocol.messages import OnStep

if TYPE_CHECKING:
    from edge_client.client import EdgeClient, Interaction
    from edge_client.exchange.best import BestExchange
    from edge_client.pictures.images import Picture
    from edge_client.rate_control import Budget
    from shared_protocol.bundles.bundle import Bundle
    from shared_protocol.tokens import TokenMask

_NOTICEABLE = 0.02
"""Share of a mask that may vanish in silence."""


_ALL_REPORTS, _FEW_REPORTS = 15, 4
"""Progress reports a turn where a terminal watches, and where none does."""


@dataclass(frozen=True)
class _Done:
    """An interaction, notes on its input, warnings, and whether its pixels were changed after."""

    interaction: Interaction
    notes: list[str]
    warnings: list[str]
    changed: bool = False


def t2i(given: Namespace, settings: Settings, on_step: OnStep | None) -> Outcome:
    """A picture from a prompt."""

    def ask(client: EdgeClient, bundle: Bundle) -> _Done:
        return _Done(client.t2i(given.prompt, _options(given)), [], [])

    return _interact(given, settings, on_step, ask)


def inpaint(given: Namespace, settings: Settings, on_step: OnStep | None) -> Outcome:
    """A picture with its masked part regenerated."""
    return _interact(given, settings, on_step, lambda *ends: _inpaint(given, *ends))


def outpaint(given: Namespace, settings: Settings, on_step: OnStep | None) -> Outcome:
    """A picture continued beyond its edges."""
    return _interact(given, settings, on_step, lambda *ends: _outpaint(given, *ends))


def vqa(given: Namespace, settings: Settings, on_step: OnStep | None) -> Outcome:
    """Answers to questions about a picture, one turn each."""
    details, answers, turns = [], [], []
    with _cloud(given, settings, on_step) as (client, bundle, exchange):
        picture = source_picture(given, bundle)
        budget = _budget(given)
        for question in given.questions:
            done = _ask(given, client, bundle, picture, question, budget)
            data = _data(given, done, bundle, exchange.way, None)
            answers.append(_shown(data["answer"]))
            details.append("\n".join([*done.notes, "", interaction_table(data)]))
            turns.append({"question": question, **data})
            budget = None  # the tokens are there now, but for those that were left out
    warnings = [*exposed_key(settings), *(line for turn in turns for line in turn["warnings"])]
    warnings = list(dict.fromkeys(warnings))
    if len(turns) == 1:
        told = {**turns[0], "warnings": warnings}
        return Outcome(answers[0], told, details[0], tuple(warnings))
    told = {"answers": answers, "turns": turns, "warnings": warnings}
    return Outcome("\n".join(answers), told, "\n\n".join(details), tuple(warnings))


def _interact(
    given: Namespace,
    settings: Settings,
    on_step: OnStep | None,
    ask: Callable[[EdgeClient, Bundle], _Done],
) -> Outcome:
    # All that can be checked here is checked before anything is loaded or sent.
    output = None if given.command == "vqa" else picture_output(given)
    with _cloud(given, settings, on_step) as (client, bundle, exchange):
        done = ask(client, bundle)
        way = exchange.way
    data = _data(given, done, bundle, way, output)
    data["warnings"] = [*exposed_key(settings), *data["warnings"]]
    notes = done.notes
    answer = done.interaction.answer
    result = str(output) if answer is None else _shown(answer)
    details = "\n".join(
        [*notes, "", interaction_table(data)] if notes else [interaction_table(data)]
    )
    return Outcome(result, data, details, tuple(data["warnings"]))


@contextmanager
def _cloud(
    given: Namespace, settings: Settings, on_step: OnStep | None
) -> Iterator[tuple[EdgeClient, Bundle, BestExchange]]:
    """A client, its bundle and its way to the cloud, closed at the end."""
    from edge_client.client import EdgeClient
    from edge_client.exchange.best import BestExchange
    from edge_client.exchange.coded_exchange import Wishes
    from shared_protocol.bundles.find import load_bundle

    bundle = load_bundle(settings.bundle, Compute.named(settings.compute))
    reports = _ALL_REPORTS if sys.stderr.isatty() else _FEW_REPORTS
    wishes = Wishes(on_step, reports if on_step else 0)
    exchange = BestExchange(bundle, settings.server, settings.api_key, settings.timeout, wishes)
    try:
        yield EdgeClient(bundle, exchange), bundle, exchange
    finally:
        exchange.close()


def _data(
    given: Namespace, done: _Done, bundle: Bundle, way: str, output: Path | None
) -> dict[str, Any]:
    """Everything about one interaction, JSON-ready; saves its picture, if there is one."""
    kept = None if done.changed or getattr(given, "no_tokens", True) else bundle
    data = {
        **_result(done.interaction, output, kept),
        "bundle": bundle.name,
        "seed": given.seed,
        "notes": done.notes,
        **interaction_report(done.interaction, way),
    }
    data["warnings"] = [*done.warnings, *data["warnings"]]
    return data


def _shown(answer: str) -> str:
    """A model's words without characters that would steer a terminal."""
    return "".join(char if char.isprintable() or char == "\n" else " " for char in answer)


def _inpaint(given: Namespace, client: EdgeClient, bundle: Bundle) -> _Done:
    from dataclasses import replace

    from edge_client.pictures.masks import paste_outside

    picture = source_picture(given, bundle)
    tokens, notes, warnings = _token_mask(given, bundle, picture)
    budget = _budget(given)
    source = picture.pixels if picture.tokens is None else picture.tokens
    interaction = client.inpaint(source, tokens, given.prompt, _options(given), budget)
    if given.composite and interaction.pixels is not None:
        merged = paste_outside(picture.pixels, interaction.pixels, tokens)
        interaction = replace(interaction, pixels=merged)
        notes.append("pixels outside the mask are the photo's own")
    notes = [picture.description, *notes, *_dropped(interaction, bundle)]
    return _Done(interaction, notes, warnings, changed=given.composite)


def _outpaint(given: Namespace, client: EdgeClient, bundle: Bundle) -> _Done:
    from shared_protocol.tasks import Extension

    picture = source_picture(given, bundle)
    extension = Extension(given.left, given.right, given.up, given.down)
    options, budget = _options(given), _budget(given)
    source = picture.pixels if picture.tokens is None else picture.tokens
    interaction = client.outpaint(source, extension, given.prompt, options, budget)
    return _Done(interaction, [picture.description, *_dropped(interaction, bundle)], [])


def _ask(
    given: Namespace,
    client: EdgeClient,
    bundle: Bundle,
    picture: Picture,
    question: str,
    budget: Budget | None,
) -> _Done:
    from shared_protocol.messages import Options

    options = Options(seed=given.seed, max_new_tokens=given.max_new_tokens)
    source = picture.pixels if picture.tokens is None else picture.tokens
    interaction = client.vqa(source, question, options, budget)
    return _Done(interaction, [picture.description, *_dropped(interaction, bundle)], [])


def _options(given: Namespace) -> Any:
    from shared_protocol.messages import Options

    return Options(steps=given.steps, guidance=given.guidance, seed=given.seed)


def _budget(given: Namespace) -> Budget | None:
    from edge_client.rate_control import Budget, Order

    if given.keep_ratio is None and given.target_bytes is None:
        return None
    return Budget(given.keep_ratio, given.target_bytes, Order(given.drop_order))


def _dropped(interaction: Interaction, bundle: Bundle) -> list[str]:
    """What leaving out tokens has saved, which may be less than nothing for a simple picture."""
    from dataclasses import replace

    from shared_protocol.message.codec import encode_request

    request = interaction.request
    if request.dropped is None:
        return []
    whole = len(encode_request(replace(request, dropped=None), bundle).data)
    left_out = f"{request.dropped.count} of {request.dropped.flags.size} tokens are not sent"
    return [f"{left_out}: {interaction.uplink.sizes.total:,} bytes up, {whole:,} with all of them"]


def _token_mask(
    given: Namespace, bundle: Bundle, picture: Picture
) -> tuple[TokenMask, list[str], list[str]]:
    from edge_client.pictures.images import box_mask, load_mask
    from edge_client.pictures.masks import token_mask, vanished_share

    pixels = load_mask(given.mask, picture) if given.mask else box_mask(given.box, picture)
    try:
        tokens = token_mask(pixels, picture.grid(bundle.stride))
    except MaskError as error:
        source = given.mask.name if given.mask else "the box"
        raise MaskError(f"{source}: {error.message}", error.remedy) from error
    notes = [f"mask: {tokens.count} of {tokens.flags.size} tokens are repainted"]
    share = vanished_share(pixels, tokens)
    if share < _NOTICEABLE:
        return tokens, notes, []
    thin = f"{share:.0%} of the mask is too thin for the token grid and stays as it is"
    return tokens, notes, [f"{thin}; paint strokes at least one token wide"]


def _result(interaction: Interaction, output: Path | None, bundle: Bundle | None) -> dict[str, Any]:
    """Save the picture, if there is one, with its tokens if a bundle names them."""
    if interaction.pixels is None or output is None:
        return {"answer": interaction.answer}
    from edge_client.pictures.images import save_picture
    from edge_client.pictures.sources import save_result

    tokens = interaction.response.image
    if bundle is None or tokens is None:
        save_picture(output, interaction.pixels)
        return {"output": str(output)}
    written = save_result(output, interaction.pixels, tokens, bundle)
    return {"output": str(output), "tokens": str(written[-1])}
