"""The manual page: made of the command line itself, so that it cannot say anything else."""
