"""views: what people and machines see. One model, rendered twice.

Start: shapes.py (what is printed), model.py (who fills it), human.py (text), live.py (a run on a
terminal or in lines), logged.py (its log), watch.py (the same from another terminal), story.py (one
entity).
"""
