"""What the worker tells of itself: log lines, metrics, and the endpoint that serves them."""
