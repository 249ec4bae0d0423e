"""`python -m zoo.cli`, which is `zoo` where the script is not on the path."""

import sys

from zoo.cli.main import main

sys.exit(main())
