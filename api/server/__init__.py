"""The server side of HTTP: connections, their bounds, and the layers around every request."""
