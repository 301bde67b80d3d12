"""Tasks in child processes: what runs in them, what is said to them, and which of them there are."""
