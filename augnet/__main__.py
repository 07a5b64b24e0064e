"""`python -m augnet` is `augnet`."""

import sys

from augnet.cli import main

sys.exit(main())
