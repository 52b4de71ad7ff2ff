"""cli: commands to calls, results to text or JSON, ends to exit codes; one file per command.

Start: main.py (the frame around every command), options.py (what they share).
"""
