"""Arguments of the commands that make, change or read pictures.

It does not know what the commands do; importing it is cheap, so that help answers at once.
"""

from __future__ import annotations

import argparse
import secrets
from pathlib import Path

from shared_protocol.errors import ConfigError
from shared_protocol.labels import MAX_TOP, USUAL_TOP

SHAPES = ("box", "ellipse", "polygon")
_PROMPT = "'-' reads it from standard input"


def add_t2i(parser: argparse.ArgumentParser) -> None:
    """Arguments of `t2i`."""
    parser.add_argument("prompt", help=f"what the picture shows; {_PROMPT}")
    _add_generation(parser, "t2i.png")


def add_inpaint(parser: argparse.ArgumentParser) -> None:
    """Arguments of `inpaint`."""
    _add_image(parser)
    parser.add_argument(
        "prompt",
        nargs="?",
        default="",
        help="what the new part, or the whole picture, shows; none = remove what is there; "
        + _PROMPT,
    )
    where = parser.add_argument_group(
        "what is repainted", "at least one of these; several are joined"
    )
    where.add_argument(
        "--mask",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="picture of the photo's shape: if any of it is transparent, what is opaque is "
        "repainted, else what is bright (128 of 255 and more); a folder holds one for each photo",
    )
    for kind, usage in zip(SHAPES, ("X,Y,W,H", "X,Y,W,H", "X,Y X,Y X,Y…"), strict=True):
        where.add_argument(
            f"--{kind}",
            action="append",
            default=[],
            metavar=usage.replace(" ", "_") if kind == "polygon" else usage,
            help=f"repaint this {kind} of the photo, in its pixels",
        )
    where.add_argument("--invert-mask", action="store_true", help="repaint all but that")
    where.add_argument(
        "--mask-threshold",
        type=int,
        default=128,
        metavar="N",
        help="brightness or opacity from which a pixel of a mask file is repainted, 1 to 255 [128]",
    )
    where.add_argument(
        "--mask-drawn-on",
        choices=("auto", "upright", "stored"),
        default="auto",
        help="for photos with an EXIF orientation: was the mask drawn on the photo as it is shown, "
        "or on its stored pixels? [by the mask's size, upright if that does not tell]",
    )
    parser.add_argument(
        "--around",
        action="store_true",
        help="look only at the masked part and what is near it: more detail where it counts",
    )
    parser.add_argument(
        "--margin",
        type=float,
        metavar="SHARE",
        help="what --around shows on each side, as a share of the masked part's size [0.5]",
    )
    _add_edit(parser)
    _add_generation(parser, "IMAGE-inpaint.png")


def add_outpaint(parser: argparse.ArgumentParser) -> None:
    """Arguments of `outpaint`."""
    _add_image(parser)
    parser.add_argument(
        "prompt", nargs="?", default="", help=f"what the extended picture shows; {_PROMPT}"
    )
    where = parser.add_argument_group("by how much it grows", "sides, or a shape")
    for side in ("left", "right", "up", "down"):
        what = "columns" if side in ("left", "right") else "rows"
        where.add_argument(
            f"--{side}",
            default="0",
            metavar="N",
            help=f"token {what} to add (16 to the shorter side of the photo), or 25%% of the "
            "photo, or 64px of it, rounded up to whole tokens",
        )
    where.add_argument("--to", metavar="W:H", help="grow to this shape, such as 16:9")
    _add_edit(parser)
    _add_generation(parser, "IMAGE-outpaint.png")


def add_vqa(parser: argparse.ArgumentParser) -> None:
    """Arguments of `vqa`."""
    _add_image(parser)
    parser.add_argument(
        "questions", nargs="+", metavar="QUESTION", help="each is a turn of one conversation"
    )
    parser.add_argument("--max-new-tokens", type=int, metavar="N", help="longest answer")
    parser.add_argument(
        "--out-dir",
        type=Path,
        metavar="FOLDER",
        help="keep the answers as JSON, one file a picture",
    )
    _add_looking(parser)


def add_classify(parser: argparse.ArgumentParser) -> None:
    """Arguments of `classify`."""
    _add_image(parser)
    parser.add_argument(
        "--top",
        type=int,
        default=USUAL_TOP,
        metavar="K",
        help=f"so many labels, the likeliest, 1 to {MAX_TOP} [{USUAL_TOP}]",
    )
    _add_looking(parser)


def add_files(
    encode: argparse.ArgumentParser,
    decode: argparse.ArgumentParser,
    inspect: argparse.ArgumentParser,
) -> None:
    """Arguments of `encode`, `decode` and `inspect`."""
    encode.add_argument("image", type=Path, help="a picture's file; '-' is standard input")
    encode.add_argument(
        "--durable",
        action="store_true",
        help="13 bits a token: larger, but readable as long as the tokenizer exists, whatever "
        "becomes of the entropy models [smallest: coded by this bundle's entropy model]",
    )
    encode.add_argument(
        "--describe",
        action="store_true",
        help="add the photo's digest and how it was cropped, some 150 bytes: edits of the file "
        "then come back in the size of the photo beside it",
    )
    _add_fit(encode, "crop: centre of the shorter side")
    _add_output(encode, "IMAGE.umic")
    decode.add_argument("file", type=Path)
    _add_output(decode, "FILE.png")
    _add_tokens(decode, "do not keep the tokens in the PNG")
    inspect.add_argument("file", type=Path)


def add_again(parser: argparse.ArgumentParser) -> None:
    """Arguments of `again`."""
    parser.add_argument("file", type=Path, help="a result: PNG with metadata, or its .umic file")
    parser.add_argument(
        "--image", type=Path, metavar="FILE", help="the picture that it was made from, if it moved"
    )
    parser.add_argument("--mask", type=Path, metavar="FILE", help="its mask, if it moved")
    _add_output(parser, "kept only if it differs, as FILE-again.png")


def add_sampling(parser: argparse.ArgumentParser) -> None:
    """Arguments of everything that makes pictures."""
    parser.add_argument(
        "--seed",
        type=seed,
        default=0,
        help="number; 'random' or -1 picks one, and it is told; equal seeds, equal results [0]",
    )
    parser.add_argument("--steps", type=int, metavar="N", help="decoding steps [the bundle's]")
    parser.add_argument(
        "--guidance", type=float, metavar="G", help="weight of the prompt [the bundle's]"
    )
    parser.add_argument(
        "--negative", default="", metavar="TEXT", help="what pictures are not to show"
    )
    parser.add_argument(
        "--mend",
        type=int,
        metavar="N",
        help="how often the server mends a picture that does not show what was asked, at most; "
        "0 = never [the server's choice]",
    )


class PickedSeed(int):
    """A seed that nobody named, and that has to be told therefore."""


def seed(text: str) -> int:
    """A seed as it is typed."""
    if text in ("random", "-1"):
        return PickedSeed(secrets.randbelow(2**32))
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor 'random'") from None


def positive(text: str) -> int:
    """A number of things as it is typed."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return value


def joined_negatives(words: list[str]) -> list[str]:
    """`--box -10,0,64,64` as `--box=-10,0,64,64`, which argparse takes for a value."""
    flags = {f"--{kind}" for kind in SHAPES}
    told: list[str] = []
    for word in words:
        if told and told[-1] in flags and word[:1] == "-" and word[1:2].isdigit():
            told[-1] = f"{told[-1]}={word}"
        else:
            told.append(word)
    return told


def check(given: argparse.Namespace) -> None:
    """Raise `ConfigError` for arguments that do not go together."""
    if given.command == "inpaint" and not any(
        [given.mask, given.box, given.ellipse, given.polygon]
    ):
        raise ConfigError(
            "nothing says what is to be repainted",
            "add --mask FILE, --box X,Y,W,H, --ellipse X,Y,W,H or --polygon 'X,Y X,Y X,Y'",
        )
    _check_range(given, "mask_threshold", 1, 255)
    margin = getattr(given, "margin", None)
    if margin is not None and not 0 <= margin <= 100:
        raise ConfigError(f"--margin is {margin:g}", "use 0 to 100; 0.5 shows half of its size")
    edge = getattr(given, "edge", None)
    if edge is not None and not 0 <= edge <= 100_000:
        raise ConfigError(f"--edge is {edge:g}", "use pixels of the photo, 0 for a hard edge")
    _check_range(given, "top", 1, MAX_TOP)
    sides = [getattr(given, side, "0") for side in ("left", "right", "up", "down")]
    if getattr(given, "to", None) and any(side != "0" for side in sides):
        raise ConfigError("--to and sides do not go together", "leave one of them out")
    if not 1 <= getattr(given, "count", 1) <= 1000:
        raise ConfigError(f"-n is {given.count}", "use 1 to 1000")
    if str(getattr(given, "output", "")) == "-" and given.json:
        raise ConfigError("-o - and --json both write to standard output", "leave one of them out")


def _check_range(given: argparse.Namespace, name: str, low: int, high: int) -> None:
    if not low <= getattr(given, name, low) <= high:
        flag = name.replace("_", "-")
        raise ConfigError(f"--{flag} is {getattr(given, name)}", f"use {low} to {high}")


def _add_image(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "image",
        type=Path,
        help="a picture or .umic file; a folder or a quoted pattern such as 'in/*.jpg' takes all "
        "of them; '-' is standard input",
    )


def _add_looking(parser: argparse.ArgumentParser) -> None:
    """Arguments of what looks at a picture and makes none."""
    parser.add_argument("--seed", type=seed, default=0, help="number or 'random' [0]")
    parser.add_argument(
        "--window",
        metavar="PLACE",
        help="part of a long picture that is looked at: left, middle, right, top, bottom, 0%% to "
        "100%%, or 'all' for one after another [middle]",
    )
    _add_fit(parser, "crop: centre of the shorter side")
    _add_photo(parser)
    _add_budget(parser)


def _add_edit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--edge",
        type=float,
        metavar="PIXELS",
        help="width of the soft edge between new and old, in pixels of the photo [half a token]",
    )
    parser.add_argument(
        "--native",
        action="store_true",
        help="give the model's own picture (256x256) instead of the photo with the new part",
    )
    _add_fit(parser, "as suits the task: what lies outside of the model's part stays as it is")
    _add_photo(parser)
    _add_budget(parser)


def _add_photo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--photo",
        type=Path,
        metavar="FILE",
        help="for a .umic file: the picture that it was made of [the one beside it]",
    )


def _add_output(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help=f"[{default} here, numbered if that exists]; '-' is standard output",
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="overwrite also what is read, and what another program made meanwhile",
    )


def _add_tokens(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("--no-tokens", action="store_true", help=text)


def _add_generation(parser: argparse.ArgumentParser, default: str) -> None:
    add_sampling(parser)
    _add_output(parser, default)
    parser.add_argument(
        "-n",
        type=int,
        default=1,
        dest="count",
        metavar="N",
        help="so many pictures, of seeds in a row, and a sheet of all of them",
    )
    parser.add_argument(
        "--out-dir",
        type=Path,
        metavar="FOLDER",
        help="for results of folders and patterns; what is there already is left out, so that an "
        "interrupted run goes on",
    )
    parser.add_argument(
        "--size", metavar="WxH", help="resample the result; one number is the longer side"
    )
    parser.add_argument("--format", choices=("png", "jpg", "webp"), help="[by the name, png]")
    _add_tokens(
        parser, "do not keep the tokens: neither in the PNG nor in a .umic file beside the picture"
    )
    parser.add_argument(
        "--no-metadata",
        action="store_true",
        help="write neither prompt, seed nor command into the result",
    )


def _add_fit(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--fit",
        choices=("crop", "pad", "stretch"),
        help=f"how another shape becomes the model's square [{default}]",
    )


def _add_budget(parser: argparse.ArgumentParser) -> None:
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument(
        "--keep-ratio",
        type=float,
        metavar="R",
        help="send this share of the image tokens; the cloud fills in the others [1]",
    )
    budget.add_argument(
        "--target-bytes", type=int, metavar="N", help="send at most N bytes, the same way"
    )
    parser.add_argument(
        "--drop-order",
        choices=("even", "cheapest", "costliest", "random"),
        default="even",
        help="what is left out first: every second token and so on, or by the bits it takes [even]",
    )
