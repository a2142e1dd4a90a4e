from __future__ import annotations
import tempfile
from pathlib import Path
from bench import posts
from bench.figures import Plan
import sys
with tempfile.TemporaryDirectory(prefix="colony-bench-") as folder:
    for f in posts.measure(Plan(Path(folder), "--quick" in sys.argv, 100_000)):
        print(f.what, "|", f.figure, "|", f.budget, "|", f.verdict)
