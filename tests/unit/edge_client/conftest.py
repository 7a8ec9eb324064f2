"""Makes the fakes of the edge importable."""

import sys
from pathlib import Path

_FAKES = str(Path(__file__).parents[2] / "fakes")
if _FAKES not in sys.path:
    sys.path.insert(0, _FAKES)
