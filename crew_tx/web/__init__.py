"""What crew_tx serves over HTTP: the gateway, and what those who watch a process ask, on twisted.web."""
