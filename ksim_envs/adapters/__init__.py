"""Our envs as other libraries want them: one module for each, which needs that library and nothing else."""
