"""Every reader given files that were broken by chance; `make fuzz` runs it for longer."""
