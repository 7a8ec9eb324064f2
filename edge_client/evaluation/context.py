"""What every section of an evaluation is given: data, sessions with a server, records, progress.

It does not know what a section measures, nor how results are shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from edge_client.client import EdgeClient
from edge_client.evaluation.codecs.external import ExternalCodec
from edge_client.evaluation.data import Data
from edge_client.evaluation.tables.results import Cell, Plot, Section, Series, Table, Tile
from edge_client.transport.counted_http import CountedHttp
from edge_client.transport.http import HttpTransport
from shared_protocol import cases as case_files
from shared_protocol.bundles.bundle import Bundle
from shared_protocol.cases import Case
from shared_protocol.messages import Options

__all__ = ["Case", "Cell", "Context", "Plot", "Records", "Section", "Series", "Table", "Tile"]

T = TypeVar("T")


class Records(case_files.Records):
    """Results of single measurements, by id, in a file that lets an interrupted run go on.

    Each record is an object with an "id"; of two with one id the later one counts.

    Args:
        path: the file; made when the first record is added.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._found = {str(record["id"]): record for record in super().__iter__()}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(list(self._found.values()))

    def __contains__(self, key: str) -> bool:
        return key in self._found

    def __getitem__(self, key: str) -> dict[str, Any]:
        return self._found[key]

    def __len__(self) -> int:
        return len(self._found)

    def get(self, key: str) -> dict[str, Any] | None:
        """The record with this id, if there is one."""
        return self._found.get(key)

    def add(self, record: dict[str, Any]) -> None:
        """Keep a record ("id" and whatever JSON can say) in memory and on disk."""
        super().add(record)
        self._found[str(record["id"])] = record


@dataclass(frozen=True)
class CmcOptions:
    """What `cmc` varies; nothing = the paper's settings with the server's own models.

    Args:
        i2t: commands that describe a picture, by name.
        t2i: commands that make one, by name.
        captions: file of captions, used before any command.
        words: numbers of words that captions are cut to; none = as they are.
        strengths: shares of a picture that are drawn anew; none = the modes' own.
    """

    i2t: tuple[tuple[str, str], ...] = ()
    t2i: tuple[tuple[str, str], ...] = ()
    captions: Path | None = None
    words: tuple[int, ...] = ()
    strengths: tuple[float, ...] = ()


@dataclass(frozen=True)
class Context:
    """What a section's `run(context)` is given.

    Args:
        data: what is asked.
        out: folder of this run's results; a section writes into `folder(NAME)`.
        bundle: of both ends.
        server: address of a server that is ready.
        api_key: for it.
        timeout: seconds for one interaction.
        limit: most cases of a task (or pictures) that a section may use; None = all.
        seed: added to the seed of every case.
        steps: masked decoding steps; None = the bundle's.
        keep_ratios: shares of tokens for the section about rate control; none = its own.
        prompts: file of texts, one a line, for the section about text; None = those of the data.
        codecs: pixel codecs to compare with, by name; empty = all that run here.
        external: codecs that are programs of the user's.
        qp: settings that codecs are also run at, beside those that match rates.
        cmc: what the section about cross-modality compression is to vary.
        quiet: no progress bars.
    """

    data: Data
    out: Path
    bundle: Bundle
    server: str
    api_key: str | None = None
    timeout: float = 600.0
    limit: int | None = None
    seed: int = 0
    steps: int | None = None
    keep_ratios: tuple[float, ...] = ()
    prompts: Path | None = None
    codecs: tuple[str, ...] = ()
    external: tuple[ExternalCodec, ...] = ()
    qp: tuple[int | str, ...] = ()
    cmc: CmcOptions = CmcOptions()
    quiet: bool = False

    @property
    def picture_size(self) -> tuple[int, int]:
        """Height and width of the bundle's native picture, in pixels."""
        height, width = self.bundle.grid
        return height * self.bundle.stride, width * self.bundle.stride

    def cases(self, task: str) -> list[Case]:
        """The cases of a task that this run uses."""
        return self.data.of(task)[: self.limit]

    def picture(self, case: Case) -> Path:
        """The source picture of a case that has one."""
        return self.data.picture(case)

    def pictures(self) -> list[Path]:
        """The source pictures that this run uses, each once."""
        return self.data.pictures[: self.limit]

    def options(self, case: Case | None = None, **changes: Any) -> Options:
        """Options of a request: this run's steps, and its seed added to the case's."""
        own = case.seed if case is not None else 0
        values = {"steps": self.steps, "seed": (own + self.seed) % 2**32}
        return Options(**{**values, **changes})

    @contextmanager
    def connect(self, handler: CountedHttp | None = None) -> Iterator[EdgeClient]:
        """A session over HTTP with the server, for any number of interactions.

        Args:
            handler: counts the bytes on the connection, headers included.
        """
        with self.transport(handler) as transport:
            yield EdgeClient(self.bundle, transport)

    def transport(self, handler: CountedHttp | None = None) -> HttpTransport:
        """What carries messages to the server; close it after use."""
        return HttpTransport(self.server, self.api_key, self.timeout, handler=handler)

    def folder(self, section: str) -> Path:
        """The folder of a section, made if it is missing."""
        path = self.out / section
        path.mkdir(parents=True, exist_ok=True)
        return path

    def records(self, section: str, name: str = "records") -> Records:
        """The records that a section keeps under a name of its own."""
        return Records(self.folder(section) / f"{name}.jsonl")

    def track(self, items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
        """`items`, with a progress bar on stderr."""
        try:
            from tqdm import tqdm
        except ModuleNotFoundError:  # a bar is a comfort, not a need
            yield from items
            return
        yield from tqdm(items, label, total, disable=self.quiet, leave=False, dynamic_ncols=True)
