"""Result objects: pure functions from source headers, result documents, masks and minted UIDs to DICOM data sets.

Segmentation per image (segmentation), structured report per study (report), overlay picture (overlay) and its
Secondary Capture (secondary_capture). The bytes of an object depend on the arguments alone: no clock, no random UID.
"""
