"""Inputs that nobody here wrote: the folder that `FERRYLOG_CORPUS` names; see `corpus`."""
