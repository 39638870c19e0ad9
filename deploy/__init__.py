"""What runs and watches Giro elsewhere: nothing here is part of the service."""
