"""What a user's own trial suite imports: real client, worker and codec, but no socket, thread or sleep."""
