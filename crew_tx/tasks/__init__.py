"""Tasks: how they are declared, held, run in threads, limited in time, and answered for."""
