"""Files and URIs: places, ledger, checkpoints, the sweep lock, packaged files."""
