"""Foreign requests: who else uses a host, before a cell and while it runs.

- ``interface``   what every way of watching can be asked
- ``choose``      which way a server offers
"""
