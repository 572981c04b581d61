"""Experiments on real systems: which guarantee does a configuration keep?"""
