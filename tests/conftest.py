"""One thread a process: two cores run several processes side by side in these tests, and threads beyond the
cores slow all of them to a crawl. Set before torch is imported."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
