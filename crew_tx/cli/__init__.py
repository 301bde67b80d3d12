"""The programs: where settings are read, reactors are run and processes end."""
