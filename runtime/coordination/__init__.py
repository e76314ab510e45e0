"""How nodes agree: records in the control store, and nothing else."""
