"""Which requested procedures a report answers: Referenced Request Sequence (PS3.3 C.17.2) from the images' headers."""

import copy
from collections.abc import Sequence

from pydicom.dataset import Dataset

from workers.results.header import request_attributes

#: Type 2 attributes of an item, the study aside.
_TYPE_2 = (
    "AccessionNumber",
    "PlacerOrderNumberImagingServiceRequest",
    "FillerOrderNumberImagingServiceRequest",
    "RequestedProcedureID",
    "RequestedProcedureDescription",
)
_SEQUENCES = ("ReferencedStudySequence", "RequestedProcedureCodeSequence")


def referenced_requests(headers: Sequence[Dataset]) -> list[Dataset]:
    """One item per different request among normalised `headers`; none where no image names a request or an order."""
    requests: list[Dataset] = []
    for header in headers:
        attributes = request_attributes(header)
        if not attributes and header.AccessionNumber:
            attributes = [Dataset()]
        for item in attributes:
            request = _request(header, item)
            if request not in requests:
                requests.append(request)
    return requests


def _request(header: Dataset, attributes: Dataset) -> Dataset:
    request = Dataset()
    request.StudyInstanceUID = header.StudyInstanceUID
    for keyword in _TYPE_2:
        element = attributes[keyword] if keyword in attributes else header.get_item(keyword)
        if element is not None and (keyword in attributes or keyword == "AccessionNumber"):
            request[keyword] = copy.deepcopy(element)
        else:
            setattr(request, keyword, "")
    for keyword in _SEQUENCES:
        setattr(request, keyword, copy.deepcopy(attributes.get(keyword) or []))
    return request
