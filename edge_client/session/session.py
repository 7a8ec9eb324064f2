"""A conversation with a cloud, for programs: open pictures, ask, change them, ask again.

It does not know how turns travel; see `conversation`.

    from edge_client import Session

    with Session("https://host") as session:
        cat = session.open("cat.png")
        print(cat.ask("what is on the left?"))
        owl = cat.inpaint((16, 16, 64, 80), "an owl")
        owl.outpaint("a forest", right=8).save("wide.png")
        print(session.cost)
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from PIL import Image

from edge_client.client import EdgeClient, Interaction
from edge_client.config import export_ca_file, load_settings
from edge_client.exchange.best import BestExchange
from edge_client.exchange.coded_exchange import OnPreview, Wishes
from edge_client.exchange.label_names import LabelNames
from edge_client.pictures.geometry import Fit, Geometry
from edge_client.pictures.opening import Photo
from edge_client.pictures.sources import Source, of_tokens, open_content, open_source
from edge_client.session.cost import Cost, TurnCost
from edge_client.session.keeping import Keeper
from edge_client.session.picture import Picture, Turn
from shared_protocol.bundles.bundle import Bundle
from shared_protocol.bundles.find import load_bundle
from shared_protocol.compute import Compute
from shared_protocol.errors import BundleMismatchError, InvalidInputError
from shared_protocol.messages import OnStep, Options
from shared_protocol.tokenizers.image import Pixels
from shared_protocol.tokens import MAX_GRID


class Session:
    """A conversation with a cloud. Pictures and history live here; the cloud may forget anything.

    Args:
        server: address, such as "https://host", "tcp://host:8401" or "exec:ssh host …"; None takes
            it, as all else that is None, from the environment or the user's config file.
        api_key: proves who asks.
        bundle: name or folder, or one that is loaded; both ends hold the same.
        timeout: seconds for one turn in all.
        compute: what computes on this device: "auto", "numpy", "onnx", "torch".
        on_step: called with (finished, all) while the cloud works.
        on_preview: called with (H, W) codes and flags of those that are there, while a picture is
            made; each such preview costs some 12 to 30 bytes.
        reports: most calls of either a turn, up to 15.
        history: name under which the conversation is kept on this device, in one file that only
            the user can read; one that is there already is gone on with. True = a new name, None =
            nothing is kept, names of labels that the cloud has said neither.

    Attributes:
        picture: the current one, which was opened or made last; None at first.

    Raises:
        ConfigError: a setting that cannot be used.
    """

    def __init__(  # noqa: PLR0913 - settings of one user, all but the first by name
        self,
        server: str | None = None,
        *,
        api_key: str | None = None,
        bundle: str | Bundle | None = None,
        timeout: float | None = None,
        compute: str | None = None,
        on_step: OnStep | None = None,
        on_preview: OnPreview | None = None,
        reports: int = 4,
        history: str | bool | None = None,
    ) -> None:
        flags = {
            "server": server,
            "api_key": api_key,
            "bundle": bundle if bundle is None or isinstance(bundle, str) else bundle.name,
            "timeout": timeout,
            "compute": compute,
        }
        settings = load_settings(flags, os.environ)
        export_ca_file(settings)
        if bundle is None or isinstance(bundle, str):
            bundle = load_bundle(settings.bundle, Compute.named(settings.compute))
        self.bundle: Bundle = bundle
        wants = on_step is not None or on_preview is not None
        wishes = Wishes(on_step, reports if wants else 0, on_preview)
        self._keeper = Keeper.of(history)
        before = None if self._keeper is None else self._keeper.before
        if before is not None and before.fingerprint != self.bundle.fingerprint:
            raise BundleMismatchError(
                f"the conversation {before.name} was held with bundle "
                f"{before.fingerprint.hex()[:16]}, this is {self.bundle.fingerprint.hex()[:16]}",
                "name its bundle with --bundle",
            )
        self.server = settings.server
        self._exchange = BestExchange(
            self.bundle,
            settings.server,
            settings.api_key,
            settings.timeout,
            wishes,
            None if before is None else before.session,
            0 if before is None else before.next_turn,
            () if self._keeper is None else self._keeper.recent,
        )
        names = LabelNames() if self._keeper is None else LabelNames.of(settings.server)
        self.client = EdgeClient(self.bundle, self._exchange, names=names)
        self._turns: list[Turn] = []
        self._shown: list[Picture] = []
        if self._keeper is not None and before is not None:
            self._turns, self._shown = self._keeper.restore(self, before)

    @classmethod
    @contextmanager
    def spawn(cls, bundle: str = "builtin", **options: Any) -> Iterator[Session]:
        """A session with a server of its own on this machine, stopped at the end.

        Args:
            bundle: which to serve.
            **options: see the class.
        """
        from edge_client.spawn import spawned_server

        with (
            tempfile.TemporaryDirectory() as folder,
            spawned_server(Path(folder) / "server.log", bundle) as server,
            cls(server.url, bundle=bundle, **options) as session,
        ):
            yield session

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self, picture: str | Path | bytes | Pixels, fit: str = "crop") -> Picture:
        """A picture of the user's: a file (also .umic), or (height, width, 3) uint8 pixels.

        Args:
            picture: a file, its content, or pixels of any size.
            fit: how another shape becomes the model's square: "crop", "pad" or "stretch"; what
                falls away is told in the picture's `warnings`.

        Raises:
            ImageError: not a readable picture.
        """
        if isinstance(picture, np.ndarray):
            source = self._of_pixels(picture)
        elif isinstance(picture, bytes):
            source = open_content(picture, "the picture", self.bundle)
        else:
            source = open_source(Path(picture), self.bundle)
        return self.take(source, fit)

    def take(self, source: Source, fit: str = "crop") -> Picture:
        """A picture that was opened elsewhere, as `open`; tokens that it has are kept."""
        geometry = source.geometry or Geometry(source.size, source.target, Fit(fit))
        if Fit(fit) is not Fit.CROP and source.base is not None:
            geometry = Geometry(source.size, source.target, Fit(fit))
        seen = source.seen(geometry if source.base is not None else None)
        tokens = seen.tokens or self.bundle.image_tokenizer().tokenize(seen.pixels)
        source = replace(source, tokens=tokens, geometry=seen.geometry)
        told = tuple(seen.lost(self.bundle.stride))
        return self._show(Picture(self, tokens, source, source.name, told))

    def _of_pixels(self, pixels: Pixels) -> Source:
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
            raise InvalidInputError(
                f"the pixels are {pixels.dtype} of shape {pixels.shape}",
                "give uint8 of shape (height, width, 3)",
            )
        image = Image.fromarray(pixels)
        source = Source("pixels", self.bundle, Photo("pixels", image, image.size))
        stride = self.bundle.stride
        whole = all(side % stride == 0 and side <= MAX_GRID * stride for side in image.size)
        least = min(self.bundle.grid) * stride
        if whole and min(image.size) >= least:
            return replace(source, geometry=Geometry(image.size, image.size))
        return source

    def new(
        self,
        prompt: str,
        *,
        negative: str = "",
        seed: int = 0,
        steps: int | None = None,
        guidance: float | None = None,
        mend: int | None = None,
    ) -> Picture:
        """A picture from a prompt, that shows nothing `negative`, mended at most `mend` times."""
        options = Options(steps=steps, guidance=guidance, seed=seed, mend=mend)
        done = self.client.t2i(prompt, options, negative)
        assert done.response.image is not None, "the task makes a picture"
        made = of_tokens(done.response.image, self.bundle, prompt)
        return self.made(done, prompt, None, made)

    @property
    def picture(self) -> Picture | None:
        """The current picture."""
        return self._shown[-1] if self._shown else None

    def back(self) -> Picture:
        """Go back to the picture before the current one, and return it.

        Raises:
            InvalidInputError: there is none.
        """
        if len(self._shown) < 2:
            raise InvalidInputError("there is no picture before this one", "open or make one")
        self._shown.pop()
        return self._shown[-1]

    @property
    def history(self) -> tuple[Turn, ...]:
        """All turns that were answered, in order."""
        return tuple(self._turns)

    @property
    def cost(self) -> Cost:
        """What the turns cost."""
        return Cost(tuple(turn.cost for turn in self._turns), self._exchange.way)

    @property
    def way(self) -> str:
        """What carries the turns: "WebSocket", "TCP", "TLS", "pipe" or "HTTP"."""
        return self._exchange.way

    @property
    def name(self) -> str | None:
        """Under which the conversation is kept; None for one that is not."""
        return None if self._keeper is None else self._keeper.name

    @property
    def exchange(self) -> BestExchange:
        """What carries the turns."""
        return self._exchange

    def listen(
        self,
        on_step: OnStep | None = None,
        on_preview: OnPreview | None = None,
        reports: int = 4,
    ) -> None:
        """Hear something else from the next turn on; see the class.

        Where reports or previews were not wanted before, or no longer are, the link opens anew; the
        cloud keeps the pictures.
        """
        wants = on_step is not None or on_preview is not None
        self._exchange.listen(Wishes(on_step, reports if wants else 0, on_preview))

    def forget(self) -> None:
        """Let go of pictures and history on this device; the cloud keeps what it has."""
        self._turns.clear()
        self._shown.clear()

    def cancel(self) -> None:
        """End the turn that another thread waits for; `WorkCancelledError` is raised there."""
        self._exchange.cancel()

    def close(self) -> None:
        """Let go of the link; a later turn opens another."""
        self._exchange.close()

    # For pictures --------------------------------------------------------------------------------

    def made(
        self,
        done: Interaction,
        prompt: str,
        source: Picture | None,
        made: Source,
        told: Sequence[str] = (),
    ) -> Picture:
        """Take in a picture that the cloud made; `told` are warnings about its input."""
        assert done.response.image is not None, "the task makes a picture"
        cost, warnings = TurnCost.of(done), (*told, *done.warnings)
        picture = Picture(self, done.response.image, made, prompt, warnings, cost)
        if done.pixels is not None:
            picture.__dict__["pixels"] = done.pixels  # decoded once already
        self.note(Turn(done.task.slug, prompt, source, picture, cost))
        return self._show(picture)

    def note(self, turn: Turn) -> None:
        """Add a turn to the history, on disk as well if it is kept there."""
        self._turns.append(turn)
        if self._keeper is not None:
            self._keeper.keep(self)

    def _show(self, picture: Picture) -> Picture:
        self._shown.append(picture)
        return picture
