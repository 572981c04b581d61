"""The `assay` command, one file a subcommand."""
