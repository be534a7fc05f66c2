"""Many files: batch jobs that survive bad inputs, kills and machines."""
