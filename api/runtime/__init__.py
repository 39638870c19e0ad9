"""What lives as long as the API process."""
