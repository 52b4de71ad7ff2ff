"""The real engine and the real journal, a virtual clock, faulty hands."""
