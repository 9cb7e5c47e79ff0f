"""``python -m dpucluster``: the same as the console script."""

from dpucluster.cli.main import main

if __name__ == "__main__":
    main()
