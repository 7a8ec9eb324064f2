"""`cloud-server serve` with a fake model: takes the same flags, behaves the same, needs no weights.

Environment: FAKE_STEP_S, seconds a step.
"""

import os
import sys
import types

import serving_fakes

from cloud_server import cli


def load_model(settings):
    seconds = float(os.environ.get("FAKE_STEP_S", "0"))
    return serving_fakes.fake_model(serving_fakes.SlowEngine(seconds))


if __name__ == "__main__":
    sys.modules["cloud_server.serving.load"] = types.SimpleNamespace(load_model=load_model)
    sys.exit(cli.main())
