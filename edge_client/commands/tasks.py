"""`t2i`, `inpaint`, `outpaint` and `vqa`: what a task's command asks of the cloud for one picture.

It does not print or save, and leaves the interaction itself to `client`. Imports are local, so that
a wrong argument is told before anything heavy is loaded.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from edge_client.config import Settings
from edge_client.terminal.output import can_redraw
from shared_protocol.compute import Compute
from shared_protocol.messages import OnStep

if TYPE_CHECKING:
    from edge_client.client import EdgeClient, Interaction
    from edge_client.exchange.best import BestExchange
    from edge_client.pictures.edits import Look
    from edge_client.pictures.images import Picture
    from edge_client.pictures.mask_files import Mask
    from edge_client.pictures.sources import Source
    from edge_client.rate_control import Budget
    from shared_protocol.bundles.bundle import Bundle
    from shared_protocol.messages import Options

_ALL_REPORTS, _FEW_REPORTS = 15, 4
"""Progress reports a turn where a terminal watches, and where none does."""


class Cloud(NamedTuple):
    """A client, the bundle that it holds, and its way to the cloud."""

    client: EdgeClient
    bundle: Bundle
    exchange: BestExchange


@dataclass(frozen=True)
class Item:
    """One piece of work of a command.

    Args:
        seed: of this one.
        image: picture that it starts from; None = none.
        masks: mask files.
    """

    seed: int
    image: Path | None = None
    masks: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Done:
    """An interaction, the picture that it made, notes on its input, and warnings."""

    interaction: Interaction
    made: Source | None
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@contextmanager
def cloud(given: Namespace, settings: Settings, on_step: OnStep | None) -> Iterator[Cloud]:
    """The cloud that the settings name, let go at the end."""
    from edge_client.client import EdgeClient
    from edge_client.exchange.best import BestExchange
    from edge_client.exchange.coded_exchange import Wishes
    from edge_client.exchange.label_names import LabelNames
    from shared_protocol.bundles.find import load_bundle

    bundle = load_bundle(settings.bundle, Compute.named(settings.compute))
    reports = _ALL_REPORTS if can_redraw() else _FEW_REPORTS
    wishes = Wishes(on_step, reports if on_step else 0)
    exchange = BestExchange(bundle, settings.server, settings.api_key, settings.timeout, wishes)
    try:
        client = EdgeClient(bundle, exchange, names=LabelNames.of(settings.server))
        yield Cloud(client, bundle, exchange)
    finally:
        exchange.close()


def ask(given: Namespace, item: Item, ends: Cloud) -> Done:
    """Have a picture made, as the command says."""
    return _TASKS[given.command](given, item, ends)


def _t2i(given: Namespace, item: Item, ends: Cloud) -> Done:
    done = ends.client.t2i(given.prompt, _options(given, item), given.negative)
    from edge_client.pictures.sources import of_tokens  # Pillow, once the prompt is on its way

    assert done.response.image is not None, "the task makes a picture"
    return Done(done, of_tokens(done.response.image, ends.bundle, "t2i"))


def _inpaint(given: Namespace, item: Item, ends: Cloud) -> Done:
    from edge_client.pictures.edits import for_inpainting
    from edge_client.pictures.pasting import inpainted

    source = _source(given, item, ends.bundle)
    mask = _mask(given, item, source)
    seen = for_inpainting(source, mask, _look(given))
    picture, budget = seen.picture, _budget(given)
    options = _options(given, item)
    done = ends.client.inpaint(
        picture.content, seen.tokens, given.prompt, options, budget, given.negative
    )
    assert done.pixels is not None, "the task makes a picture"
    assert done.response.image is not None, "the task makes a picture"
    warnings = list(seen.warnings)
    if given.native:
        warnings += picture.lost(ends.bundle.stride)
        step = None
    else:
        warnings += picture.told(ends.bundle.stride)
        step = inpainted(done.pixels, picture, mask, seen.tokens, given.edge)
    made = source.edited(step, done.response.image, picture.geometry)
    told = f"mask: {seen.tokens.count} of {seen.tokens.flags.size} tokens are repainted"
    notes = [picture.description, told, *_beyond(picture, ends.bundle.stride, given.native)]
    return Done(done, made, [*notes, *_dropped(done, ends.bundle)], warnings)


def _outpaint(given: Namespace, item: Item, ends: Cloud) -> Done:
    from edge_client.pictures.edits import Wish, for_outpainting, parse_ratio
    from edge_client.pictures.geometry import Fit
    from edge_client.pictures.pasting import outpainted

    sides = {side: getattr(given, side) for side in ("left", "right", "up", "down")}
    wish = Wish(sides, None if given.to is None else parse_ratio(given.to))
    grown = for_outpainting(_source(given, item, ends.bundle), wish, _look(given))
    picture, options, budget = grown.picture, _options(given, item), _budget(given)
    done = ends.client.outpaint(
        picture.content, grown.extension, given.prompt, options, budget, given.negative
    )
    assert done.pixels is not None, "the task makes a picture"
    assert done.response.image is not None, "the task makes a picture"
    step, geometry = outpainted(
        done.pixels, picture, grown.extension, ends.bundle.stride, given.edge
    )
    kept = None if given.native or picture.geometry.fit is Fit.PAD else step
    made = grown.source.edited(kept, done.response.image, geometry)
    notes = [picture.description, *grown.notes, *_dropped(done, ends.bundle)]
    return Done(done, made, notes, grown.warnings)


_TASKS: dict[str, Callable[[Namespace, Item, Cloud], Done]] = {
    "t2i": _t2i,
    "inpaint": _inpaint,
    "outpaint": _outpaint,
}


def answers(given: Namespace, item: Item, ends: Cloud) -> Iterator[tuple[str, Done]]:
    """(question, what came of it) for each question and window, one turn each."""
    from edge_client.pictures.edits import for_question

    source = _source(given, item, ends.bundle)
    for name, look in _looks(given, source):
        picture, warnings = for_question(source, look)
        warnings = warnings if not name else picture.told(ends.bundle.stride)
        budget = _budget(given)
        for question in given.questions:
            from shared_protocol.messages import Options

            options = Options(seed=item.seed, max_new_tokens=given.max_new_tokens)
            done = ends.client.vqa(picture.content, question, options, budget)
            notes = [picture.description, *_dropped(done, ends.bundle)]
            yield f"{name}{question}", Done(done, None, notes, warnings)
            budget = None  # the tokens are there now, but for those that were left out


def classified(given: Namespace, item: Item, ends: Cloud) -> Iterator[tuple[str, Done]]:
    """(name of a window, its labels) for each window, one turn each."""
    from edge_client.pictures.edits import for_question

    source = _source(given, item, ends.bundle)
    for name, look in _looks(given, source):
        picture, warnings = for_question(source, look)
        warnings = warnings if not name else picture.told(ends.bundle.stride)
        done = ends.client.classify(picture.content, given.top, _budget(given), item.seed)
        yield name, Done(done, None, [picture.description, *_dropped(done, ends.bundle)], warnings)


def _looks(given: Namespace, source: Source) -> list[tuple[str, Look]]:
    """What each window is called, and where it lies; mostly one without a name."""
    from dataclasses import replace

    from edge_client.pictures.edits import Look, parse_place
    from edge_client.pictures.geometry import Fit

    look = Look(None if given.fit is None else Fit(given.fit))
    if given.window is None:
        return [("", look)]
    if given.window != "all":
        return [("", replace(look, at=parse_place(given.window)))]
    width, height = source.size
    count = -(-max(width, height) // min(width, height))
    places = [number / max(1, count - 1) for number in range(count)]
    side, longer, axis = min(width, height), max(width, height), "x" if width >= height else "y"
    starts = [round((longer - side) * at) for at in places]
    named = [f"{axis} {start} to {start + side}: " for start in starts]
    return [(name, replace(look, at=at)) for name, at in zip(named, places, strict=True)]


def _source(given: Namespace, item: Item, bundle: Bundle) -> Source:
    from edge_client.pictures.sources import open_source

    assert item.image is not None, "the task starts from a picture"
    whole = given.command not in ("vqa", "classify") and not given.native
    return open_source(item.image, bundle, whole, getattr(given, "photo", None))


def _mask(given: Namespace, item: Item, source: Source) -> Mask:
    """All that the command line says of what is to be repainted, joined."""
    from edge_client.pictures.mask_files import draw_shapes, load_mask_file, parse_shape
    from edge_client.pictures.opening import Photo
    from edge_client.task_arguments import SHAPES

    shapes = [parse_shape(kind, text) for kind in SHAPES for text in getattr(given, kind)]
    photo = source.photo
    if photo is None:
        from PIL import Image

        photo = Photo(source.name, Image.new("RGB", source.size), source.size)
    masks = [
        load_mask_file(path, photo, given.mask_drawn_on, given.mask_threshold)
        for path in item.masks
    ]
    if shapes:
        masks.append(draw_shapes(shapes, source.name, source.size))
    mask = masks[0]
    for other in masks[1:]:
        mask = mask.joined(other)
    return mask.inverted() if given.invert_mask else mask


def _look(given: Namespace) -> Look:
    from edge_client.pictures.edits import MARGIN, Look
    from edge_client.pictures.geometry import Fit

    margin = getattr(given, "margin", None)
    if margin is None and getattr(given, "around", False):
        margin = MARGIN
    return Look(None if given.fit is None else Fit(given.fit), margin)


def _beyond(picture: Picture, stride: int, native: bool) -> list[str]:
    """A note on what of the photo the model does not see, though it stays."""
    loss = picture.geometry.loss(stride)
    if native or loss.share < 0.01:
        return []
    return [
        f"{loss.share:.0%} of the photo lies outside of what the model sees, and stays as it is"
    ]


def _options(given: Namespace, item: Item) -> Options:
    from shared_protocol.messages import Options

    return Options(steps=given.steps, guidance=given.guidance, seed=item.seed, mend=given.mend)


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
