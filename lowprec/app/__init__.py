"""The runnable main job: ``lowprec train`` and the commands beside it."""
