"""The `zoo` command: one file a group of commands."""
