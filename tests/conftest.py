"""One thread a process: two cores run several processes side by side in these tests, and threads beyond the
cores slow all of them to a crawl. Set before torch is imported."""

import os
import signal

from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")

# Tests send Ctrl-C, which what a shell has begun in its background ignores, as all that it begins does.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A machine that is busy elsewhere is slow; that is no property of the code.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
