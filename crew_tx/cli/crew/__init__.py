"""
``crew``, the command line: calls, events, and control of workers, arpc's sender grown up.

The parser says what there is; each verb is a coroutine function that is
imported only where it is used, since what is quick to start is used.
"""
