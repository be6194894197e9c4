"""Random tests with difficult tables and statements, generated from seeds and compared between several engines.

Run `python -m hostile tables --seed 1 --count 20` or `python -m hostile statements --seed 1 --count 1000` in `tests`.
"""

import sys
from pathlib import Path

# The engine tests' modules start the servers and engines.
sys.path.insert(0, str(Path(__file__).parent.parent / "engines"))
