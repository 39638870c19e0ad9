"""The actors, one file a job."""
