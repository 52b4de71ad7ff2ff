"""`python -m ferrylog`."""

from ferrylog.cli.main import main

if __name__ == "__main__":
    main()
