"""What is told of finished work: its record, Prometheus's numbers, OpenTelemetry's spans.

It serves nobody, and whoever serves does not wait for it.
"""
