"""What the Python services of the example share: serving and calling HTTP, trace context, one log line per event.
It knows nothing of what the services do."""
