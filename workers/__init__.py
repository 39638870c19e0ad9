"""What runs beside the API: settlement, jobs, and the scheduler."""
