"""Carries out a cell: phases, faults, clients, drain, freeze, save. Never judges."""
