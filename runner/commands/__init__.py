"""The command line, a verb a file. Nothing heavy is imported before a command runs."""
