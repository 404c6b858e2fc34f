"""Where this engine's own code lies: in a source tree, or in the one file that it was released as."""

import re
import sys
import zipfile
from pathlib import Path

# Where `engines` can be imported from. A released engine reads its file through a descriptor that it holds open,
# so that it goes on as what it was when another version takes the file's place.
ROOT = str(Path(__file__).parents[2])
_held = re.fullmatch(r"/proc/self/fd/(\d+)", ROOT)
DESCRIPTORS = (int(_held[1]),) if _held else ()  # what a child needs, to import from ROOT

# How this Python was started, for starting it again.
INTERPRETER = (sys.executable, *sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv)])

# The released file, None in a source tree.
FILE = Path(sys.argv[0]).resolve() if not Path(ROOT).is_dir() and zipfile.is_zipfile(sys.argv[0]) else None
