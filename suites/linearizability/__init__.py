"""Are queues linearizable, first in first out, as those see them who pull one message at a time?"""
