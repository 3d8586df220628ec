"""``python -m raytrainer``: the command line."""

import sys

from raytrainer.cli import main

sys.exit(main())
