"""DICOM over the network: the services that the node offers, TLS, receivers on one port, sending, conformance."""
