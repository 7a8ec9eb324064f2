"""Opens the encoder that a neck is to lead into, and says which of its weights travel along.

It does not know tokens or training.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from cloud_server.necks.clip_encoder import CLIP, ClipEncoder
from cloud_server.necks.clip_encoder import ENTRY as CLIP_ENTRY
from cloud_server.necks.encoders import CELLS, EFFICIENTNET, CellEncoder, Encoder, LiteEncoder
from cloud_server.necks.neck_file import ENCODER, LABEL_ROWS, check_labels
from cloud_server.training.benchmark.judge_model import SHIPPED, Judge
from shared_protocol.bundles.digests import digest_of
from shared_protocol.errors import ConfigError

LITE_ENTRY = 6
_KNOWN = (
    f"name {EFFICIENTNET}, a file that 'cloud-server train judge --seed N --out FILE' wrote, or "
    "the folder of a CLIP"
)


def choose_encoder(named: str, labels: Path | None = None, entry: int | None = None) -> Encoder:
    """The encoder that `--encoder` names.

    Args:
        named: "efficientnet-lite0", a detector's file, or a folder with a CLIP.
        labels: file of labels, one a line; None = the encoder's own.
        entry: blocks or layers that are skipped; None = the usual.

    Raises:
        ConfigError: there is no such encoder, it is the judge, or the labels do not fit.
        CheckpointError: it cannot be read.
    """
    words = read_labels(labels) if labels else ()
    if named == EFFICIENTNET:
        return LiteEncoder.installed(words, LITE_ENTRY if entry is None else entry)
    path = Path(named)
    if path.is_dir():
        return ClipEncoder.load(path, words, entry=CLIP_ENTRY if entry is None else entry)
    if not path.is_file():
        raise ConfigError(f"no encoder {named!r}", _KNOWN)
    return _detector(path, words, entry or 0)


def read_labels(path: Path) -> tuple[str, ...]:
    """The labels of a file, one a line.

    Raises:
        ConfigError: it cannot be read.
        CheckpointError: too many, too long, or one twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the labels {path}: {error}", "one label a line") from error
    labels = tuple(line.strip() for line in text.splitlines() if line.strip())
    check_labels(labels)
    return labels


def _detector(path: Path, words: tuple[str, ...], entry: int) -> CellEncoder:
    if SHIPPED.is_file() and digest_of(path) == digest_of(SHIPPED):
        raise ConfigError(
            f"{path} is the judge of generated pictures, which must not train what it examines",
            "train another: 'cloud-server train judge --seed N --out FILE'",
        )
    if words:
        raise ConfigError("this encoder brings its own labels", "leave out --labels")
    judge = Judge.load(path)
    return CellEncoder(judge.net, judge.names, entry)


def carried(encoder: Encoder) -> dict[str, Tensor]:
    """The encoder's tensors that go into a neck's file: all of a detector's, a CLIP's label rows.

    EfficientNet-Lite0 comes with its package, and a CLIP with its folder.
    """
    if encoder.name == CELLS:
        state = encoder.network().state_dict()
        return {f"{ENCODER}{name}": tensor for name, tensor in state.items()}
    if encoder.name == CLIP and encoder.labels:
        return {LABEL_ROWS: encoder.label_rows()}
    return {}
