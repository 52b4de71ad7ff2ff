"""views: what people and machines see. One model, rendered twice.

Start: model.py (the reports), human.py (text), live.py (a run on a terminal or in lines).
"""
