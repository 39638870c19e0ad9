"""Deployment and monitoring of Giro. Nothing here is part of the service."""
