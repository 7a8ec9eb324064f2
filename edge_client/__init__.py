"""The thin client: pictures and words in, tokens over a link, pictures and words out.

It holds no backbone. `from edge_client import Session` is the way in for programs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_client.session.picture import Answer, Labels, Picture
    from edge_client.session.session import Session

__all__ = ["Answer", "Labels", "Picture", "Session"]


def __getattr__(name: str) -> Any:
    """The public names, imported when they are asked for: the command line starts faster."""
    if name in __all__:
        from edge_client.session import picture, session

        return getattr(session if name == "Session" else picture, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
