"""Tables and statements that are hard to be right about, made by seed, and read by several engines.

In `tests`, `python -m hostile tables --seed 1 --count 20` and `python -m hostile statements --seed 1 --count 1000` run
them.
"""

import sys
from pathlib import Path

# The servers and engines are those of the engine tests.
sys.path.insert(0, str(Path(__file__).parent.parent / "engines"))
