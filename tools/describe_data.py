"""`tf-mmvae describe-data` in a clone; python tools/describe_data.py --help is its manual."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from tf_mmvae.cli.main import run_tool  # noqa: E402

if __name__ == "__main__":
  run_tool(__file__)
