"""The node seen from outside: metrics, alerts, health, logs, and which of its parts are there."""
