"""What the worker tells about itself: log lines, metrics, and the endpoint that serves them."""
