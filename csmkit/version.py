"""The version of csmkit, for the package, its files of results and its distribution."""

__version__ = "0.1.0"
