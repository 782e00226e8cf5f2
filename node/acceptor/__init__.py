"""The acceptor's side of a DICOM association, from the socket to the DIMSE message (PS3.7, PS3.8).

One thread per association, no polling, no copy more than needed; the services are node/network/dimse.py's.
"""
