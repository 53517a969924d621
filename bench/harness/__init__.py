"""What `bench/run.py` is made of: scenarios, servers, the load, results."""
