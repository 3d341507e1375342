import sys

from gpugrad.bench.main import main

sys.exit(main())
