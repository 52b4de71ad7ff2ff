"""Looking after a journal: what is not as it should be, and what can be done about it.

In come a journal and, where they are named, servers and chains; out come issues, each with the
command that helps. Looking changes nothing and works while another process runs. What is safe to
recover is what nobody is at work on: `recover` lets it go on, as `ferrylog resume` would. Start
reading at `examine`.
"""
