"""Room 3: a block of a cell: the requests, the warm-up, the samples, the watching; and the pairs of a duet.

- ``requests``   the requests of a series, and their answers as samples
- ``warm``       the warm-up, as long as it pays
- ``block``      one block on one host
- ``pairs``      one block on two hosts in turns
"""
