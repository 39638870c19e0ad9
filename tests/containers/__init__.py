"""The service in containers, as docker-compose.yml describes it."""
