"""Settings that have to be made before torch, numpy or matplotlib are imported by a test."""

import os

# one core per worker: threads of several workers on the same cores only wait for each other
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
