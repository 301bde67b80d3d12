"""Tests of the command line ``crew``."""
