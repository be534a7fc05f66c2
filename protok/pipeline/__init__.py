"""Many files: batch jobs that go on after bad inputs and kills."""
