"""One thread a process: two cores run several processes side by side in these tests, and threads beyond the
cores slow all of them to a crawl. Set before torch is imported."""

import os
import signal
from contextlib import nullcontext

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")

# Tests send Ctrl-C, which what a shell has begun in its background ignores, as all that it begins does.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A machine that is busy elsewhere is slow; that is no property of the code.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


def pytest_collection_modifyitems(items):
    """Skip what needs a GPU where there is none."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch  # their modules import it, too

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="no GPU here; make test-gpu runs it where there is one"))


@pytest.fixture(params=["pretended", pytest.param("real", marks=pytest.mark.gpu)])
def gpu(request):
    """A GPU: one that is none, and the real one where there is one."""
    from tests.fixtures.pretended_gpu import pretended_gpu

    with pretended_gpu() if request.param == "pretended" else nullcontext():
        yield request.param
